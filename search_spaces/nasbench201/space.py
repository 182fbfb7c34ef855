"""NAS-Bench-201 (Dong & Yang, ICLR 2020): a cell of 4 feature maps whose 6 connections each carry one of 5 operations.

In the graph, operations are nodes: input, the 6 operations in the order of the official string, output. An operation on `a -> b` has an
edge to every operation on `b -> c`. Therefore the wiring is the same in all 15,625 architectures.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from diffnag.arch import Arch
from diffnag.errors import UserError
from diffnag.protocols import Size
from diffnag.search_spaces.nasbench201.operations import OPERATIONS
from diffnag.search_spaces.shared.connection_cells import CONNECTIONS, ConnectionCells, canonical, incoming

if TYPE_CHECKING:
    from torch import nn

    from diffnag.io.tables import BenchmarkTable


class NASBench201(ConnectionCells):
    """The search space `nasbench201`: 8 nodes, 7 operators, fixed wiring."""

    name = "nasbench201"
    operators = ("input", "output", *OPERATIONS)
    resnet_like = "|nor_conv_3x3~0|+|none~0|nor_conv_3x3~1|+|skip_connect~0|none~1|skip_connect~2|"
    """Two 3x3 convolutions in parallel to a skip connection."""
    table_file = "nas_bench_201.csv.gz"
    more_tables: Mapping[str, str] = {"latency": "nas_bench_201_latency.csv.gz", "robustness": "nas_bench_201_robustness.npz"}
    datasets: Mapping[str, tuple[int, int]] = {"cifar10": (10, 32), "cifar100": (100, 32), "ImageNet16-120": (120, 16)}
    skeletons = ((8, 1), (16, 1), (16, 2), (32, 2), (32, 3), (64, 3))
    shipped: tuple[int, int] | None = (16, 1)

    # -- strings

    def to_str(self, arch: Arch) -> str:
        """The official string, such as `|nor_conv_3x3~0|+|none~0|skip_connect~1|+|...|`."""
        names = self.names(arch)
        a, b, c, d, e, f = (f"{name}~{source}" for name, (source, _) in zip(names, CONNECTIONS, strict=True))
        return f"|{a}|+|{b}|{c}|+|{d}|{e}|{f}|"

    def from_str(self, text: str) -> Arch:
        """Parse an official string; raises `UserError` for any other text."""
        parts = text.replace("+", "").split("|")
        names = [part.partition("~")[0] for part in parts if part]
        if len(names) == len(CONNECTIONS) and set(names) <= set(OPERATIONS):
            arch = self.of_operations(tuple(OPERATIONS.index(name) for name in names))
            if self.to_str(arch) == text:
                return arch
        strange = next((name for name in names if name not in OPERATIONS and f"{name}~" in text), None)
        why = f": there is no operation {strange!r}" if strange else ""
        raise UserError(
            f"{text!r} is no NAS-Bench-201 string{why}; expected |op~0|+|op~0|op~1|+|op~0|op~1|op~2| with op one of {', '.join(OPERATIONS)}"
        )

    # -- identity

    def canonical(self, arch: Arch) -> str:
        """Key of the function that the cell computes: without dead branches and skips, with sums flattened and sorted; 4,930 classes.

        `0` is the cell that computes nothing; in the network its normalisation still adds a constant.
        """
        return canonical(self.names(arch))

    def official_key(self, arch: Arch) -> str:
        """A key with the same classes as the benchmark's `isomorph_id`; 6,466 classes.

        The rule is `to_unique_str(consider_zero=True)` of the official code. There a dead branch stays a term of its sum, so that cells
        that compute the same function can have different keys.
        """
        sums = ["x"]
        for terms in incoming(self.names(arch)):
            sums.append("+".join(sorted(
                "#" if op == "none" or sums[source] == "#" else sums[source] if op == "skip_connect" else f"({sums[source]})@{op}"
                for op, source in terms
            )))
        return sums[-1]

    # -- networks and tables

    def size(
        self, arch: Arch, *, channels: int = 16, cells: int = 5, num_classes: int, image_size: int = 32, stem_stride: int = 1
    ) -> Size:
        """Parameters and multiply-adds of `build` on 3-channel images."""
        from diffnag.search_spaces.nasbench201.network import size

        side = -(-image_size // stem_stride)  # side of the stem's output
        return size(self.operations(arch), num_classes=num_classes, image_size=side, channels=channels, cells=cells)

    def build(self, arch: Arch, *, channels: int = 16, cells: int = 5, num_classes: int, stem_stride: int = 1) -> nn.Module:
        """The benchmark's network, whose stem has stride 1: images `(b, 3, h, w)` -> logits `(b, num_classes)`."""
        from diffnag.search_spaces.nasbench201.network import Network

        return Network(self.operations(arch), channels=channels, cells=cells, num_classes=num_classes, stem_stride=stem_stride)

    def supernet(self, *, num_classes: int, seed: int) -> nn.Module:
        """The supernet that is to be trained; its weights are drawn from torch's global generator, cells by `seed`."""
        from diffnag.search_spaces.nasbench201.supernet import Supernet

        return Supernet(num_classes, seed=seed)

    def start(self, network: nn.Module) -> None:
        """Give a network of `build` with 16 channels and one cell the weights of the shipped supernet, but those of its classifier."""
        from diffnag.search_spaces.nasbench201.network import Network
        from diffnag.search_spaces.nasbench201.supernet import shipped

        assert isinstance(network, Network)
        shipped().start(network)

    def build_small(self, arch: Arch, *, num_classes: int, image_size: int) -> nn.Module:
        """One cell in each stage, with 16, 32 and 64 channels, on maps of about 8 x 8 pixels, with pooled reductions.

        For its cost, this skeleton ranks architectures best of those tried (experiments/training_study.py).
        """
        from diffnag.search_spaces.nasbench201.network import Network

        stride = max(1, image_size // 8)
        return Network(self.operations(arch), channels=16, cells=1, num_classes=num_classes, stem_stride=stride, small=True)

    def read_table(self, path: Path, *, trust_pickle: bool) -> BenchmarkTable:
        """Read the official `.pth`, or a CSV with the columns of `nas_bench_201.csv.gz`; raises `UserError` for other files."""
        from diffnag.search_spaces.nasbench201.table import read

        return read(path, self, trust_pickle=trust_pickle)
