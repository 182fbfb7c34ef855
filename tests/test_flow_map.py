"""The family `flow-map` and guidance by a pool."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from diffnag.errors import UserError
from diffnag.generators.base import Steer
from diffnag.generators.diffusion.denoiser import load_denoiser
from diffnag.generators.diffusion.samplers import dpmpp, time_at, time_grid
from diffnag.generators.diffusion.sde import make_sde
from diffnag.generators.edge_groups import EdgeGroups
from diffnag.generators.flow_map.exclusions import Exclusions, excluded_pairs
from diffnag.generators.flow_map.family import FlowMapFamily
from diffnag.generators.flow_map.network import FlowMap, Lesson
from diffnag.generators.flow_map.options import Config, Sampling
from diffnag.generators.loading import load_generator
from diffnag.generators.metrics import GraphStatistics
from diffnag.generators.network import KIND, shipped_network
from diffnag.generators.options import Training
from diffnag.generators.recipes import shipped_recipe
from diffnag.generators.training import train
from diffnag.guidance.checked import CheckedPredictor
from diffnag.guidance.pool import EFFECTIVE, MANY, MOST, pool
from diffnag.guidance.tilt import Tilt
from diffnag.io.checkpoint import load_checkpoint
from diffnag.search_spaces.nasbench201.space import NASBench201
from diffnag.spaces.decoding import decode_all
from diffnag.spaces.loading import load_space
from diffnag.testing import GeneratorContract
from tests.exact_space import ARCHS, SPACE, Values, tilted_mean
from tests.test_guidance import Table

VALID = {  # with one evaluation, and with two
    "nasbench201": (0.995, 0.995), "nasbench101": (0.965, 0.98), "darts": (0.97, 0.98), "mobilenetv3": (0.995, 0.995),
    "transnasbench101-micro": (0.995, 0.995), "transnasbench101-macro": (0.97, 0.98),
}  # fmt: skip
"""Least share of valid samples among 512, some less than what is measured over many: a sample of 512 varies."""


@pytest.fixture(scope="module")
def teacher():
    return load_denoiser(NASBench201())


class TestShipped(GeneratorContract):
    @pytest.fixture
    def generator(self):
        return load_generator(NASBench201(), "flow-map")


@pytest.mark.parametrize("name", VALID)
def test_it_is_small_and_says_how_it_was_made(name):
    path = shipped_network(name, "flow-map")
    _, meta = load_checkpoint(path, kind=KIND)
    recipe = shipped_recipe(name, "flow-map")
    assert path.stat().st_size < 2e6 and f"--generator flow-map --space {name} --recipe shipped" in meta["command"]
    assert Config(**recipe["config"]) == Config(**meta["config"]) and recipe["out"] == path
    assert Training(**recipe["training"]) == Training(space=name, split=meta["split"], **meta["training"])


@pytest.mark.parametrize("name", VALID)
def test_its_samples_are_valid_and_as_in_the_space(name):
    """Raw. Graphs are compared with the space by what a random sample of the same size is off."""
    space = load_space(name)
    generator = load_generator(space, "flow-map")
    for evaluations, valid in enumerate(VALID[name], start=1):
        made = generator.sample(512, seed=0, sampling=Sampling(evaluations=evaluations))
        assert made.nfe == evaluations and len(made.archs) >= valid * 512
    rng = np.random.default_rng(0)
    whole, *same_size = (GraphStatistics.of([space.random(rng) for _ in range(n)], space) for n in (4096, *[512] * 5))
    floor = [sample.distances(whole) for sample in same_size]
    for key, value in GraphStatistics.of(made.archs, space).distances(whole).items():
        assert value <= 3 * np.mean([other[key] for other in floor]) + 1e-9, key


# -- pairs and the map


def test_a_pair_ends_where_the_teachers_ode_ends(teacher):
    pairs = Lesson(teacher, 600, seed=1).pairs(torch.device("cpu"))
    noise, ts = torch.Generator().manual_seed(1), time_grid(teacher.sde, 20)
    x = teacher.sde.prior((512, teacher.packing.size), generator=noise, device=torch.device("cpu"))
    with torch.no_grad():
        end = dpmpp(teacher.score, teacher.sde, x, ts, generator=noise)
    assert pairs.states.shape == (7, 600, teacher.packing.size) and pairs.ends.shape == (600, teacher.packing.size)
    assert torch.equal(pairs.states[0, :512], x)
    assert (torch.where(end > 0, 1.0, -1.0) == pairs.ends[:512]).all(1).float().mean() > 0.99  # where a sample is invalid, rules differ
    assert torch.equal(pairs.ends, Lesson(teacher, 600, seed=1).pairs(torch.device("cpu")).ends)


def test_it_begins_as_its_teacher_and_shares_add_up(teacher):
    family, space = FlowMapFamily(), NASBench201()
    net = family.build(space, Config(paths=64), seed=0)
    x = net.lesson.pairs(torch.device("cpu")).states[-1]
    t = time_at(net.sde, 0.632)
    with torch.no_grad():
        assert torch.equal(net(x, t.expand(64)), teacher.logits(x, t.expand(64)))
        whole, *parts = (net.loss(10, generator=torch.Generator().manual_seed(2), share=share)
                         for share in (slice(None), slice(0, None, 2), slice(1, None, 2)))  # fmt: skip
    assert torch.allclose(whole[0::2], parts[0]) and torch.allclose(whole[1::2], parts[1])


def test_what_is_decided_keeps_to_the_space():
    """Noise gives one operator a node, and edges that form patterns of their groups."""
    space = load_space("darts")
    net = load_denoiser(space)
    x = net.decided(5 * torch.randn(64, net.packing.size, generator=torch.Generator().manual_seed(0)))
    V, _ = net.packing.relaxed(x)
    assert (V.sum(2) == 1).all() and (V.sum(0)[~net.possible] == 0).all()
    groups = EdgeGroups(net.patterns, net.offset, net.grouped)
    edges = x[:, V[0].numel() :] > 0
    for patterns, offset in zip(groups.patterns, groups.offset, strict=True):
        known = patterns[offset == 0][:, patterns.any(0)].bool()
        assert (edges[:, None, patterns.any(0)] == known).all(2).any(1).all()


def test_choices_that_exclude_each_other_are_not_decided_together():
    """Alone, the likeliest entries of a stage may contradict each other. Where they do not, nothing changes."""
    space = load_space("mobilenetv3")
    generator = load_generator(space, "flow-map")
    net = generator.network
    x, t = torch.randn(256, net.packing.size, generator=torch.Generator().manual_seed(0)), time_at(net.sde, 0.8)
    with torch.no_grad():
        alone, together = net.denoiser.decided(net(x, t)), net.mapped(x, t)
    valid = [np.array([item.arch is not None for item in decode_all(space, *net.packing.quantise(answer))]) for answer in (alone, together)]
    assert 0.05 < valid[0].mean() < 0.95 and valid[1].all()
    assert torch.equal(alone[valid[0]], together[valid[0]])


def test_the_surest_choice_rules_out_what_it_excludes():
    """Two nodes with two operators, of which the first ones exclude each other, and a third that nothing excludes."""
    space = load_space("nasbench201")
    groups = EdgeGroups.none(1)
    found = Exclusions(torch.tensor([[0, 2]]), 3, 2, groups)
    log_p = torch.tensor([[0.9, 0.1, 0.6, 0.4, 0.2, 0.8], [0.6, 0.4, 0.9, 0.1, 0.2, 0.8]]).log()
    chosen = torch.tensor([[1, 0, 1, 0, 0, 1], [1, 0, 1, 0, 0, 1]])
    assert found.contradict(chosen.float()).all() and not found.contradict(torch.tensor([[1.0, 0, 0, 1, 0, 1]])).any()
    assert found.settled(log_p, chosen.float()).tolist() == [[1, 0, 0, 1, 0, 1], [0, 1, 1, 0, 0, 1]]
    assert not len(excluded_pairs(space, EdgeGroups.none(28))), "operators of this space are independent"


def test_a_network_with_exclusions_is_trained_and_loaded(tmp_path):
    """The teacher here has no groups of edges, and there is nothing to exclude."""
    options, config = Training(steps=2, batch_size=8), Config(paths=32, exclusions=True)
    train(FlowMapFamily(), options, config, out=tmp_path / "one.safetensors", device="cpu")
    one = load_generator(NASBench201(), "flow-map", checkpoint=tmp_path / "one.safetensors")
    assert one.network.excluded.shape == (0, 2) and one.sample(8, seed=0).nfe == 2


@pytest.mark.parametrize("name", ["ve", "vp", "sub-vp"])
def test_the_time_of_a_level(name):
    sde = make_sde(name)
    assert sde.noise_to_signal(time_at(sde, 1.3)).item() == pytest.approx(1.3, rel=1e-3)
    assert time_at(sde, 1e9).item() == 1 and time_at(sde, 0.0).item() == pytest.approx(sde.t_min)


def test_a_training_can_be_loaded_and_refuses_another_split(tmp_path):
    options, config = Training(steps=3, batch_size=8), Config(paths=32)
    train(FlowMapFamily(), options, config, out=tmp_path / "one.safetensors", device="cpu")
    made = load_generator(NASBench201(), "flow-map", checkpoint=tmp_path / "one.safetensors")
    assert made.sample(16, seed=0).archs and made.provenance()["split"] == options.split
    with pytest.raises(UserError, match="begins as one that was trained on split 'canonical-sha256-0.5', not on 'canonical-sha256-1.0'"):
        train(FlowMapFamily(), Training(steps=3, split="canonical-sha256-1"), config, out=tmp_path / "two.safetensors", device="cpu")
    with pytest.raises(UserError, match="is a generator of family 'flow-map', not of 'sde'"):
        load_generator(NASBench201(), "sde", checkpoint=tmp_path / "one.safetensors")
    assert made.network.lesson is None
    with pytest.raises(ValueError, match="no teacher"):
        made.network.loss(2, generator=torch.Generator(), share=slice(None))


def test_bad_input():
    with pytest.raises(UserError, match="learns from a score network, which --teacher names: no network of family 'sde' is shipped"):
        FlowMapFamily().build(SPACE, Config(), seed=0)
    generator = load_generator(NASBench201(), "flow-map")
    for sampling, sentence in [
        (Sampling(evaluations=0), "evaluations is 0; accepted is a whole number from 1 to 100"),
        (Sampling(level=0.1), "level is 0.1; accepted is a finite number from 0.6 to 3.2"), ("fast", "takes its own Sampling options"),
    ]:  # fmt: skip
        with pytest.raises(UserError, match=sentence):
            generator.sample(2, seed=0, sampling=sampling)
    table = CheckedPredictor("table", Table(generator.space))
    with pytest.raises(UserError, match="predictor table has no forward"):
        generator.sample(2, seed=0, steer=Steer.by(table, generator.space), sampling=Sampling(guidance="denoised"))
    assert isinstance(generator.network, FlowMap)


# -- the pool


def uniform(rng, n):
    return [ARCHS[k] for k in rng.integers(len(ARCHS), size=n)]


@pytest.mark.parametrize("scale", [0.5, 1.0, 2.0])
def test_a_pool_meets_the_tilted_law(scale):
    plugin, rng = Values(), np.random.default_rng(0)
    z = dict(zip(ARCHS, (plugin.values - plugin.values.mean()) / plugin.values.std(), strict=True))
    tilt = Tilt(CheckedPredictor("values", plugin), SPACE, scale)
    found = pool(uniform(rng, 2000), tilt, 2000, lambda: uniform(rng, 500), rng=rng, wanted=lambda _: True)
    assert len(found) == 2000
    assert np.mean([z[arch] for arch in found]) == pytest.approx(tilted_mean(plugin.values, scale), abs=0.06)


def test_a_pool_keeps_to_what_is_wanted_and_ends():
    plugin, rng = Values(), np.random.default_rng(0)
    tilt = Tilt(CheckedPredictor("values", plugin), SPACE, 1.0)
    calls = []

    def draw():
        calls.append(1)
        return uniform(rng, 100)

    found = pool(uniform(rng, 10), tilt, 50, draw, rng=rng, wanted=lambda arch: arch == ARCHS[7])
    assert found == [ARCHS[7]] * 50 and len(calls) == MANY * EFFECTIVE // 100 + 1, "that one is the whole law"
    assert pool(uniform(rng, 10), tilt, 5, lambda: uniform(rng, 5000), rng=rng, wanted=lambda _: False) == []
    assert tilt.items <= 2 * len(ARCHS)  # each architecture is asked about once a pool


@pytest.mark.parametrize(("factor", "samples"), [(0, EFFECTIVE), (100, MANY * EFFECTIVE), (-np.inf, MOST * EFFECTIVE)])
def test_a_pool_grows_until_it_is_effective_or_lacks_little(factor, samples):
    """Equal ones: as many are enough as are effective. Where one has all the weight, few ever are, and it suffices to have seen it."""
    plugin, rng, drawn = Values(), np.random.default_rng(1), []
    tilt = Tilt(CheckedPredictor("values", plugin), SPACE, 1.0)
    tilt.scale = max(factor, 0)

    def draw():
        drawn.extend(range(16))
        return uniform(rng, 16)

    pool([], tilt, 10, draw, rng=rng, wanted=lambda _: factor >= 0)
    assert samples - 17 <= len(drawn) <= samples


def test_a_steered_draw_meets_the_tilted_mean_of_nasbench201():
    space = NASBench201()
    archs = list(space.enumerate())
    plugin = Table(space)
    mean = dict(zip(archs, plugin.predict(archs)[0], strict=True))
    for scale in (1.0, 2.0):
        tilt = Tilt(CheckedPredictor("table", plugin), space, scale)
        z = (np.array(list(mean.values())) - tilt.centre) / tilt.spread
        weights = np.exp(scale * (z - z.max()))
        made = load_generator(space, "flow-map").sample(512, seed=0, steer=Steer(tilt=tilt))
        reached = (np.mean([mean[arch] for arch in made.archs]) - tilt.centre) / tilt.spread
        assert made.guidance == "pool" and reached == pytest.approx(weights @ z / weights.sum(), abs=0.15)
