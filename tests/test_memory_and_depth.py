"""Memory and depth of networks, by hand."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

from diffnag.arch import Arch
from diffnag.datasets.tasks import Task
from diffnag.networks.plan import Skeleton
from diffnag.objectives.structure import Depth, Memory, network_bytes
from diffnag.plugins import load_class
from diffnag.protocols import Objective
from diffnag.spaces.loading import load_space
from tests.objectives_of_cells import SPACE, TASK, CellObjectiveContract

GPT = load_space("gpt-s")


class Shortcut(nn.Module):
    """The input is held while two layers run on it."""

    def __init__(self) -> None:
        super().__init__()
        self.one, self.two = (nn.Conv2d(3, 3, 1, bias=False) for _ in range(2))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + self.two(functional.relu(self.one(x)))


@pytest.mark.parametrize("device", ["cpu", "meta"])
@pytest.mark.parametrize(
    ("build", "numbers"),
    [
        # image 3 x 8 x 8 = 192 numbers; weights; then the most that is held at once
        (lambda: nn.Conv2d(3, 8, 1, bias=False), 24 + 192 + 512),
        (lambda: nn.Sequential(nn.Conv2d(3, 8, 1, bias=False), nn.ReLU()), 24 + 192 + 2 * 512),
        (lambda: nn.Sequential(nn.Conv2d(3, 8, 1, bias=False), nn.ReLU(inplace=True)), 24 + 192 + 512),
        (lambda: nn.Sequential(nn.AvgPool2d(2), nn.AvgPool2d(2)), 192 + 48 + 12),
        (lambda: nn.Sequential(nn.Flatten(), nn.Linear(192, 5)), 960 + 5 + 192 + 5),  # flattening makes a view
        (Shortcut, 18 + 192 + 2 * 192),
    ],
)
def test_bytes_of_networks(device: str, build, numbers: int) -> None:
    with torch.device(device):
        network = build()
    if device == "meta" and not list(network.parameters()):
        pytest.skip("without parameters the image is on the CPU")
    assert network_bytes(network, image_size=8) == 4 * numbers


def test_buffers_count() -> None:
    """Normalisation of 3 channels: 4 vectors of 3 numbers, and a counter of 8 bytes."""
    with torch.device("meta"):
        alone = network_bytes(nn.Sequential(nn.BatchNorm2d(3)), image_size=8)
    assert alone == 4 * 12 + 8 + 4 * 2 * 192


def test_tokens() -> None:
    """Five tokens of 8 bytes; an embedding of 7 x 3 numbers and what it gives, with the logits of the 7 tokens."""
    with torch.device("meta"):
        network = nn.Sequential(nn.Embedding(7, 3), nn.Linear(3, 7, bias=False))
    assert network_bytes(network, tokens=5) == 5 * 8 + 4 * (21 + 21 + 5 * 3 + 5 * 7)
    assert memory(space="gpt-s", task=Task("openwebtext")).measure(GPT.random(np.random.default_rng(0)), task=TASK) > 4 * 1024 * 50254


def memory(skeleton: Skeleton | None = None, space: str = "nasbench201", task: Task = TASK) -> Memory:
    made = Memory()
    made.setup(space=load_space(space), task=task, skeleton=skeleton)
    return made


def cell(*ops: str) -> Arch:
    a, b, c, d, e, f = ops
    return SPACE.from_str(f"|{a}~0|+|{b}~0|{c}~1|+|{d}~0|{e}~1|{f}~2|")


NONE, SKIP, CONV, POINT, POOL = "none", "skip_connect", "nor_conv_3x3", "nor_conv_1x1", "avg_pool_3x3"


def test_memory_of_an_architecture_is_that_of_its_network() -> None:
    """On tensors with content it is the same, and weights that lead nowhere count."""
    arch = cell(CONV, SKIP, POINT, CONV, POOL, SKIP)
    network = SPACE.build(arch, channels=4, cells=1, num_classes=10)
    assert memory(Skeleton(4, 1)).measure(arch, task=TASK) == network_bytes(network, image_size=32)
    dead, empty = cell(CONV, SKIP, NONE, SKIP, NONE, SKIP), cell(NONE, SKIP, NONE, SKIP, NONE, SKIP)
    assert SPACE.canonical(dead) == SPACE.canonical(empty)
    weights = sum(9 * width**2 + 4 * width for width in (4, 8, 16))
    assert memory(Skeleton(4, 1)).measure(dead, task=TASK) - memory(Skeleton(4, 1)).measure(empty, task=TASK) == 4 * weights + 3 * 8


@pytest.mark.parametrize(
    ("arch", "layers"),
    [
        (cell(CONV, NONE, CONV, SKIP, NONE, CONV), 3),
        (cell(CONV, NONE, CONV, SKIP, NONE, NONE), 0),
        (cell(CONV, NONE, POOL, SKIP, POINT, CONV), 2),
        (cell(NONE, NONE, CONV, POINT, CONV, CONV), 1),
        (cell(NONE, NONE, NONE, NONE, NONE, NONE), 0),
        (cell(SKIP, POOL, CONV, NONE, NONE, SKIP), 1),
    ],
)
def test_depth_of_cells(arch: Arch, layers: int) -> None:
    objective = Depth()
    objective.setup(space=SPACE, task=TASK, skeleton=None)
    assert objective.measure(arch, task=TASK) == layers


def test_depth_of_a_whole_network() -> None:
    """Every module of TransNAS macro is a layer, and they follow each other."""
    space = load_space("transnasbench101-macro")
    objective = Depth()
    objective.setup(space=space, task=TASK, skeleton=None)
    for text, modules in (("64-1234-basic", 4), ("64-123411-basic", 6)):
        assert objective.measure(space.from_str(text), task=TASK) == modules


def test_entry_points() -> None:
    assert load_class("objective", "memory") is Memory and load_class("objective", "depth") is Depth


@pytest.mark.parametrize("cls", [Memory, Depth])
class TestContract(CellObjectiveContract):
    @pytest.fixture
    def objective(self, cls: type[Memory] | type[Depth]) -> Objective:
        made = cls()
        made.setup(space=SPACE, task=TASK, skeleton=Skeleton(4, 1))
        return made
