"""The family `pointers`: contracts, probabilities against what is drawn and against enumeration, moves, and the shipped network."""

from __future__ import annotations

from functools import cache
from itertools import combinations, product
from typing import ClassVar

import numpy as np
import pytest
import torch

from diffnag.arch import Arch, ArchBatch
from diffnag.errors import UserError
from diffnag.generators.loading import load_generator
from diffnag.generators.pointers.family import PointerFamily
from diffnag.generators.pointers.options import Config, Sampling
from diffnag.generators.trained import Noise
from diffnag.protocols import Decoded
from diffnag.search_spaces.shared.programs import input_fault
from diffnag.search_spaces.tpu_tiles.space import TPUTiles
from diffnag.spaces.loading import load_space
from diffnag.testing import GeneratorContract, LikelihoodContract

FAMILY = PointerFamily()


class Few(TPUTiles):
    """All graphs of two to four nodes with a leaf, a node of one to three inputs and one of two, in any order of the nodes."""

    name, nodes, operators = "few", 4, ("leaf", "some", "two", "absent")
    inputs: ClassVar = {"leaf": (0, 0), "some": (1, 3), "two": (2, 2)}
    roles: ClassVar = {name: {"absent" if name == "absent" else "layer"} for name in operators}
    rules: ClassVar = dict(enumerate(inputs.values()))

    @property
    def constant(self):
        rows = np.zeros((4, 4), dtype=bool)
        rows[0] = [False, True, True, True]
        rows[0, 0] = rows[1, 3] = True
        return rows, np.tri(4, dtype=bool)

    def encode(self, arch):
        V, E = arch.matrices(nodes=4, operators=4)
        V[len(arch.ops) :, 3] = 1
        return V, E

    def decode(self, V, E):
        ops = V.argmax(1)
        count = int((ops != 3).sum())
        edges = [(int(i), int(j)) for i, j in np.argwhere(E)]
        if (V.sum(1) != 1).any() or (ops[:count] == 3).any() or any(i >= j or j >= count for i, j in edges) or count < 2:
            return Decoded(None, "it is no graph")
        fault = input_fault(ops[:count].tolist(), edges, self.rules, self.operators)
        return Decoded(None, fault) if fault else Decoded(Arch(tuple(ops[:count]), tuple(edges)), None)

    def canonical(self, arch):
        return self.to_str(arch)

    def to_str(self, arch):
        return f"{arch.ops} {arch.edges}"

    def random(self, rng):
        return every()[rng.integers(len(every()))]

    def enumerate(self):
        return iter(every())


@cache
def every():
    """All graphs of `Few`, found by trying all operators and edges."""
    found = []
    for nodes in (2, 3, 4):
        pairs = list(combinations(range(nodes), 2))
        for ops in product(range(3), repeat=nodes):
            for chosen in product((False, True), repeat=len(pairs)):
                edges = tuple(pair for pair, there in zip(pairs, chosen, strict=True) if there)
                if input_fault(ops, edges, Few.rules, Few.operators) is None:
                    found.append(Arch(ops, edges))
    return found


FEW = Few()


@pytest.fixture(scope="module")
def untrained():
    """A generator over a space that can be summed over."""
    net = FAMILY.build(FEW, Config(width=16, layers=2, heads=2), seed=1).eval().requires_grad_(False)
    net.operator.bias += torch.tensor([-1.0, 1.0, 2.0, 0.0])  # more than half of the draws end in one node
    return FAMILY.generator(FEW, net)


class TestUntrained(LikelihoodContract):
    @pytest.fixture
    def generator(self, untrained):
        return untrained


@pytest.mark.slow
@pytest.mark.timeout(300)
class TestShipped(GeneratorContract, LikelihoodContract):
    @pytest.fixture
    def generator(self):
        return load_generator(load_space("tpu-tiles"))


def test_probabilities_of_all_graphs_sum_to_the_share_of_valid_draws(untrained):
    """A draw is invalid only if it has no slot left, so that the rest is the probability of four nodes without a single last one."""
    total = np.exp(untrained.log_prob(every()).nats).sum()
    made = untrained.sample(4096, seed=0).decoded
    reasons = {item.reason for item in made if item.reason}
    assert all(reason.endswith("leads to no other") for reason in reasons)
    assert total == pytest.approx(np.mean([item.arch is not None for item in made]), abs=0.03) and total < 1


def test_samples_are_as_frequent_as_they_are_probable(untrained):
    """Graphs that are expected ten times at least, against their exact probabilities (chi-squared)."""
    made = untrained.sample(8192, seed=0).archs
    assert chi_squared(made, 8192 * np.exp(untrained.log_prob(every()).nats)) < 1


