"""What can be read off the network of an architecture without running it on data: its memory, and its depth."""

from __future__ import annotations

import weakref
from functools import lru_cache
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from diffnag.objectives.cost import shape_for
from diffnag.protocols import TakesTokens
from diffnag.spaces.inputs import side_of
from diffnag.spaces.paths import having, longest_path, running

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import nn

    from diffnag.arch import Arch
    from diffnag.datasets.tasks import Task
    from diffnag.networks.plan import Skeleton
    from diffnag.protocols import SearchSpace

REMEMBERED = 30_000
"""Architectures whose memory is kept, because a search asks for the same ones again and again."""


class Memory:
    """Bytes of the weights, and of the activations at their peak, of the network on one image, or on a context of tokens.

    The peak is that of the forward pass as torch runs it, layer by layer, the input included.
    """

    name: ClassVar[str] = "memory"
    unit: ClassVar[str] = "B"
    maximise: ClassVar[bool] = False
    paid: ClassVar[bool] = False
    _bytes: Callable[[Arch], int]

    def setup(self, *, space: SearchSpace, task: Task, skeleton: Skeleton | None) -> None:
        """Take the network that `skeleton` makes of an architecture for `task`; see `NeedsNetwork`."""
        from diffnag.networks.plan import skeleton_of

        classes, side = shape_for(space, task)
        built = skeleton or skeleton_of(space)

        def build(arch: Arch) -> nn.Module:
            return built.build(arch, space, num_classes=classes, image_size=side)

        @lru_cache(maxsize=REMEMBERED)
        def count(arch: Arch) -> int:
            if isinstance(space, TakesTokens):
                return network_bytes(_without_content(lambda: build(arch)), tokens=side)
            from diffnag.networks.build import seeded

            with seeded(0):  # a small network runs ten times faster than torch infers its shapes
                return network_bytes(build(arch), image_size=side_of(arch, space, side), inputs=built.inputs)

        self._bytes = count

    def measure(self, arch: Arch, *, task: Task) -> float:
        """The number of bytes, exact."""
        return float(self._bytes(arch))


class Depth:
    """Layers on the longest path from the input to the output, by the roles of the operators."""

    name: ClassVar[str] = "depth"
    unit: ClassVar[str] = ""
    maximise: ClassVar[bool] = False
    paid: ClassVar[bool] = False
    _space: SearchSpace

    def setup(self, *, space: SearchSpace, task: Task, skeleton: Skeleton | None) -> None:
        """Take the roles of the space; raises `UserError` for a wrong declaration."""
        self._space, self._layers = space, having(space, "layer")

    def measure(self, arch: Arch, *, task: Task) -> float:
        """The number of layers, exact; 0 without a path."""
        V, E = (matrix[None].astype(np.float64) for matrix in self._space.encode(arch))
        live = running(V, E, self._space, "live")
        return float(longest_path(E, live * V[:, :, self._layers].sum(2))[0])


def network_bytes(network: nn.Module, *, image_size: int = 0, tokens: int = 0, inputs: tuple[int, int, int] | None = None) -> int:
    """Bytes of the parameters and buffers of `network`, and of its activations at their peak on one image, or on a text of so many tokens."""
    import torch

    held = [*network.parameters(), *network.buffers()]
    weights = sum(tensor.numel() * tensor.element_size() for tensor in held)
    network.eval()
    with torch.no_grad():
        on = held[0].device if held else torch.device("cpu")
        shape = inputs or (3, image_size, image_size)
        given = torch.zeros(1, tokens, dtype=torch.int64, device=on) if tokens else torch.zeros(1, *shape, device=on)
        return weights + peak_bytes(lambda: network(given), before=given.numel() * given.element_size(), known=[given, *held])


def peak_bytes(run: Callable[[], Any], *, before: int, known: list[Any]) -> int:
    """Most bytes at once, `before` included, of all tensors that are made while `run` runs; `known` ones are not counted again."""
    from torch.utils._python_dispatch import TorchDispatchMode
    from torch.utils._pytree import tree_leaves

    class Watch(TorchDispatchMode):
        """Counts the bytes of every storage from the operation that makes it until nothing refers to it."""

        now = most = before

        def __init__(self) -> None:
            super().__init__()
            self.seen = {id(tensor.untyped_storage()) for tensor in known}

        def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            made = func(*args, **(kwargs or {}))
            kept = made[:1] if "batch_norm" in str(func) else made  # the statistics that follow are those of a training
            for leaf in tree_leaves(kept):
                storage = leaf.untyped_storage() if hasattr(leaf, "untyped_storage") else None
                if storage is not None and id(storage) not in self.seen:
                    self.seen.add(id(storage))
                    self.now += storage.nbytes()
                    weakref.finalize(storage, self.forget, id(storage), storage.nbytes())
            self.most = max(self.most, self.now)
            return made

        def forget(self, key: int, size: int) -> None:
            self.seen.discard(key)
            self.now -= size

    with Watch() as watch:
        run()
    return watch.most


def _without_content(build: Callable[[], nn.Module]) -> nn.Module:
    """The network with tensors that have shapes and no content; with content where it cannot be built so."""
    import torch

    from diffnag.networks.build import seeded

    with seeded(0):
        try:
            with torch.device("meta"):
                return build()
        except Exception:  # a network may look at its weights
            return build()
