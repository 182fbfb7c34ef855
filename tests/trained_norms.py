"""Networks whose batch normalisations all differ, as those of trained networks do."""

from __future__ import annotations

import torch
from torch import nn

from diffnag.search_spaces.efficientnet_lite.network import Block, Network


def network_of(blocks: tuple[Block, ...], *, num_classes: int) -> Network:
    """The network of some blocks with random weights and statistics, in evaluation mode."""
    torch.manual_seed(0)
    network = Network(blocks, num_classes=num_classes)
    for norm in network.modules():
        if isinstance(norm, nn.BatchNorm2d):
            nn.init.normal_(norm.running_mean, std=0.1)
            nn.init.uniform_(norm.running_var, 0.5, 2.0)
            nn.init.uniform_(norm.weight, 0.5, 2.0)
            nn.init.normal_(norm.bias)
    return network.eval()
