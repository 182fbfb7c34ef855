"""The generate command on the shipped score network: files, metrics, kinds of guidance, bad input."""

from __future__ import annotations

import json
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

from diffnag import generate
from diffnag.arch import Packing
from diffnag.command.running import run_command
from diffnag.drawing.strip import save_trace
from diffnag.errors import UserError
from diffnag.generators.base import Steer
from diffnag.generators.diffusion.denoiser import load_denoiser
from diffnag.generators.diffusion.generator import Generator
from diffnag.generators.diffusion.options import Sampling
from diffnag.generators.diffusion.samplers import LANGEVIN_STEPS, SAMPLERS
from diffnag.generators.metrics import generation_metrics
from diffnag.generators.network import shipped_network
from diffnag.guidance.checked import CheckedPredictor
from diffnag.plugins import names
from diffnag.protocols import Decoded
from diffnag.spaces.loading import load_space
from diffnag.spaces.split import CanonicalSplit
from tests.test_guidance import Noisy, Relaxed, Table


def run(monkeypatch, *arguments: str) -> None:
    monkeypatch.setattr(sys, "argv", ["generate", "--device", "cpu", *arguments])
    generate.main()


@pytest.fixture(scope="module")
def denoiser(space):
    return load_denoiser(space)


def test_command_writes_lines_and_metrics(tmp_path, monkeypatch, space):
    run(monkeypatch, "--n", "200", "--out", str(tmp_path / "archs.jsonl"))
    lines = [json.loads(line) for line in (tmp_path / "archs.jsonl").read_text().splitlines()]
    metrics = json.loads((tmp_path / "archs.metrics.json").read_text())
    assert len(lines) == metrics["n"] == 200 and set(lines[0]) == {"arch", "valid", "reason", "predicted"}
    archs = [space.from_str(line["arch"]) for line in lines if line["valid"]]
    again = generation_metrics(archs, 200, space, CanonicalSplit(0.5))
    assert all(metrics[key] == value for key, value in again.items()) and "unpruned" not in metrics
    assert metrics["validity"] >= 0.98 and metrics["uniqueness"] > 0.95 and 0.3 < metrics["novelty"] < 0.6
    assert metrics["nfe"] == 20 and metrics["predictor_nfe"] == 0 and metrics["guidance"] == "none"
    assert all(line["reason"] is None and line["predicted"] is None for line in lines if line["valid"])


def test_what_needed_no_pruning_is_counted(tmp_path, monkeypatch, capsys):
    space = load_space("nasbench101")
    V, E = space.encode(space.from_str("conv3x3@0/conv1x1@1/output@2"))
    dangling, broken = E.copy(), E.copy()
    dangling[1, 5] = 1  # towards an absent slot
    broken[0, 1] = 0  # the input reaches nothing
    x = Packing.of(space).pack(torch.from_numpy(np.stack([V] * 4)), torch.from_numpy(np.stack([E, E, dangling, broken])))
    monkeypatch.setattr(Generator, "_draw", lambda self, b, sampling, steer, kind, noise: x)
    run(monkeypatch, "--space", "nasbench101", "--n", "4", "--out", str(tmp_path / "a.jsonl"))
    metrics = json.loads((tmp_path / "a.metrics.json").read_text())
    assert (metrics["validity"], metrics["unpruned"]) == (0.75, 0.5)
    assert "validity 0.750, unpruned 0.500, uniqueness 0.333" in capsys.readouterr().out


def test_same_seed_same_file(tmp_path, monkeypatch):
    for name, seed in (("a", "3"), ("b", "3"), ("c", "4")):
        run(monkeypatch, "--n", "16", "--seed", seed, "--out", str(tmp_path / f"{name}.jsonl"))
    a, b, c = ((tmp_path / f"{name}.jsonl").read_text() for name in "abc")
    assert a == b != c


