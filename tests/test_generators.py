"""Generator families: the contract, one target law for every diffusion, and moves that leave a law in place."""

from __future__ import annotations

import numpy as np
import pytest

from diffnag.errors import UserError
from diffnag.generators import trained
from diffnag.generators.base import Steer
from diffnag.generators.diffusion.denoiser import load_denoiser
from diffnag.generators.diffusion.generator import Generator
from diffnag.generators.diffusion.options import Sampling
from diffnag.generators.diffusion.sde import make_sde
from diffnag.generators.loading import family_from_command_line, load_family, load_generator
from diffnag.generators.reference import MutationGenerator, UniformGenerator
from diffnag.guidance.checked import CheckedPredictor
from diffnag.guidance.choice import choose
from diffnag.guidance.tilt import Tilt
from diffnag.search_spaces.nasbench201.space import NASBench201
from diffnag.testing import GeneratorContract
from tests.exact_space import ARCHS, SPACE, ExactDenoiser, Values, tilted_mean
from tests.test_guidance import Noisy, Relaxed, Table


class TestScoreNetwork(GeneratorContract):
    @pytest.fixture
    def generator(self):
        space = NASBench201()
        return Generator(space, load_denoiser(space))


class TestExactDiffusion(GeneratorContract):
    @pytest.fixture(params=["ve", "vp", "sub-vp"])
    def generator(self, request):
        return Generator(SPACE, ExactDenoiser(make_sde(request.param)))


class TestUniform(GeneratorContract):
    @pytest.fixture
    def generator(self):
        return UniformGenerator(NASBench201())


class TestMutation(GeneratorContract):
    @pytest.fixture
    def generator(self):
        return MutationGenerator(NASBench201())


# -- one law for every diffusion


@pytest.mark.parametrize("name", ["ve", "vp", "sub-vp"])
@pytest.mark.parametrize("scale", [0.5, 1.0])
def test_one_predictor_steers_every_diffusion_to_the_tilted_law(name, scale):
    """A noise-aware predictor is asked in the data's scale with the noise level: it need not know the diffusion."""
    plugin = Values()
    generator, tilt = Generator(SPACE, ExactDenoiser(make_sde(name))), Tilt(CheckedPredictor("values", plugin), SPACE, scale)
    made = generator.sample(1500, seed=0, steer=Steer(tilt=tilt), sampling=Sampling(steps=40))
    z = (plugin.predict(made.archs)[0] - plugin.values.mean()) / plugin.values.std()
    assert made.guidance == "gradient" and len(made.archs) >= 1490
    assert z.mean() == pytest.approx(tilted_mean(plugin.values, scale), abs=0.1)


def test_a_predictor_of_times_would_miss_it():
    """The check above can fail: noise levels of another diffusion steer elsewhere."""
    plugin = Values()
    right, sde = plugin.forward_noisy, make_sde("ve")
    plugin.forward_noisy = lambda V, E, mask, noise: right(V, E, mask, sde.noise_to_signal(noise.clamp(0, 1)))
    tilt = Tilt(CheckedPredictor("values", plugin), SPACE, 1.0)
    made = Generator(SPACE, ExactDenoiser(make_sde("vp"))).sample(1500, seed=0, steer=Steer(tilt=tilt), sampling=Sampling(steps=40))
    z = (plugin.predict(made.archs)[0] - plugin.values.mean()) / plugin.values.std()
    assert abs(z.mean() - tilted_mean(plugin.values, 1.0)) > 0.15


# -- moves


@pytest.mark.parametrize("name", ["ve", "vp", "sub-vp"])
def test_a_move_of_an_exact_diffusion_leaves_the_uniform_law_in_place(name):
    """From every architecture as often: after a move each of the 54 is there as often again (chi-squared, 53 degrees of freedom)."""
    made = Generator(SPACE, ExactDenoiser(make_sde(name))).vary(ARCHS, 54 * 40, seed=0)
    place = {arch: k for k, arch in enumerate(ARCHS)}
    counts = np.bincount([place[arch] for arch in made.archs], minlength=54)
    expected = len(made.archs) / 54
    assert len(made.archs) >= 0.97 * 54 * 40
    assert ((counts - expected) ** 2 / expected).sum() < 110


@pytest.mark.parametrize("cls", [UniformGenerator, MutationGenerator])
def test_a_move_without_a_network_leaves_the_uniform_law_in_place(cls):
    made = cls(SPACE).vary(ARCHS, 54 * 100, seed=0)
    place = {arch: k for k, arch in enumerate(ARCHS)}
    counts = np.bincount([place[arch] for arch in made.archs], minlength=54)
    assert ((counts - 100) ** 2 / 100).sum() < 95