def test_a_move_leaves_the_law_in_place(untrained):
    """Whatever the number of nodes before and after. A graph that would become an invalid one stays, as it does among particles."""
    begun = untrained.sample(8192, seed=1).archs
    moved = [two.arch or one for one, two in zip(begun, untrained.vary(begun, len(begun), seed=2).decoded, strict=True)]
    probabilities = np.exp(untrained.log_prob(every()).nats)
    assert np.mean([one != two for one, two in zip(begun, moved, strict=True)]) > 0.2
    assert np.mean([len(one.ops) != len(two.ops) for one, two in zip(begun, moved, strict=True)]) > 0.1
    assert chi_squared(moved, len(moved) * probabilities / probabilities.sum()) < 1


def chi_squared(archs, expected):
    """In units of the bound at five standard deviations, over the graphs that are expected ten times at least."""
    place = {arch: k for k, arch in enumerate(every())}
    counts = np.bincount([place[arch] for arch in archs], minlength=len(place))
    often = expected >= 10
    degrees = int(often.sum())
    assert degrees > 20
    return ((counts - expected) ** 2 / expected)[often].sum() / (degrees + 5 * (2 * degrees) ** 0.5)


@pytest.mark.parametrize(("name", "leaf"), [("tpu-tiles", 18), ("network-zoo", 5)])
def test_the_likelihood_is_that_of_the_draws(monkeypatch, name, leaf):
    """Large graphs: the probabilities of all that is picked step by step, against those of one pass over the graphs."""
    space = load_space(name)
    f = len(space.operators)
    net = FAMILY.build(space, Config(width=16, layers=2, heads=2), seed=0).eval().requires_grad_(False)
    net.operator.bias += torch.nn.functional.one_hot(torch.tensor([leaf, net.absent]), f).T.float() @ torch.tensor([2.0, -20.0])
    generator, pick, logs = FAMILY.generator(space, net), Noise.pick, []

    def picked(u, law):
        chosen = pick(u, law)
        logs.append((law.gather(-1, chosen[:, None]).log().sum() - law.sum(-1).log().sum()).item())
        return chosen

    monkeypatch.setattr(Noise, "pick", staticmethod(picked))
    ops, E = generator._drawn(generator._numbers(8, Noise(0)))
    assert (ops != net.absent).all(), "no row ends, so that nothing is picked in vain"
    V = torch.nn.functional.one_hot(ops, f).float()
    batch = ArchBatch(V, E.float(), torch.ones(8, space.nodes, dtype=torch.bool))
    assert net.log_likelihood(batch).sum().item() == pytest.approx(sum(logs), rel=1e-5)


def test_nodes_depend_on_those_before_them_alone():
    """The first half of a graph decides what is drawn next, whatever stands in the second half."""
    space = load_space("tpu-tiles")
    generator = load_generator(space)
    u = torch.rand(4, space.nodes, 22, generator=torch.Generator().manual_seed(1))
    ops, E = generator._drawn(u)
    keep = torch.full((4,), 10)
    other = u.clone()
    other[:, :10] = 0.5  # numbers of nodes that are kept do not matter
    again_ops, again_E = generator._drawn(other, (ops, E, keep))
    assert torch.equal(ops, again_ops) and torch.equal(E, again_E)


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_the_shipped_network_reaches_what_was_asked(data_folder, monkeypatch):
    """Valid, distinct and none of the training graphs; the held-out half is not much less probable than the other."""
    from diffnag.spaces.split import CanonicalSplit

    if not (data_folder / "tpu_tiles.npz").is_file():
        pytest.skip("reference data not found: tpu_tiles.npz")
    monkeypatch.setenv("DIFFNAG_DATA", str(data_folder))
    space = load_space("tpu-tiles")
    generator, split = load_generator(space), CanonicalSplit(0.5)
    classes = {space.canonical(arch) for arch in generator.sample(239, seed=0).archs}
    examples = space.examples()
    training = split.training_archs(space)
    assert len(classes - {space.canonical(arch) for arch in training}) >= 0.9 * 239
    held_out = [arch for arch in examples if arch not in training]
    assert -generator.log_prob(held_out).nats.mean() < 35 and np.mean([len(arch.ops) for arch in held_out]) > 39


@pytest.mark.parametrize("guidance", ["pool", "particles"])
def test_guidance_can_be_chosen(untrained, guidance):
    assert untrained.steers == {"pool", "particles"}
    assert untrained.sample(8, seed=0, sampling=Sampling(guidance=guidance)).guidance == "none"


def test_bad_input():
    with pytest.raises(UserError, match="for spaces that say how many inputs an operator takes; 'nasbench201' does not"):
        FAMILY.build(load_space("nasbench201"), Config(), seed=0)
    with pytest.raises(UserError, match="--width 20 is not a multiple of twice --heads 4"):
        FAMILY.build(FEW, Config(width=20), seed=0)
    with pytest.raises(UserError, match="no network of family 'pointers' is shipped for space 'few'"):
        load_generator(FEW)