def test_variations_are_near_what_they_start_from(space, denoiser):
    generator = Generator(space, denoiser)
    roots = [space.random(np.random.default_rng(seed)) for seed in range(4)]
    made = generator.vary(roots, 128, seed=0)
    assert made.decoded == generator.vary(roots, 128, seed=0).decoded != generator.vary(roots, 128, seed=1).decoded
    changed = np.array([
        [sum(a != b for a, b in zip(item.arch.ops, root.ops, strict=True)) for root in roots]
        for item in made.decoded if item.arch is not None
    ])  # fmt: skip
    assert len(changed) > 120 and made.nfe == 6
    own = changed[np.arange(len(changed)), np.arange(len(changed)) % 4] if len(changed) == 128 else changed.min(1)
    assert 0 < own.mean() < 3.5 < changed.mean()


def test_guided_by_meta(tmp_path, monkeypatch):
    run(monkeypatch, "--n", "64", "--out", str(tmp_path / "a.jsonl"), "--predictor", "meta", "--dataset", "cifar10", "--scale", "2")
    lines = [json.loads(line) for line in (tmp_path / "a.jsonl").read_text().splitlines()]
    metrics = json.loads((tmp_path / "a.metrics.json").read_text())
    assert metrics["guidance"] == "gradient"
    assert metrics["nfe"] == 20
    assert metrics["predictor_nfe"] == 21  # one a step, and one to standardise
    assert np.mean([line["predicted"] for line in lines if line["valid"]]) > 1


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_every_sampler_draws_valid_architectures(space, denoiser, sampler):
    made = Generator(space, denoiser, Sampling(sampler=sampler, steps=20)).sample(100, seed=0)
    assert len(made.archs) >= 97 and made.nfe == {"heun": 40, "pc": 40, "annealed-langevin": 20 * LANGEVIN_STEPS + 1}.get(sampler, 20)


def test_generate_is_short_for_sample(space, denoiser):
    generator, predictor = Generator(space, denoiser), CheckedPredictor("noisy", Noisy(space))
    steer = Steer.by(predictor, space, 2.0)
    assert generator.generate(16, seed=0, predictor=predictor, scale=2.0).decoded == generator.sample(16, seed=0, steer=steer).decoded
    assert generator.generate(16, seed=0).decoded == generator.sample(16, seed=0).decoded


@pytest.mark.parametrize(("cls", "kind"), [(Table, "particles"), (Relaxed, "denoised"), (Noisy, "gradient")])
def test_every_kind_of_guidance_raises_the_mean(space, denoiser, cls, kind):
    predictor = CheckedPredictor(cls.__name__, cls(space))
    generator = Generator(space, denoiser)
    free, bent = (generator.sample(200, seed=0, steer=steer) for steer in (Steer(), Steer.by(predictor, space, 1.0)))
    means = [predictor.predict(made.archs)[0].mean() for made in (free, bent)]
    assert bent.guidance == kind and free.guidance == "none" and bent.predictor_nfe > 0
    assert means[1] > means[0] + 0.5  # in units of the predictor; its spread over the space is about 7


def test_particles_keep_to_what_is_wanted(space, denoiser):
    """Cells of at most two convolutions, a quarter of the space, of which the predictor likes those with many."""
    few = lambda arch: sum(op in (4, 5) for op in arch.ops) <= 2  # noqa: E731
    predictor = CheckedPredictor("table", Table(space))
    made = Generator(space, denoiser).sample(200, seed=0, steer=Steer.by(predictor, space, 3.0, wanted=few))
    free = [arch for arch in Generator(space, denoiser).sample(200, seed=0).archs if few(arch)]
    assert all(map(few, made.archs)) and len(made.archs) >= 194
    assert predictor.predict(made.archs)[0].mean() > predictor.predict(free)[0].mean() + 0.5


