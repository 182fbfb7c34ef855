"""The family `discrete`: noise, reverse step and bound against sums over all architectures, features against networkx, guidance, bad input."""

from __future__ import annotations

import math
from functools import cache
from itertools import pairwise, permutations

import networkx
import numpy as np
import pytest
import torch
from torch import nn

from diffnag.arch import ArchBatch
from diffnag.errors import UserError
from diffnag.generators.base import Steer
from diffnag.generators.discrete.family import DiscreteFamily
from diffnag.generators.discrete.generator import DiscreteGenerator
from diffnag.generators.discrete.network import DiscreteNetwork
from diffnag.generators.discrete.noising import NOISES, GraphDependent, Marginal
from diffnag.generators.discrete.options import Config, Sampling
from diffnag.generators.discrete.structure import structural, structural_size
from diffnag.generators.loading import load_generator
from diffnag.guidance.checked import CheckedPredictor
from diffnag.guidance.tilt import Tilt
from diffnag.search_spaces.darts.space import DARTS
from diffnag.search_spaces.nasbench101.space import NASBench101
from diffnag.search_spaces.nasbench201.space import NASBench201
from diffnag.testing import GeneratorContract, LikelihoodContract, draws
from tests.exact_space import ARCHS, SPACE, Values, tilted_mean
from tests.test_guidance import Relaxed, Table


class TestShipped(GeneratorContract, LikelihoodContract):
    most_summed = 0

    @pytest.fixture(params=[NASBench201, NASBench101], ids=["nasbench201", "nasbench101"])
    def generator(self, request):
        return load_generator(request.param(), "discrete")


class TestUntrained(LikelihoodContract):
    @pytest.fixture(params=NOISES)
    def generator(self, request):
        return untrained(noise=request.param, steps=32)


class TestGroups(GeneratorContract, LikelihoodContract):
    """Edges of a group as one entry: four sources of which a node reads two are valid by construction."""

    @pytest.fixture
    def generator(self):
        return grouped()


@cache
def grouped():
    """The generator of `TestGroups`; finding its groups takes seconds."""
    return untrained(DARTS(), edge_groups=True)


def untrained(space=SPACE, *, steps=20, **config):
    """A generator whose orders of revealing disagree, far from the uniform law."""
    net = DiscreteFamily().build(space, Config(width=16, layers=1, heads=2, **config), seed=0).eval()
    nn.init.normal_(net.operator_head.weight, std=1.0, generator=torch.Generator().manual_seed(1))
    return DiscreteGenerator(space, net.requires_grad_(False), Sampling(steps=steps))


class ExactNetwork(DiscreteNetwork):
    """Bayes' rule over all 54 architectures in place of a network."""

    def __init__(self, noise):
        super().__init__(SPACE, Config(noise=noise, width=8, layers=1, heads=1))
        self.all = self.numbers(ArchBatch.of(ARCHS, SPACE))
        self.eval().requires_grad_(False)

    def forward(self, z, abar, condition=None):
        same = self.all == z[:, None]  # (b, m, D)
        if self.config.noise == "absorbing":
            likely = torch.where(same | (z[:, None] == self.categories), 0.0, -torch.inf)
        else:
            law = self.noising.law_of(nn.functional.one_hot(self.all, self.categories).float()).expand(len(self.all), -1, -1)
            drawn = torch.stack([law[:, d, z[:, d]].T for d in range(z.shape[1])], dim=2)  # (b, m, D)
            likely = (abar[:, None, None] * same + (1 - abar)[:, None, None] * drawn).log()
        posterior = likely.sum(2).softmax(1)
        p = torch.einsum("bm,mdk->bdk", posterior, nn.functional.one_hot(self.all, self.categories).float())
        return p.clamp_min(1e-20).log()


@pytest.fixture(params=NOISES)
def exact(request):
    return DiscreteGenerator(SPACE, ExactNetwork(request.param))


# -- noise


