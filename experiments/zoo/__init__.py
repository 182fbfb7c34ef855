"""How the graphs of the space `network-zoo` are made: models are traced, folded to nodes, and fitted to the operators of the space."""