@pytest.mark.parametrize("sampler", [name for name in SAMPLERS if name != "annealed-langevin"])  # it visits a level several times
def test_a_trace_leads_from_noise_to_the_sample(space, denoiser, sampler):
    generator = Generator(space, denoiser, Sampling(sampler=sampler, steps=8))
    made, untraced = generator.sample(5, seed=2, sampling=replace(generator.sampling, trace=9)), generator.sample(5, seed=2)
    assert made.decoded == untraced.decoded and made.nfe == untraced.nfe and untraced.trace is None
    trace = made.trace
    assert trace.sample == next(k for k, item in enumerate(made.decoded) if item.arch is not None)
    assert len(trace.moments) == 9 and [m.t for m in trace.moments] == sorted((m.t for m in trace.moments), reverse=True)
    first = denoiser.sde.prior((5, denoiser.packing.size), generator=torch.Generator().manual_seed(2), device="cpu")[trace.sample]
    packing = denoiser.packing

    def packed(matrices):
        V, E = (torch.from_numpy(part)[None] for part in matrices)
        return (packing.pack(V, E)[0] + 1) / 2

    alpha, sigma = denoiser.sde.marginal(torch.ones(1))
    torch.testing.assert_close(packed(trace.moments[0].state), first / (alpha**2 + sigma**2).sqrt())
    for moment in trace.moments[:-1]:  # what is shown beside a state is what the network says of it
        t = torch.tensor([moment.t])
        alpha, sigma = denoiser.sde.marginal(t)
        estimate = denoiser((packed(moment.state) * (alpha**2 + sigma**2).sqrt())[None], t)[0]
        torch.testing.assert_close(2 * packed(moment.estimate) - 1, estimate, atol=2e-3, rtol=0)
    for read, clean in zip(trace.moments[-1].estimate, space.encode(made.decoded[trace.sample].arch), strict=True):
        assert (read == clean).all()
    assert [m.t for m in trace.steps(3)] == [trace.moments[k].t for k in (0, 4, 8)]


def test_a_guided_trace_shows_guided_estimates(space, denoiser):
    generator = Generator(space, denoiser)
    given, traced = (Steer(), Steer.by(CheckedPredictor("noisy", Noisy(space)), space)), Sampling(trace=21)
    free, bent = (generator.sample(1, seed=0, steer=steer, sampling=traced).trace for steer in given)
    assert (free.moments[0].state[0] == bent.moments[0].state[0]).all()
    assert np.abs(free.moments[0].estimate[0] - bent.moments[0].estimate[0]).max() > 0.01
    with pytest.raises(UserError, match="guidance by particles replaces samples afterwards"):
        generator.sample(1, seed=0, steer=Steer.by(CheckedPredictor("table", Table(space)), space), sampling=Sampling(trace=21))


def test_the_command_draws_a_strip(tmp_path, monkeypatch, capsys):
    for name, seed, steps in (("a", "0", "4"), ("b", "0", "4"), ("c", "1", "4"), ("d", "0", "21")):
        run(monkeypatch, "--n", "3", "--seed", seed, "--trace", steps, "--out", str(tmp_path / f"{name}.jsonl"))
    assert f"wrote {tmp_path / 'd.trace.png'}: sample 0" in capsys.readouterr().out
    a, b, c = ((tmp_path / f"{name}.trace.png").read_bytes() for name in "abc")
    assert a == b != c
    with Image.open(tmp_path / "a.trace.png") as few, Image.open(tmp_path / "d.trace.png") as many:
        assert few.width <= many.width and few.height < many.height  # steps that need more room stand in further bands


def test_a_strip_without_an_architecture_says_why(tmp_path, space, denoiser):
    made = Generator(space, denoiser, Sampling(steps=2, trace=3)).sample(1, seed=0)
    drawn = []
    for reason in ("node 1 has 2 operators", "edge 0->1 is missing"):
        save_trace(tmp_path / "a.png", made.trace, 2, result=Decoded(None, reason), space=space)
        drawn.append((tmp_path / "a.png").read_bytes())
    assert drawn[0] != drawn[1]


def test_a_strip_that_fails_costs_the_strip_alone(tmp_path, monkeypatch, capsys):
    def fails(*_, **__):
        raise RuntimeError("no room\nat all")

    monkeypatch.setattr("diffnag.drawing.strip.save_trace", fails)
    run(monkeypatch, "--n", "2", "--trace", "3", "--out", str(tmp_path / "a.jsonl"))
    assert capsys.readouterr().out.endswith("a.trace.png could not be made: no room\n")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.jsonl", "a.metrics.json"]


