"""Module of a cell of `connection_cells`, as the networks of NAS-Bench-201 and TransNAS-Bench-101 use it."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn
from torch.nn import functional

from diffnag.search_spaces.shared.connection_cells import CONNECTIONS
from diffnag.search_spaces.shared.layers import FactorizedReduce, relu_conv

KERNELS = {"nor_conv_1x1": 1, "nor_conv_3x3": 3}
"""Convolution -> kernel size."""


class ConnectionCell(nn.Module):
    """A cell of four feature maps. Each map is the sum of its incoming connections, which are operations on earlier maps.

    Args:
        names: The operations by name, in the order of `CONNECTIONS`.
        c_in: Channels of the input.
        c_out: Channels of the other maps.
        stride: The side of the other maps is 1 / `stride` of the input's.

    If the shape changes, a skip connection from the input is a factorised reduction, which needs a stride of 2. Pooling from the input is
    only for cells that keep the shape.
    """

    def __init__(self, names: Sequence[str], *, c_in: int, c_out: int, stride: int = 1) -> None:
        super().__init__()
        self.names, self.c_out, self.stride = tuple(names), c_out, stride
        self.live = _live(self.names)
        self.convs = nn.ModuleDict()
        for i, (name, (source, _)) in enumerate(zip(self.names, CONNECTIONS, strict=True)):
            enters = source == 0
            channels = c_in if enters else c_out
            if name in KERNELS:
                self.convs[str(i)] = relu_conv(channels, c_out, kernel=KERNELS[name], stride=stride if enters else 1)
            elif name == "skip_connect" and enters and (stride, c_in) != (1, c_out):
                self.convs[str(i)] = FactorizedReduce(channels, c_out)

    def forward(self, x: Tensor) -> Tensor:
        """`(b, c_in, h, w)` -> `(b, c_out, h / stride, w / stride)`."""
        maps = {0: x}
        for i, (name, (source, target)) in enumerate(zip(self.names, CONNECTIONS, strict=True)):
            if i in self.live:
                came = self._along(i, name, maps[source])
                # no sum with zeros: in another memory format they would slow what follows
                maps[target] = maps[target] + came if target in maps else came
        if 3 in maps:
            return maps[3]
        b, _, h, w = x[:, :, :: self.stride, :: self.stride].shape
        return x.new_zeros(b, self.c_out, h, w)

    def _along(self, i: int, name: str, features: Tensor) -> Tensor:
        """What connection `i` makes of a map."""
        if str(i) in self.convs:
            found: Tensor = self.convs[str(i)](features)
            return found
        if name == "avg_pool_3x3":
            return functional.avg_pool2d(features, 3, stride=1, padding=1, count_include_pad=False)
        return features


def _live(names: Sequence[str]) -> frozenset[int]:
    """Indices of the connections on a path from the cell's input to its output; the others have parameters but no effect."""
    open_ = [(i, *ends) for i, (name, ends) in enumerate(zip(names, CONNECTIONS, strict=True)) if name != "none"]
    reached, reaching = {0}, {3}
    for _, source, target in sorted(open_, key=lambda edge: edge[2]):
        reached |= {target} if source in reached else set()
    for _, source, target in sorted(open_, key=lambda edge: -edge[1]):
        reaching |= {source} if target in reaching else set()
    return frozenset(i for i, source, target in open_ if source in reached and target in reaching)
