"""The families `conditional` and `conditional-sde`: how values are read and shown, what a condition does to draws, and bad input."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
import torch

from diffnag import generate
from diffnag.arch import ArchBatch
from diffnag.errors import UserError
from diffnag.generators.base import Steer
from diffnag.generators.conditional.conditions import KNOTS, Laws, Measures
from diffnag.generators.conditional.encoders import ENCODERS
from diffnag.generators.conditional.family import ConditionalFamily, ConditionalSDEFamily
from diffnag.generators.conditional.options import Config, Sampling, ScoreConfig, ScoreSampling
from diffnag.generators.loading import load_generator
from diffnag.guidance.checked import CheckedPredictor
from diffnag.search_spaces.nasbench201.space import NASBench201
from diffnag.spaces.draws import random_archs
from diffnag.spaces.loading import load_space
from diffnag.testing import GeneratorContract, LikelihoodContract
from tests.exact_space import ARCHS, SPACE
from tests.search_fakes import RandomGenerator
from tests.test_guidance import Table
from tests.toy_search import options, search

VALID = {"nasbench201": 1.0, "nasbench101": 0.98, "mobilenetv3": 0.955, "transnasbench101-micro": 1.0, "transnasbench101-macro": 0.98}
"""Least share of valid samples among 256 under conditions, some less than what is measured over many."""
TINY = Config(width=16, layers=1, heads=2, conditions="depth", bins=8)
TINY_SCORE = ScoreConfig(width=16, layers=1, heads=2, joint=16, cross_entropy=True, conditions="depth", bins=8)
DARTS = pytest.param("darts", marks=[pytest.mark.slow, pytest.mark.timeout(60)])
FAMILIES = {"conditional": (ConditionalFamily(), TINY), "conditional-sde": (ConditionalSDEFamily(), TINY_SCORE)}


class TestShipped(GeneratorContract):
    @pytest.fixture(params=["nasbench201", "nasbench101", DARTS, "mobilenetv3", "transnasbench101-micro", "transnasbench101-macro"])
    def generator(self, request):
        return load_generator(load_space(request.param), "conditional")


class TestShippedScore(GeneratorContract):
    @pytest.fixture
    def generator(self):
        return load_generator(NASBench201(), "conditional-sde")


class TestLikelihood(LikelihoodContract):
    most_summed = 0

    @pytest.fixture
    def generator(self, shipped):
        return shipped


@pytest.fixture(params=FAMILIES)
def untrained(request):
    family, config = FAMILIES[request.param]
    net = family.build(SPACE, config, seed=0)
    return family, net, family.conditions_of(net, ARCHS, SPACE)


@pytest.fixture(scope="module")
def shipped():
    return load_generator(NASBench201(), "conditional")


# -- values


def test_measures_are_those_of_the_space(space):
    archs = [space.random(np.random.default_rng(seed)) for seed in range(5)]
    sizes = [space.size(arch, num_classes=10, image_size=32) for arch in archs]
    measures = Measures(("params", "flops"), space)
    assert measures(archs).tolist() == [[size.params, size.flops] for size in sizes] and measures.units == {"params": "", "flops": ""}


def test_laws_of_a_uniform_column():
    values = torch.linspace(0, 300, 3001, dtype=torch.float64)[:, None]
    laws = Laws(("width",), *Laws.described(values))
    standard = laws.standard(values)
    assert standard.mean().item() == pytest.approx(0, abs=1e-5) and standard.std().item() == pytest.approx(1, abs=1e-5)
    assert laws.thirds(laws.standard(torch.tensor([[10.0], [150.0], [290.0]]))).flatten().tolist() == [0, 1, 2]
    numbers, words = laws.read({"width": 150.0})
    assert numbers.item() == pytest.approx(0, abs=1e-6) and words.item() == -1
    numbers, words = laws.read({"width": "high"})
    assert numbers.isnan().all() and words.item() == 2
    assert laws.read({})[0].isnan().all() and laws._quantiles.shape == (1, KNOTS)


@pytest.mark.parametrize("value", [-1.0, 301.0, float("nan"), float("inf"), "tiny"])
def test_values_that_training_did_not_see_are_refused(value):
    laws = Laws(("width",), *Laws.described(torch.linspace(0, 300, 301, dtype=torch.float64)[:, None]))
    with pytest.raises(UserError, match=r"condition width is .*0 to 300"):
        laws.read({"width": value})


@pytest.mark.parametrize("encoder", ENCODERS)
def test_encoders_tell_numbers_apart(encoder):
    encode = ENCODERS[encoder](64, 8)
    found = encode(torch.tensor([[-0.5], [0.5], [0.5], [9.0]]))
    assert found.shape == (4, 8) and torch.equal(found[1], found[2]) and not torch.allclose(found[0], found[1]) and found.isfinite().all()


def test_clusters_begin_as_the_posterior_of_equal_normal_laws():
    clusters = ENCODERS["clusters"](16, 8)
    centres = torch.linspace(-2.5, 5.0, 16)
    expected = (-((0.3 - centres) ** 2) / (2 * 0.1**2)).softmax(0)
    torch.testing.assert_close(clusters.place(torch.tensor([[0.3]])).softmax(1)[0], expected, atol=1e-4, rtol=1e-3)


# -- training and draws


def test_untrained_blocks_ignore_the_condition(untrained):
    """AdaLN-zero: before training no block does anything, whatever is asked for; only the last norm sees it."""
    family, net, standard = untrained
    torch.nn.init.zeros_(net.trunk.modulation.weight)
    batch, asked = ArchBatch.of(ARCHS[:4], SPACE), torch.cat([standard[:4], torch.full((4, 1), -1.0)], dim=1)
    x = net.numbers(batch) if isinstance(family, ConditionalFamily) else net.packing.pack(batch.V, batch.E)
    torch.testing.assert_close(net(x, torch.ones(4)), net(x, torch.ones(4), condition=asked))


@pytest.mark.parametrize("untrained", ["conditional-sde"], indirect=True)
def test_scores_are_mixed_as_logits(untrained):
    """`(1 + w) given - w open` of the logits; the estimate that the score stands for lies in the cube whatever the weight."""
    _, net, standard = untrained
    for parameter in net.parameters():  # what is zero before training would hide the condition
        torch.nn.init.normal_(parameter, std=0.3, generator=torch.Generator().manual_seed(parameter.numel()))
    batch, t = ArchBatch.of(ARCHS[:4], SPACE), torch.full((1,), 0.6)
    x = net.packing.pack(batch.V, batch.E) + 0.5
    asked = torch.cat([standard[:4], torch.full((4, 1), -1.0)], dim=1)
    given, open_ = net.logits(x, t, condition=asked), net.logits(x, t)
    assert not torch.allclose(given, open_, atol=1e-2)
    torch.testing.assert_close(net.guided_score(x, t, asked, 0.0), net.score_of(net(x, t, condition=asked), x, t))
    alpha, sigma = net.sde.marginal(t)
    for weight in (1.0, 50.0):
        estimate = (net.guided_score(x, t, asked, weight) * sigma**2 + x) / alpha
        torch.testing.assert_close(estimate, net.in_cube((1 + weight) * given - weight * open_), atol=1e-3, rtol=1e-3)
        assert estimate.abs().max() <= 1.001


def taught_for(name, steps):
    """The generator of a tiny network that learned from the 54 architectures of a space."""
    family, config = FAMILIES[name]
    net = family.build(SPACE, config, seed=0)
    standard = family.conditions_of(net, ARCHS, SPACE)
    optimizer, batch = torch.optim.Adam(net.parameters(), 5e-3), ArchBatch.of(ARCHS, SPACE)
    for step in range(steps):
        loss = family.loss(net, batch, standard, generator=torch.Generator().manual_seed(step)).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return family.generator(SPACE, net.eval())


@pytest.fixture(scope="module", params=FAMILIES)
def taught(request):
    return taught_for(request.param, 1000)


@pytest.fixture(scope="module", params=FAMILIES)
def hardly_taught(request):
    return taught_for(request.param, 100)


def test_training_teaches_the_condition(taught):
    measures = Measures(("depth",), SPACE)
    depths = measures(ARCHS)[:, 0]
    for depth in (1.0, 3.0):
        found = measures(taught.sample(200, seed=0, steer=Steer(condition={"depth": depth})).archs)[:, 0]
        assert len(found) > 100 and (found - depth).abs().mean() < 0.5 * (depths - depth).abs().mean()


def test_weight_zero_needs_one_evaluation_a_step(shipped):
    one, two = (shipped.sample(8, seed=0, steer=Steer(condition={"params": 3e5}, weight=weight)) for weight in (0.0, 1.0))
    assert two.nfe == 2 * one.nfe


def test_the_shipped_network_comes_near_what_is_asked_for(shipped):
    space = shipped.space
    asked = {"params": 344_346.0, "flops": 49_162_890.0}  # those of an architecture
    archs = shipped.sample(128, seed=0, steer=Steer(condition=asked)).archs
    found = Measures(("params", "flops"), space)(archs).numpy()
    spread = shipped.network.spread[:2].numpy()
    assert len(archs) >= 126 and (np.abs(found - list(asked.values())) / spread).mean() < 0.3
    high, low = (shipped.sample(128, seed=0, steer=Steer(condition={"params": word})).archs for word in ("high", "low"))
    assert Measures(("params",), space)(high).median() > 3 * Measures(("params",), space)(low).median()


def test_what_is_not_plausible_is_not_drawn(shipped):
    """Among the others the law stays. Which they are is decided under the condition alone, whatever the weight."""
    net, asked = shipped.network, {"params": 3e5}
    z = net.numbers(ArchBatch.of(random_archs(shipped.space, 32, seed=0), shipped.space))
    z[:, net.free.nonzero()[:3, 0]] = net.categories

    def found(weight, share):
        return shipped._unguided(Steer(condition=asked, weight=weight), Sampling(plausible=share))(z, torch.full((1,), 0.5)).exp()

    law, kept = found(0.0, 0.0), found(0.0, 0.5)
    there = law >= 0.5 * law.amax(2, keepdim=True)
    assert not there.all() and (there.sum(2) > 1).any() and (kept[~there] == 0).all()
    torch.testing.assert_close(kept, (law * there) / (law * there).sum(2, keepdim=True), atol=1e-5, rtol=1e-4)
    for weight in (1.0, 50.0):
        guided = found(weight, 0.5)
        assert (guided[~there] == 0).all() and torch.allclose(guided.sum(2), torch.ones(guided.shape[:2]), atol=1e-5)


def test_guidance_by_a_tilt_reaches_what_is_not_plausible(shipped):
    steer = Steer.by(CheckedPredictor("values", Table(shipped.space)), shipped.space)
    z = torch.where(shipped.network.free, shipped.network.categories, shipped.network.marginals.argmax(1))[None]
    conditioned = replace(steer, condition={"params": 3e5})
    one, two = (shipped._unguided(conditioned, Sampling(plausible=share))(z, torch.zeros(1)) for share in (0.0, 1.0))
    assert torch.equal(one, two)


@pytest.mark.parametrize(("name", "valid"), VALID.items())
def test_samples_that_are_asked_for_what_architectures_have_are_valid(name, valid):
    """Raw, at the default weight, each sample with the values of another architecture."""
    space = load_space(name)
    generator = load_generator(space, "conditional")
    free = [each for each in generator.conditions if not each.startswith("latency")]  # a latency would need its table
    asked = generator.condition_of(random_archs(space, 256, seed=1), free)
    assert len(generator.sample(256, seed=0, steer=Steer(condition=asked)).archs) >= valid * 256


def test_distances_count_standard_deviations_and_words_that_do_not_hold():
    values = torch.stack([torch.linspace(0, 300, 3001, dtype=torch.float64)] * 2, dim=1)
    laws = Laws(("width", "depth"), *Laws.described(values))
    spread = values[:, 0].std().item()
    found = torch.tensor([[150.0, 10.0], [160.0, 10.0], [150.0, 290.0]])
    assert laws.apart(found, *laws.read({"width": 150.0})).tolist() == pytest.approx([0, 10 / spread, 0], abs=1e-5)
    assert laws.apart(found, *laws.read({"width": 150.0, "depth": "low"})).tolist() == pytest.approx([0, 10 / spread, 1], abs=1e-5)


@pytest.mark.parametrize("asked", [{"depth": 2.0}, {"depth": (1.0, 3.0)}])
def test_the_nearest_of_several_draws_is_kept(hardly_taught, asked):
    """The first draw is the one that `nearest=1` takes, so no sample can be further away."""
    steer, laws = Steer(condition=asked), hardly_taught.network.laws
    one, four = (hardly_taught.sample(64, seed=0, steer=steer, sampling=hardly_taught.Sampling(nearest=draws)) for draws in (1, 4))
    assert four.nfe == 4 * one.nfe > 0
    measures, found = Measures(("depth",), SPACE), []
    for made in (one, four):
        apart = np.full(64, np.inf)
        places = np.array([k for k, item in enumerate(made.decoded) if item.arch is not None])
        apart[places] = laws.apart(measures(made.archs), *(part[places % len(part)] for part in laws.read(asked)))
        found.append(apart)
    first, best = found
    assert (best <= first).all() and (best < first).sum() > 5


def test_samples_are_asked_for_the_values_of_a_tuple_in_turn(taught):
    made = taught.sample(300, seed=0, steer=Steer(condition={"depth": (1.0, 3.0)}))  # more than one piece of a batch
    few, many = (Measures(("depth",), SPACE)([item.arch for item in made.decoded[first::2] if item.arch is not None]).mean() for first in (0, 1))
    assert few < 1.7 and many > 2.3


def test_tuples_give_samples_their_values_in_turn(shipped):
    """As many architectures as there are values are asked for, and samples beyond them begin anew."""
    archs = random_archs(shipped.space, 300, seed=0)
    params = shipped.condition_of(archs, ["params"])["params"]
    made = shipped.sample(700, seed=0, steer=Steer(condition={"params": params}))
    assert len(made.archs) == 700
    found = np.array(shipped.condition_of(made.archs, ["params"])["params"])
    asked = np.array([params[k % 512 % 300] for k in range(700)])  # 512 samples are drawn at once
    assert np.abs(found - asked).mean() < 0.02 * np.std(params)
    pair = shipped.condition_of(archs[:2], ["flops"])
    assert len(shipped.sample(3, seed=0, steer=Steer(condition={**pair, "params": "low"})).archs) == 3


def test_conditions_of_architectures_are_brought_within_what_training_saw(untrained):
    _, net, _ = untrained
    low, high = net.quantiles[0, [0, -1]].tolist()
    assert net.laws.within("depth", torch.tensor([-7.0, 2.0, 99.0], dtype=torch.float64)) == (low, 2.0, high)


@pytest.mark.parametrize(("name", "alone"), [("nasbench201", True), ("nasbench101", True), ("darts", True), ("mobilenetv3", False)])
def test_guidance_entry_by_entry_is_for_spaces_whose_entries_change_alone(name, alone):
    """In darts the two inputs of a node are one entry; in chains the edges follow from the operators."""
    assert ("entries" in load_generator(load_space(name), "conditional").steers) == alone


@pytest.mark.parametrize("limits", [(), ("params<=600k",), ("params>=1.2M",)])
def test_a_generator_with_conditions_is_asked_for_values_within_the_limits(space, limits):
    asked = []

    class Conditioned(RandomGenerator):
        conditions = ("params", "depth")

        def condition_of(self, archs, names):
            return dict.fromkeys(names, tuple(float(space.size(arch, num_classes=10, image_size=32).params) for arch in archs))

        def sample(self, n, *, seed, steer=Steer(), sampling=None):  # noqa: B008 - frozen
            asked.append(steer.condition)
            return super().sample(n, seed=seed, steer=steer, sampling=sampling)

    search(options("diffnag", limit=limits), generator=Conditioned(space))
    assert len(asked) >= 2 and all(condition == asked[0] for condition in asked) and set(asked[0]) == ({"params"} if limits else set())
    for values in asked[0].values():
        assert isinstance(values, tuple)
        if limits == ("params<=600k",):
            assert max(values) <= 600_000 and len(values) > 100
        else:
            assert min(values) > 900_000 and len(values) == 8  # few cells have so many: the nearest are asked for


# -- bad input


@pytest.mark.parametrize("values", [((1e5, 2e5), (1e7,)), ((), ())])
def test_tuples_of_different_lengths_are_refused(shipped, values):
    with pytest.raises(UserError, match=r"conditions have .* values; accepted is one number of them, at least 1"):
        shipped.sample(2, seed=0, steer=Steer(condition=dict(zip(("params", "flops"), values, strict=True))))


@pytest.mark.parametrize(
    ("config", "sentence"),
    [
        (Config(encoder="x"), "unknown encoder 'x'"), (Config(conditions="params,params"), "must be different names"),
        (Config(conditions="params,"), "must be different names"),
    ],
)  # fmt: skip
def test_configs_are_checked(config, sentence):
    with pytest.raises(UserError, match=sentence):
        ConditionalFamily().build(SPACE, config, seed=0)


def test_a_condition_that_costs_a_measurement_is_refused(tmp_path, monkeypatch):
    monkeypatch.setenv("DIFFNAG_DATA", str(tmp_path))
    with pytest.raises(UserError, match="latency:pixel3 costs a measurement"):
        Measures(("latency:pixel3",), NASBench201())


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--condition", "params=9e9"], "condition params is 9e\\+09, outside what the training saw: 73306 to 1531546"),
        (["--condition", "params=3e5", "--condition", "params=4e5"], "condition params is given twice"),
        (["--condition", "zen=high"], "has no condition 'zen'; its conditions are: params, flops, latency:pixel3"),
        (["--condition", "params=lots"], "or low, medium, high"), (["--condition", "params"], "accepted is NAME=VALUE"),
        (["--condition", "latency:pixel3=20MB"], "condition latency:pixel3 needs a finite number"),
        (["--weight", "2"], "--weight goes with --condition"),
        (["--nearest", "4"], "--nearest goes with --condition"),
        (["--condition", "params=3e5", "--nearest", "4", "--predictor", "meta", "--dataset", "cifar10"], "--nearest does not go with --predictor"),
        (["--condition", "latency:pixel3=20ms", "--nearest", "4"], "latency:pixel3 costs a measurement .* --nearest need the table"),
    ],
)  # fmt: skip
def test_bad_conditions_get_a_sentence(tmp_path, monkeypatch, arguments, sentence):
    monkeypatch.setenv("DIFFNAG_DATA", str(tmp_path))
    monkeypatch.setenv("DIFFNAG_CACHE", str(tmp_path))
    with pytest.raises(UserError, match=sentence):
        generate.main(["--generator", "conditional", "--out", str(tmp_path / "a.jsonl"), "--n", "4", *arguments])


def test_conditions_on_the_command_line(tmp_path, capsys):
    out = tmp_path / "a.jsonl"
    generate.main([
        "--generator", "conditional", "--condition", "params=600k", "--condition", "latency:pixel3=0.02s", "--weight", "2",
        "--n", "16", "--out", str(out), "--device", "cpu",
    ])  # fmt: skip
    metrics = json.loads(out.with_name("a.metrics.json").read_text())
    assert metrics["condition"] == {"params": 6e5, "latency:pixel3": 20.0} and metrics["weight"] == 2.0 and metrics["n"] == 16
    assert "wrote" in capsys.readouterr().out


def test_a_trace_does_not_go_with_the_nearest():
    generator = load_generator(NASBench201(), "conditional-sde")
    with pytest.raises(UserError, match="a trace shows how one sample forms"):
        generator.sample(2, seed=0, steer=Steer(condition={"params": 5e5}), sampling=ScoreSampling(nearest=2, trace=2))


def test_a_network_comes_back_from_its_file(tmp_path, untrained):
    family, net, _ = untrained
    family.save(tmp_path / "w.safetensors", net, {"split": "canonical-sha256-0.5"})
    again = family.load(SPACE, tmp_path / "w.safetensors")
    assert again.conditions == ("depth",) and again.units == {"depth": ""}
    steer = Steer(condition={"depth": 2.0})
    assert family.generator(SPACE, net.eval()).sample(16, seed=0, steer=steer).decoded == again.sample(16, seed=0, steer=steer).decoded


def test_a_weight_below_zero_is_refused(shipped):
    with pytest.raises(UserError, match="the weight of the condition is -1"):
        shipped.sample(2, seed=0, steer=Steer(condition={"params": 3e5}, weight=-1.0))


def test_conditions_that_exclude_each_other_are_refused(shipped):
    """The largest cells compute most: few parameters and many operations do not go together."""
    sizes = np.array([(size.params, size.flops) for size in (
        shipped.space.size(arch, num_classes=10, image_size=32) for arch in random_archs(shipped.space, 200, seed=0)
    )])  # fmt: skip
    (few, _), (_, many) = sizes.min(0).tolist(), sizes.max(0).tolist()
    with pytest.raises(UserError, match=r"params=\S+ and flops=\S+ conflict: no architecture that training saw comes near all of them"):
        shipped.sample(1, seed=0, steer=Steer(condition={"params": float(few), "flops": float(many)}))
    with pytest.raises(UserError, match=r"params=low and flops=\S+ conflict"):
        shipped.sample(1, seed=0, steer=Steer(condition={"params": "low", "flops": float(many)}))
    for params, flops in sizes[:20].tolist():
        shipped.network.laws.read({"params": float(params), "flops": float(flops)})