@pytest.mark.parametrize("name", [name for name in names("space") if shipped_network(name, "sde").is_file()])
def test_a_strip_names_nodes_operators_and_colours(name, tmp_path, figures):
    space = load_space(name)
    made = Generator(space, load_denoiser(space), Sampling(steps=8, trace=5)).sample(1, seed=0)
    save_trace(tmp_path / "a.png", made.trace, 5, result=made.decoded[0], space=space)
    (figure,) = figures
    rows = [[text.get_text() for text in axes.get_yticklabels()] for axes in figure.axes]
    columns = [[text.get_text() for text in axes.get_xticklabels()] for axes in figure.axes]
    nodes = next(names for names in rows if len(names) == space.nodes)
    assert [name.split()[0] for name in nodes] == [str(k) for k in range(space.nodes)] and columns.count([*space.operators]) == 5
    fixed = {k: name.split()[1] for k, name in enumerate(nodes) if " " in name}
    first = space.random(np.random.default_rng(0))
    assert set(fixed) == set(space.constant[0].all(1).nonzero()[0])
    assert all(space.encode(first)[0][k, space.operators.index(operator)] == 1 for k, operator in fixed.items())
    assert sum(text.get_text().startswith(("state", "estimate")) for text in figure.texts) == 2  # the two bars of the key
    width, height = figure.get_size_inches()
    sizes = [text.get_fontsize() for axes in figure.axes for text in (*axes.get_xticklabels(), *axes.get_yticklabels())]
    assert width <= 13.01 and height < 40 and min(sizes) > 5
    for axes in figure.axes:
        left, bottom, right, top = axes.get_position().extents
        assert -1e-9 <= left < right <= 1 + 1e-9 and -1e-9 <= bottom < top <= 1 + 1e-9


def test_metrics_are_by_threshold_whatever_the_rule(space, denoiser, tmp_path, monkeypatch):
    few = ("--sampler", "euler-maruyama", "--steps", "10", "--n", "200")
    for rule in ("threshold", "argmax"):
        run(monkeypatch, *few, "--quantise", rule, "--out", str(tmp_path / f"{rule}.jsonl"))
    metrics = [json.loads((tmp_path / f"{rule}.metrics.json").read_text()) for rule in ("threshold", "argmax")]
    valid = [sum(json.loads(line)["valid"] for line in (tmp_path / f"{rule}.jsonl").read_text().splitlines()) for rule in ("threshold", "argmax")]
    assert metrics[0]["validity"] == metrics[1]["validity"] == valid[0] / 200
    assert metrics[1]["quantise"] == "argmax"
    assert valid[1] > valid[0]  # argmax mends rows; its lines say so, the metrics do not


def test_evaluations_are_counted_by_sample(space, denoiser):
    made = Generator(space, denoiser, Sampling(steps=5)).sample(1500, seed=0)  # in three chunks
    assert made.nfe == 5


def test_scale_zero_changes_nothing(space, denoiser):
    generator = Generator(space, denoiser)
    free = generator.sample(32, seed=0).decoded
    for cls in (Table, Relaxed, Noisy):
        assert generator.sample(32, seed=0, steer=Steer.by(CheckedPredictor("p", cls(space)), space, 0.0)).decoded == free


def test_invalid_samples_name_their_reason(space, denoiser):
    """One step is too few, and shows it; nothing is repaired or left out."""
    made = Generator(space, denoiser, Sampling(sampler="euler-maruyama", steps=2)).sample(64, seed=0)
    assert len(made.decoded) == 64 > len(made.archs)
    assert all((item.arch is None) == (item.reason is not None) for item in made.decoded)


