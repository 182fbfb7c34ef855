"""Build a network with seeded weights. Layers draw their weights from torch's global generator, which is left as it was."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import torch
from torch import nn

from diffnag.protocols import ShipsWeights

if TYPE_CHECKING:
    from diffnag.arch import Arch
    from diffnag.networks.plan import Skeleton
    from diffnag.protocols import SearchSpace


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Context in which torch's global generator starts from `seed`; afterwards its state is what it was before."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        yield


def seeded_build(
    skeleton: Skeleton, arch: Arch, space: SearchSpace, *,
    num_classes: int, image_size: int, seed: int, device: torch.device | str, started: bool = False,
) -> nn.Module:  # fmt: skip
    """Build the network of `arch` with the weights of `seed`, ready to be trained: on `device`, in channels-last memory.

    If it is `started`, it has the weights that the space ships instead, but for its classifier. Raises `UserError` if the space cannot build it.
    """
    with seeded(seed):
        network = skeleton.build(arch, space, num_classes=num_classes, image_size=image_size)
    if started:
        assert isinstance(space, ShipsWeights)
        space.start(network)
    return network.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