def test_a_mutation_is_a_neighbour_or_stays():
    generator = MutationGenerator(SPACE)
    for root, item in zip(ARCHS, generator.vary(ARCHS, 54, seed=1).archs, strict=True):
        assert item == root or item in SPACE.neighbours(root)


# -- options, kinds, names


def test_samples_do_not_depend_on_the_chunk(monkeypatch):
    generator = Generator(SPACE, ExactDenoiser(make_sde("ve")))
    whole = generator.sample(96, seed=3).decoded
    monkeypatch.setattr(trained, "CHUNK", 32)
    assert generator.sample(96, seed=3).decoded == whole


@pytest.mark.parametrize(
    ("sampling", "sentence"),
    [
        (Sampling(sampler="x"), "unknown sampler 'x'"), (Sampling(quantise="x"), "unknown quantisation 'x'"),
        (Sampling(steps=0), "steps is 0; accepted is a whole number from 1"), (Sampling(trace=30), "trace 30 is not between 2 and 21"),
        ("fast", "the family 'sde' takes its own Sampling options, not a str"),
    ],
)  # fmt: skip
def test_options_are_checked(sampling, sentence):
    with pytest.raises(UserError, match=sentence):
        Generator(SPACE, ExactDenoiser(make_sde("ve"))).sample(2, seed=0, sampling=sampling)


@pytest.mark.parametrize("n", [0, -1, 10**9, 1.5])
def test_counts_are_checked(n):
    generator = Generator(SPACE, ExactDenoiser(make_sde("ve")))
    for draw in (lambda: generator.sample(n, seed=0), lambda: generator.vary(ARCHS, n, seed=0)):
        with pytest.raises(UserError, match="samples were asked for; 1 to 10,000,000 are accepted"):
            draw()
    with pytest.raises(UserError, match="vary needs at least one architecture"):
        generator.vary([], 3, seed=0)


@pytest.mark.parametrize("scale", [float("nan"), float("inf"), -1.0])
def test_the_scale_is_checked(scale):
    with pytest.raises(UserError, match="the scale of the guidance is"):
        Tilt(CheckedPredictor("values", Values()), SPACE, scale)


def test_the_strongest_kind_that_both_sides_have(space):
    noisy, relaxed, table = (CheckedPredictor(cls.__name__, cls(space)) for cls in (Noisy, Relaxed, Table))
    assert [choose(p, "auto", Generator.steers) for p in (noisy, relaxed, table)] == ["gradient", "denoised", "particles"]
    assert choose(noisy, "auto", {"particles"}) == "particles" and choose(noisy, "denoised") == "denoised"
    with pytest.raises(UserError, match="the generator has no gradient guidance; its kinds of guidance are: particles"):
        choose(noisy, "gradient", ["particles"])
    with pytest.raises(UserError, match="predictor Table has no forward, which denoised guidance needs; it allows particles"):
        choose(table, "denoised", Generator.steers)
    with pytest.raises(UserError, match="cannot be steered by predictor Table; it has: none"):
        choose(table, "auto", ())


def test_a_predictor_of_another_space_is_refused(space):
    tilt = Tilt(CheckedPredictor("table", Table(space), space=space), space, 1.0)
    with pytest.raises(UserError, match="was set up in space 'nasbench201', not in 'exact-chain'"):
        Generator(SPACE, ExactDenoiser(make_sde("ve"))).sample(2, seed=0, steer=Steer(tilt=tilt))


def test_families_by_name():
    assert load_generator(NASBench201()).provenance()["generator"] == "sde"
    assert load_generator(NASBench201(), "mutation").provenance() == {"generator": "mutation"}
    with pytest.raises(UserError, match="unknown generator 'x'; there are: .*mutation, pointers, sde, uniform"):
        load_family("x")
    with pytest.raises(UserError, match="lacks Sampling, load; every generator must offer"):
        load_family("diffnag.arch:Arch")
    assert family_from_command_line(["--generator", "uniform"]) == "uniform"
    assert family_from_command_line(["--space", "nasbench101"]) == family_from_command_line(["--space"]) == "sde"
    assert family_from_command_line(["--space", "tests.exact_space:Chain"]) == "sde"
    assert family_from_command_line(["--space", f"{__name__}:PrefersUniform"]) == "uniform"


class PrefersUniform(type(SPACE)):  # type: ignore[misc]
    """A space that names its generator family."""

    generator = "uniform"