def test_metrics_by_hand(space):
    archs = [space.of_operations((3, 0, 0, 3, 0, 0)), space.of_operations((3, 0, 0, 3, 0, 0)), space.of_operations((3, 0, 1, 3, 0, 0))]
    split = CanonicalSplit(0.5)
    trains = [split.trains(space.canonical(arch)) for arch in archs]
    metrics = generation_metrics(archs, 4, space, split)
    assert metrics["validity"] == 3 / 4 and metrics["uniqueness"] == 2 / 3
    assert metrics["uniqueness_canonical"] == len({space.canonical(arch) for arch in archs}) / 3
    assert metrics["novelty"] == ((not trains[0]) + (not trains[2])) / 2
    assert generation_metrics([], 4, space, split)["uniqueness"] is None


def test_split_names(space):
    split = CanonicalSplit.named("canonical-sha256-0.5")
    held_out = np.mean([not split.trains(space.canonical(arch)) for arch in space.enumerate()])
    assert split.name == "canonical-sha256-0.5" and held_out == pytest.approx(0.44256, abs=1e-5)
    assert len(split.training_archs(space)) == 8710
    for name in ("canonical-sha256-0", "canonical-sha256-2", "random-0.5"):
        with pytest.raises(UserError, match="unknown split"):
            CanonicalSplit.named(name)


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--n", "-3"], "'-3' is not a whole number of at least 1"),
        (["--n", "0"], "'0' is not a whole number"),
        (["--sampler", "x"], "unknown sampler 'x'; there are: euler-maruyama, pc, heun, dpmpp"),
        (["--space", "x"], "unknown space 'x'; there are: darts, "),
        (["--quantise", "x"], "unknown quantisation 'x'; there are: threshold, argmax"),
        (["--checkpoint", "absent"], "there is no checkpoint absent"),
        (["--predictor", "meta"], "--predictor needs --dataset"),
        (["--dataset", "cifar10"], "--dataset goes with --predictor"),
        (["--predictor", "x", "--dataset", "cifar10"], "unknown predictor 'x'; there are: clip, flops, gp, meta, meta-only, mlp, "),
        (["--predictor", "meta", "--dataset", "x"], "unknown dataset 'x'; there are: cifar10, cifar100, fashion_mnist"),
        (["--predictor", "meta", "--dataset", "cifar10", "--guidance", "x"], "unknown guidance 'x'; there are: auto, gradient"),
        (["--predictor", "mlp", "--dataset", "cifar10"], "predictor 'mlp' knows only what it was fitted on"),
        (["--trace", "1"], "'1' is not a whole number of at least 2"),
        (["--trace", "22"], "trace 22 is not between 2 and 21, the number of states that 20 steps pass"),
        (["--trace", "9", "--steps", "5"], "trace 9 is not between 2 and 6"),
        (["--trace", "x"], "'x' is not a whole number of at least 2"),
        (["--guidance", "particles"], "--guidance goes with --predictor, which is not given"),
        (["--generator", "x"], "unknown generator 'x'; there are: adversarial, autoregressive, conditional, "),
        (["--generator", "uniform", "--steps", "5"], "generator 'uniform' has no option --steps"),
        (["--generator", "uniform", "--checkpoint", "a.safetensors"], "generator 'uniform' is not trained and has no checkpoint"),
        (["--n", "1e15"], "1000000000000000 samples were asked for; 1 to 10,000,000 are accepted"),
        (["--steps", "1e12"], "'1e12' is not a whole number from 1 to 10,000"),
        (["--out", "."], ". is no name of samples; it has to end in .jsonl"),
        (["--out", "a.csv"], "a.csv is no name of samples; it has to end in .jsonl"),
        (["--space", "torch.nn:Module"], "space 'torch.nn:Module' lacks name, nodes, "),
        (["--space", "nasbench101", "--checkpoint", str(shipped_network("nasbench201", "sde"))], "is a network of space 'nasbench201'"),
        (["--out", "/proc/nowhere/a.jsonl"], "cannot write /proc/nowhere/a.jsonl"),
    ],
)
def test_bad_input(tmp_path, arguments, sentence, capsys, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["generate", "--n", "4", "--out", str(tmp_path / "a.jsonl"), *arguments])
    with pytest.raises(SystemExit) as stop:
        run_command(generate.main)
    assert stop.value.code == 2 and sentence in capsys.readouterr().err