@pytest.mark.parametrize("t, s", [(0.9, 0.6), (0.4, 0.1), (1.0, 0.5)])
def test_the_reverse_step_is_bayes_rule(t, s):
    """Against `sum_x q(z_s | x) q(z_t | z_s) p(x) / q(z_t | x)` with matrices of transitions."""
    law = torch.tensor([[0.2, 0.5, 0.3], [0.6, 0.4, 0.0]])
    noising = Marginal(law, torch.ones(2, dtype=torch.bool))
    p, z = torch.tensor([[[0.1, 0.2, 0.7], [0.3, 0.7, 0.0]]]), torch.tensor([[2, 0]])
    at, before = (noising.kept(torch.tensor([time])) for time in (t, s))
    found = noising._before(p, z, at, before)[0]
    for entry in range(2):
        eye, m = torch.eye(3), law[entry].expand(3, 3)
        to_s, to_t = before * eye + (1 - before) * m, at * eye + (1 - at) * m
        between = (at / before) * eye + (1 - at / before) * m
        expected = sum(p[0, entry, x] * to_s[x] * between[:, z[0, entry]] / to_t[x, z[0, entry]] for x in range(3) if p[0, entry, x] > 0)
        torch.testing.assert_close(found[entry], expected, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("noise", NOISES)
def test_noise_leaves_what_is_constant(noise):
    network = ExactNetwork(noise)
    x = network.all[:20]
    z, abar, weight = network.noising.corrupt(x, torch.linspace(0.01, 0.99, 20), torch.rand(2, *x.shape, generator=torch.Generator().manual_seed(0)))
    constant = ~network.free
    assert (z[:, constant] == x[:, constant]).all() and (weight[:, constant] == 0).all()
    assert (z[-1, network.free] != x[-1, network.free]).any() and (abar[:-1] > abar[1:] - 1e-6).all()


def test_graph_noise_draws_by_the_mean_of_laws_given_what_is_around():
    """Two nodes and their edge: the operator of each follows the edge, so that all but the marginal part of a law is certain."""
    marginals = torch.full((3, 2), 0.5)
    certain, share = torch.eye(2), torch.tensor([1 / 2, 1 / 2, 1 / 3])  # an operator has one entry around it, the edge two
    around = torch.zeros(3, 2, 3, 2) + (share[:, None] * marginals / 3)
    for a, d in ((2, 0), (2, 1), (0, 2), (1, 2)):
        around[a, :, d] += share[d] * certain
    noising = GraphDependent(marginals, torch.ones(3, dtype=torch.bool), around.reshape(6, 6))
    law = noising.law_of(nn.functional.one_hot(torch.tensor([[1, 1, 1], [0, 1, 1]]), 2).float())
    expected = torch.tensor([[3 / 4, 3 / 4, 5 / 6], [3 / 4, 3 / 4, 1 / 2]])
    torch.testing.assert_close(law[..., 1], expected)
    torch.testing.assert_close(noising.law_of(marginals[None]), marginals[None])


def test_laws_around_are_those_of_the_space():
    """Summed over an architecture they are laws, and their mean over all architectures is the marginal law."""
    network = ExactNetwork("graph")
    laws = network.noising.law_of(nn.functional.one_hot(network.all, network.categories).float())
    torch.testing.assert_close(laws.sum(2), torch.ones(laws.shape[:2]))
    torch.testing.assert_close(laws.mean(0), network.marginals, atol=0.02, rtol=0)
    assert (laws[:, network.marginals == 0] == 0).all()


def test_the_loss_weighs_what_is_hidden():
    network = ExactNetwork("absorbing")
    x, u = network.all[:4], torch.rand(2, 4, network.all.shape[1], generator=torch.Generator().manual_seed(0))
    z, abar, weight = network.noising.corrupt(x, torch.tensor([0.1, 0.4, 0.6, 1.0]), u)
    hidden = (z == network.categories).sum(1)
    assert hidden.tolist() == [1, 2, 3, 4] and (abar * 4).tolist() == [3, 2, 1, 0]  # three layers and a bridge vary
    assert weight.sum(1).tolist() == pytest.approx([4.0] * 4)


@pytest.mark.parametrize(("space", "varying"), [(DARTS(), 22), (NASBench201(), 6)])
def test_edges_of_a_group_are_one_entry(space, varying):
    """In darts: 16 operators, and six states that read two of three or more sources; a space without groups has its edges."""
    net = untrained(space, edge_groups=True).network
    batch = ArchBatch.of(draws(space, 50), space)
    x, n = net.numbers(batch), space.nodes
    V, E = net.matrices_of(x)
    assert int(net.free.sum()) == varying and torch.equal(V, batch.V) and torch.equal(E, batch.E)
    i, j = net.packing.upper(x.device)
    assert torch.equal(net._signed_edges(x[:, n:]), 2 * E[:, i, j] - 1)
    one = net.free.nonzero()[-1, 0]
    x[:, one] = net.categories
    signed, hidden = net._signed_edges(x[:, n:]), E[:, i, j].std(0) > 0
    assert torch.equal((signed == 0).any(0), hidden & (signed == 0).all(0)) and (signed == 0).any() == (one >= n)


# -- draws and the bound


def test_draws_of_an_exact_network_are_uniform(exact):
    made = exact.sample(54 * 40, seed=0, sampling=Sampling(steps=40))
    counts = np.bincount([ARCHS.index(arch) for arch in made.archs], minlength=54)
    assert len(made.archs) >= 0.97 * 54 * 40
    assert ((counts - counts.mean()) ** 2 / counts.mean()).sum() < 95


def test_a_move_of_an_exact_network_leaves_the_uniform_law_in_place(exact):
    made = exact.vary(ARCHS, 54 * 40, seed=0)
    counts = np.bincount([ARCHS.index(arch) for arch in made.archs], minlength=54)
    assert len(made.archs) >= 0.97 * 54 * 40
    assert ((counts - counts.mean()) ** 2 / counts.mean()).sum() < 95


def test_the_bound_of_an_exact_network_is_the_probability(exact):
    """With one entry a step the absorbing bound is exact; the marginal one comes close from below as steps become many."""
    found = exact.log_prob(ARCHS, seed=0, steps=100, repeats=24)
    slack = 1e-4 if exact.network.config.noise == "absorbing" else 0.1
    assert found.kind == "bound" and found.nats.shape == (54,)
    assert -math.log(54) - slack <= found.nats.mean() <= -math.log(54) + 0.02


def test_the_bound_lies_below_sums_over_orders():
    """Many repeats are nearer to the log probability, the sum over all 24 orders, than one: the network is untrained, so that orders disagree."""
    generator = untrained()
    one, many = (generator.log_prob(ARCHS, seed=0, repeats=repeats).nats for repeats in (1, 24))
    assert one.mean() < many.mean() < 0 and np.exp(many).sum() <= 1.02
    net, found = generator.network, []
    x, places = net.numbers(ArchBatch.of(ARCHS, SPACE)), net.free.nonzero()[:, 0]
    for order in permutations(range(4)):
        nats = 0
        for step in range(4):
            z = x.clone()
            z[:, places[[k for k in range(4) if order[k] >= step]]] = net.categories
            entry = places[order.index(step)]
            nats = nats + net(z, net.noising.kept(step, x))[:, entry].gather(1, x[:, entry, None])[:, 0].double()
        found.append(nats)
    exact = torch.stack(found).logsumexp(0).numpy() - math.log(24)
    assert np.exp(exact).sum() == pytest.approx(1, abs=1e-5)
    assert one.mean() < exact.mean() and many.mean() == pytest.approx(exact.mean(), abs=0.03)


def test_few_steps_reveal_several_entries():
    noising = load_generator(NASBench101(), "discrete").network.noising
    for steps in (1, 7, 20, noising.entries, 99):
        groups = noising.groups(steps)
        sizes = [last - first for first, last in groups]
        assert groups[0][0] == 0 and groups[-1][1] == noising.entries and len(groups) <= min(steps, noising.entries)
        assert all(a[1] == b[0] for a, b in pairwise(groups)) and max(sizes) == max(sizes[:2]) and min(sizes) >= 1


def test_the_shipped_bound_is_near_that_of_the_space():
    """Mean of minus log p less ln N, over training and held-out architectures; 0 would be the uniform law itself."""
    space = NASBench201()
    rng = np.random.default_rng(0)
    nats = load_generator(space, "discrete").log_prob([space.random(rng) for _ in range(64)], seed=0).nats
    assert -0.1 < -nats.mean() - math.log(15_625) < 0.3


# -- structure


def test_structural_features_are_those_of_networkx():
    E = torch.zeros(1, 5, 5)
    for i, j in [(0, 1), (0, 2), (1, 2), (2, 4), (1, 4)]:
        E[0, i, j] = 1
    E[0, 3, 4] = E[0, 0, 3] = -1
    graphs = [networkx.DiGraph([(int(i), int(j)) for i, j in (part.triu(1)).nonzero()]) for part in (E[0] > 0, E[0] >= 0)]
    found = structural(E)[0]
    assert found.shape == (5, structural_size(5))
    for features, graph in zip(found.chunk(2, dim=1), graphs, strict=True):
        graph.add_nodes_from(range(5))
        for node in range(5):
            reaches, reached = networkx.descendants(graph, node), networkx.ancestors(graph, node)
            paths = sum(1 for _ in networkx.all_simple_paths(graph, 0, node)) if node else 0
            longest = max((len(path) - 1 for path in networkx.all_simple_paths(graph, 0, node)), default=0) if node else 0
            expected = [float(k in reaches) for k in range(5)] + [float(k in reached) for k in range(5)]
            expected += [graph.in_degree(node) / 5, graph.out_degree(node) / 5, graph.number_of_edges() / 5, math.log1p(paths)]
            assert features[node, :14].tolist() == pytest.approx(expected, abs=1e-6)
            assert features[node, 15].item() == pytest.approx(longest / 5)


# -- guidance


@pytest.mark.parametrize("scale", [1.0, 2.0, 4.0])
def test_entries_draw_the_exact_tilt_of_an_exact_network(scale):
    generator, values = DiscreteGenerator(SPACE, ExactNetwork("absorbing")), Values()
    predictor = CheckedPredictor("values", Table54(values))
    made = generator.sample(1500, seed=0, steer=Steer(tilt=Tilt(predictor, SPACE, scale)))
    z = (predictor.predict(made.archs)[0] - values.values.mean()) / values.values.std()
    assert made.guidance == "entries" and len(made.archs) == 1500
    assert z.mean() == pytest.approx(tilted_mean(values.values, scale), abs=0.1)


class Table54:
    """The predictor of the exact space without its gradients."""

    def __init__(self, values):
        self._values = values

    def fit(self, archs, y):
        raise NotImplementedError

    def predict(self, archs):
        return self._values.predict(archs)


@pytest.mark.parametrize(("cls", "kind"), [(Table, "entries"), (Relaxed, "denoised")])
@pytest.mark.parametrize("scale", [1.0, 2.0, 4.0])
def test_shipped_network_is_steered_to_the_exact_tilted_mean(cls, kind, scale):
    space = NASBench201()
    tilt = Tilt(CheckedPredictor("table", cls(space)), space, scale)
    z = tilt.z(list(space.enumerate()))
    weights = np.exp(scale * (z - z.max()))
    made = load_generator(space, "discrete").sample(512, seed=0, steer=Steer(tilt=tilt))
    assert made.guidance == kind and len(made.archs) == 512
    assert tilt.z(made.archs).mean() == pytest.approx((weights * z).sum() / weights.sum(), abs=0.15)  # 3 standard errors and the bias


def test_marginal_noise_has_no_exact_entries():
    generator = DiscreteGenerator(SPACE, ExactNetwork("marginal"))
    tilt = Tilt(CheckedPredictor("values", Table54(Values())), SPACE, 1.0)
    with pytest.raises(UserError, match="the generator has no entries guidance"):
        generator.sample(4, seed=0, steer=Steer(tilt=tilt), sampling=Sampling(guidance="entries"))


# -- bad input


@pytest.mark.parametrize(
    ("config", "sentence"),
    [
        (Config(noise="x"), "unknown noise 'x'"), (Config(noise="graph", edge_groups=True), "leave out --edge-groups"),
        (Config(width=65), "--width 65 is not a multiple of twice --heads 4"),
    ],
)  # fmt: skip
def test_configs_are_checked(config, sentence):
    with pytest.raises(UserError, match=sentence):
        DiscreteFamily().build(SPACE, config, seed=0)


@pytest.mark.parametrize("noise", NOISES)
def test_a_network_comes_back_from_its_file(tmp_path, noise):
    family = DiscreteFamily()
    network = family.build(SPACE, Config(noise=noise, width=16, layers=1, heads=2, structure=True), seed=1)
    family.save(tmp_path / "w.safetensors", network, {"split": "canonical-sha256-0.5"})
    again = family.load(SPACE, tmp_path / "w.safetensors")
    assert family.generator(SPACE, network.eval()).sample(16, seed=0).decoded == again.sample(16, seed=0).decoded
    with pytest.raises(UserError, match="is a network of space 'exact-chain', not of 'nasbench201'"):
        family.load(NASBench201(), tmp_path / "w.safetensors")
