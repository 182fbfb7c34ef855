"""Options of a training that no family decides. No torch here: the command reads these for `--help`."""

from __future__ import annotations

from dataclasses import dataclass

from diffnag.command.options import option

WIDEST, DEEPEST = 65_536, 1_024
"""The largest numbers of units, and of layers or repetitions, that a network may be asked to have: no machine holds more."""


@dataclass(frozen=True)
class Training:
    """Everything, beside the family's own `Config`, that decides the weights."""

    space: str = option("nasbench201", help="search space, a name or package.module:Class")
    split: str = option("canonical-sha256-0.5", help="which canonical classes train")
    steps: int = option(1500, most=10**9, help="optimiser steps")
    batch_size: int = option(512, most=10**6, help="architectures per step, over all processes")
    learning_rate: float = option(3e-3, most=1e30, help="peak of the schedule, for AdamW")
    crossed: float = option(
        0.0, least=0, most=1, help="share of each batch that is made of two training architectures, for spaces that can cross them"
    )
    seed: int = option(0, least=0, most=2**63 - 1, help="seed of weights and batches")
