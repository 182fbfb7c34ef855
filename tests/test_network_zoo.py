"""The space `network-zoo`: shapes, masks, networks of traced graphs."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from diffnag.arch import Arch
from diffnag.errors import UserError
from diffnag.generators.loading import load_family
from diffnag.networks.build import seeded
from diffnag.protocols import CountsInputs, GuidesGrowth, HasExamples
from diffnag.search_spaces.network_zoo.growth import Growth
from diffnag.search_spaces.network_zoo.network import Network
from diffnag.search_spaces.network_zoo.operators import ABSENT, INPUT, NAMES, OPERATORS, OUTPUT, TABLE
from diffnag.search_spaces.network_zoo.shapes import HIGHEST, IMAGES, LOWEST, Shape, level_of, shape_behind, width_of
from diffnag.search_spaces.network_zoo.space import NetworkZoo
from diffnag.spaces.counting import measured_size
from diffnag.spaces.loading import load_space
from diffnag.testing import SearchSpaceContract
from tests.exporting import onnx_difference

SPACE = NetworkZoo()
BLOCK = "conv3-act@0/conv1-x4-act@1/depthwise3@2/gate@3/conv1-d4@4/add@1,5/output@6"
"""A block of MobileNet behind a stem."""
PUBLISHED = {"torchvision:resnet18": 11_689_512, "torchvision:resnet50": 25_557_032, "torchvision:resnext50_32x4d": 25_028_904}
"""Parameters by the documentation of torchvision; ResNeXt has narrower groups there, so that ours has as many only by chance."""


class TestNetworkZoo(SearchSpaceContract):
    @pytest.fixture
    def space(self):
        return SPACE


def example(name):
    return SPACE.examples()[SPACE.names().index(name)]


def test_what_the_space_offers():
    assert isinstance(SPACE, HasExamples) and isinstance(SPACE, CountsInputs) and isinstance(SPACE, GuidesGrowth)
    assert len(NAMES) == len(set(TABLE)) == 50 and set(SPACE.inputs) == set(NAMES) - {"absent"}


# -- shapes


def test_widths_are_on_a_grid():
    assert [width_of(level) for level in range(-4, 7)] == [4, 6, 8, 12, 16, 24, 32, 48, 64, 96, 128]
    assert all(level_of(width_of(level)) == level for level in range(LOWEST, HIGHEST + 1))
    assert level_of(0) == 0 and level_of(40) == 3 and level_of(39) == 2  # the border between 32 and 48 is at 39.2


@pytest.mark.parametrize(("name", "inputs", "expected"), [
    ("conv3-s2-x2-act", [(16, 1)], Shape(32, 2)),
    ("conv1-x6-act", [(24, 1)], Shape(128, 1)),  # 144 is not on the grid
    ("conv1-d6", [(128, 1)], Shape(24, 1)),
    ("patch16", [IMAGES], Shape(16, 4)),
    ("conv1-d2", [(54, 1)], Shape(24, 1)),  # 54 is closest to 48, of which the half is 24
    ("concat", [(16, 1), (40, 1)], Shape(56, 1)),
    ("add", [(16, 1), (16, 1), (16, 1)], Shape(16, 1)),
    ("second-half", [(24, 1)], Shape(12, 1)),
    ("add", [(16, 1), (24, 1)], "reads maps of different widths"),
    ("add", [(16, 1), (16, 2)], "reads maps of different sides"),
    ("concat", [(16, 1), (16, 2)], "reads maps of different sides"),
    ("concat", [(2048, 5), (16, 5)], "concatenates too many channels"),
    ("gate", [IMAGES], "reads the images, which only a convolution does"),
    ("first-half", [(3, 1)], "halves channels that are too few"),
    ("attention", [(16, 1)], "attends to a map that is too large"),
    ("patch16", [(16, 3)], "makes the map too small"),
    ("conv1-x2", [(2048, 3)], "gives too few or too many channels"),
    ("conv1-d2", [(3, 3)], "gives too few or too many channels"),
])  # fmt: skip
def test_shapes(name, inputs, expected):
    assert shape_behind(OPERATORS[name], [Shape(*shape) for shape in inputs]) == expected


# -- strings and matrices


def test_what_is_wrong_with_a_graph_is_reported():
    good = SPACE.from_str(BLOCK)
    V, E = SPACE.encode(good)
    last = len(good.ops) - 1

    def reason(*, ops=(), edges=()):
        other_V, other_E = V.copy(), E.copy()
        for node, name in ops:
            other_V[node] = np.eye(len(NAMES))[NAMES.index(name)]
        for i, j in edges:
            other_E[i, j] = 1 - other_E[i, j]
        arch, why = SPACE.decode(other_V, other_E)
        assert arch is None
        return why

    assert reason(ops=[(3, "absent")]) == "node 3 is absent, and one behind it is not"
    assert reason(ops=[(2, "input")]) == "node 2 is input; exactly the first must be input and exactly the last output"
    assert reason(ops=[(last, "gate")]) == f"node {last} is gate; exactly the first must be input and exactly the last output"
    assert reason(edges=[(1, last + 1)]) == f"an edge leads to node {last + 1}, which is absent"
    assert reason(edges=[(3, 2)]) == "an edge leads backwards: E is not upper triangular"
    assert reason(edges=[(2, 3)]) == "nothing reads node 2"
    assert reason(edges=[(1, 6)]) == "node 6 reads 1 nodes, not 2 to 8"
    assert reason(edges=[(1, 3)]) == "node 3 reads 2 nodes, not 1"
    assert reason(ops=[(5, "conv1")]) == "node 6 reads maps of different widths"
    assert reason(ops=[(3, "depthwise3-s2")]) == "node 6 reads maps of different sides"
    assert reason(edges=[(4, 5), (0, 5), (4, 6)]) == "node 5 reads the images, which only node 1 does"
    assert reason(ops=[(1, "gate")]) == "node 1 reads the images, which only a convolution does"


@pytest.mark.parametrize(("text", "why"), [
    ("conv3@0/conv3-act@1", "node 2 is conv3-act; exactly the first"),
    ("conv3-act@0/output", "it does not have this form"),
    ("conv5@0/output@1", "there is no operator 'conv5'"),
    ("conv3@1/output@1", "node 1 reads node 1, which does not come before it"),
    ("conv3@0/conv3@1/add@2,2/output@3", "node 3 reads a node twice"),
    ("/".join([*(f"conv3@{node}" for node in range(159)), "output@159"]), "it has 161 nodes, not 3 to 160"),
])  # fmt: skip
def test_wrong_strings_are_refused(text, why):
    with pytest.raises(UserError, match="is no network-zoo string") as refused:
        SPACE.from_str(text)
    assert why in str(refused.value)


def test_wrong_choices_are_refused():
    chosen = SPACE.to_parameters(SPACE.from_str(BLOCK))
    with pytest.raises(UserError, match="node 6 reads maps of different widths"):
        SPACE.from_parameters(chosen | {"node 5": "conv1"})


def test_the_key_does_not_depend_on_the_order_of_nodes():
    one = SPACE.from_str("conv3-act@0/conv3@1/conv1@1/add@2,3/output@4")
    other = SPACE.from_str("conv3-act@0/conv1@1/conv3@1/add@2,3/output@4")
    wider = SPACE.from_str("conv3-act@0/conv1@1/conv1@1/add@2,3/output@4")
    assert one != other and SPACE.canonical(one) == SPACE.canonical(other) != SPACE.canonical(wider)
    shared = SPACE.from_str("conv3-act@0/gate@1/conv3@2/conv1@2/add@3,4/output@5")
    twice = SPACE.from_str("conv3-act@0/gate@1/gate@1/conv3@2/conv1@3/add@4,5/output@6")
    assert SPACE.canonical(shared) != SPACE.canonical(twice), "a node that two others read is not two nodes"


# -- growing networks


@pytest.mark.parametrize("nodes", [4, 7, 12, 60])
def test_a_network_that_grows_within_the_masks_is_valid(nodes):
    rng = np.random.default_rng(nodes)
    for _ in range(20 if nodes < 60 else 5):
        growth = Growth(nodes)
        while not growth.done:
            op = int(rng.choice(np.flatnonzero(growth.operators())))
            chosen: list[int] = []
            while not growth.enough(op, chosen) or (len(chosen) < TABLE[op].inputs[1] and rng.random() < 0.3 and growth.sources(op, chosen).any()):
                chosen.append(int(rng.choice(np.flatnonzero(growth.sources(op, chosen)))))
            growth.add(op, chosen)
        assert len(growth.ops) <= nodes
        arch = Arch(tuple(growth.ops), tuple((source, node) for node, sources in enumerate(growth.reads) for source in sources))
        assert SPACE.decode(*SPACE.encode(arch)) == (arch, None)


def test_masks_allow_every_step_of_an_example():
    for arch in SPACE.examples()[::40]:
        growth = SPACE.growth()
        for node, op in list(enumerate(arch.ops))[1:]:
            assert growth.operators()[op]
            sources = sorted((source for source, user in arch.edges if user == node), reverse=True)
            for count, source in enumerate(sources):
                assert growth.sources(op, sources[:count])[source]
            assert growth.enough(op, sources)
            growth.add(op, sources)
        assert growth.done


def test_what_breaks_a_rule_is_not_allowed():
    growth = SPACE.growth()
    conv, gate, add = map(NAMES.index, ("conv3-act", "gate", "add"))
    assert growth.operators()[conv] and not growth.operators()[[gate, add, OUTPUT, INPUT, ABSENT]].any()
    growth.add(conv, [0])
    growth.add(NAMES.index("conv3-x2-act"), [1])
    assert not growth.operators()[add] and growth.operators()[[gate, OUTPUT, NAMES.index("concat")]].all()
    growth.add(conv, [1])
    assert growth.sources(add).tolist() == [False, False, False, True] and growth.sources(add, [3]).tolist() == [False, True, False, False]
    assert not growth.operators()[OUTPUT], "two nodes are read by none"
    with pytest.raises(ValueError, match="node 4 reads maps of different widths"):
        growth.add(add, [1, 2])


# -- networks


def test_size_is_that_of_the_built_network():
    rng = np.random.default_rng(0)
    every = [example for example in SPACE.examples() if len(example.ops) < 60][::12]
    for arch in [*every, *(SPACE.random(rng) for _ in range(10))]:
        size = SPACE.size(arch, channels=16, num_classes=7, image_size=37, stem_stride=2)
        assert size == measured_size(SPACE.build(arch, channels=16, num_classes=7, stem_stride=2), image_size=37)


@pytest.mark.parametrize("name", ["torchvision:resnet18", "torchvision:resnet50"])
def test_networks_on_the_grid_have_their_published_size(name):
    assert SPACE.size(example(name), channels=64, num_classes=1000).params == PUBLISHED[name]


def test_options_of_networks():
    arch = SPACE.from_str(BLOCK)
    sizes = [SPACE.size(arch, channels=channels, num_classes=10) for channels in (8, 16, 17, 32)]
    assert sizes[0] == sizes[1] != sizes[2] == sizes[3], "widths are rounded up"
    with pytest.raises(UserError, match="cells must be 1, not 2"):
        SPACE.size(arch, cells=2, num_classes=10)


def test_windows_attend_within_themselves():
    """Attention in windows is attention to a map that is one window; outside of it nothing is seen."""
    arch = SPACE.from_str("patch4@0/window-attention@1/output@2")
    with seeded(0):
        network = SPACE.build(arch, channels=32, num_classes=4).eval()
    assert isinstance(network, Network)
    layer = network.nodes[1]
    x = torch.randn(2, 32, 10, 15, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        whole, first = layer(x), layer(x[:, :, :7, :7])
        assert torch.allclose(whole[:, :, :7, :7], first, atol=1e-6) and whole.shape == x.shape
        assert torch.allclose(whole[:, :, :7, 7:14], layer(x[:, :, :7, 7:14]), atol=1e-6)


# -- examples


def test_examples_are_distinct_and_valid():
    archs, names = SPACE.examples(), SPACE.names()
    assert len(archs) == len(names) == len(set(archs)) == 434
    assert len({SPACE.canonical(arch) for arch in archs}) == 417, "some differ in the order of their nodes alone"
    assert max(len(arch.ops) for arch in archs) <= SPACE.nodes
    for arch in archs[::4]:
        assert SPACE.decode(*SPACE.encode(arch)) == (arch, None)
        assert SPACE.from_str(SPACE.to_str(arch)) == arch


def trains(arch):
    """Whether the network runs, and every weight of it gets a gradient."""
    network = SPACE.build(arch, channels=16, num_classes=5)
    logits = network(torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(0)))
    logits.square().mean().backward()
    assert logits.shape == (2, 5) and logits.isfinite().all()
    return all(parameter.grad is not None and parameter.grad.isfinite().all() for parameter in network.parameters())


@pytest.mark.parametrize("name", ["torchvision:resnet50", "torchvision:mobilenet_v3_small", "torchvision:shufflenet_v2_x1_0", "torchvision:vit_b_16"])
def test_examples_run_and_train(name):
    assert trains(example(name))


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_all_examples_run_and_train():
    for arch in SPACE.examples():
        assert SPACE.decode(*SPACE.encode(arch)) == (arch, None)
        assert trains(arch), SPACE.to_str(arch)


# -- generated networks


class Short(NetworkZoo):
    """Networks of at most 16 nodes."""

    def growth(self):
        return Growth(16)


def test_draws_within_the_masks_are_valid_whatever_the_network_learned():
    space = Short()
    family = load_family("pointers")
    config, sampling = family.Config(width=16, layers=1), family.Sampling(masks=True)
    draw = family.parts()[1](space, family.build(space, config, seed=0))
    made = draw.sample(4, seed=0, sampling=sampling)
    assert len(made.archs) == 4 and len(set(made.archs)) == 4


def test_masks_are_for_spaces_that_know_what_may_come():
    family, space = load_family("pointers"), load_space("tpu-tiles")
    draw = family.parts()[1](space, family.build(space, family.Config(width=16, layers=1), seed=0))
    with pytest.raises(UserError, match="masks are for spaces that say what may come next, and 'tpu-tiles' does not; leave masks out"):
        draw.sample(2, seed=0, sampling=family.Sampling(masks=True))


def test_networks_are_exported(tmp_path):
    """Every kind of operator, in maps whose sides do not divide by windows and patches."""
    text = (
        "conv3-act@0/first-half@1/second-half@1/depthwise3-s2@2/gate@4/conv1-s2-x2@3/conv1-x2@5/add-act@6,7/patch2-x2@8/window-attention@9"
        "/attention@10/multiply@10,11/concat@10,12/grouped3@13/maxpool-s2@14/avgpool@15/output@16"
    )
    assert onnx_difference(SPACE.from_str(text), SPACE, channels=16, image_size=61, path=tmp_path / "network.onnx") < 1e-4
