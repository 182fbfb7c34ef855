"""The meta-predictor: its sources, its invariances, its adaptation to labels, and the shipped checkpoints."""

from __future__ import annotations

import json
import math
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

import diffnag.predictors.meta.predictor as meta_module
from diffnag import train_predictor
from diffnag.arch import Arch, ArchBatch, Packing
from diffnag.command.running import run_command
from diffnag.datasets.drawn_tasks import TaskImages
from diffnag.datasets.sources import OWN_IMAGES, Source, imagenet32_tuples, load_sources, normal_scores, own_measurements, sister_tables
from diffnag.datasets.tasks import TaskFeatures, task_features
from diffnag.errors import DataNotFound, UserError
from diffnag.generators.diffusion.sde import expand_like
from diffnag.guidance.checked import CheckedPredictor, load_predictor
from diffnag.oracles import table as table_module
from diffnag.predictors.meta.network import CleanNetwork, MetaConfig, TaskEncoder, separability
from diffnag.predictors.meta.predictor import MetaOnlyPredictor, MetaPredictor, architecture_features, shipped
from diffnag.predictors.meta.training import LOSSES, Schedule, standardise
from diffnag.search_spaces.nasbench201.space import NASBench201
from diffnag.testing import draws

DATASETS = ("cifar10", "cifar100", "ImageNet16-120")
TASK_IMAGES = TaskImages(np.zeros((4, 16, 16), np.uint8), np.array([0, 0, 1, 1]), np.zeros((2, 16, 16), np.uint8), np.array([0, 1]))


@pytest.fixture
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    """Trainings have only a few steps."""
    for name in ("CLEAN", "NOISY"):
        monkeypatch.setattr(meta_module, name, Schedule(3))
    monkeypatch.setattr("diffnag.predictors.meta.task_process.STEPS", 2)


@pytest.fixture(scope="module")
def archs(space: NASBench201) -> list[Arch]:
    return draws(space, 300)


@pytest.fixture(scope="module")
def meta(space: NASBench201) -> CheckedPredictor:
    return load_predictor("meta", space=space, dataset="cifar10", seed=0)


def quiet(stage: str, step: int, steps: int, loss: float) -> None:
    assert np.isfinite(loss)


# -- sources


def test_sister_tables_leave_the_target_out(space: NASBench201, data_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DIFFNAG_DATA", str(data_folder))
    sources = sister_tables(space, "cifar10")
    assert [(source.origin, source.fidelity, source.labels) for source in sources] == [
        ("nasbench201/cifar100", "table", 31250), ("nasbench201/ImageNet16-120", "table", 31250),
    ]  # fmt: skip
    assert len(sister_tables(space, OWN_IMAGES)) == 3


def test_target_accuracies_are_never_read(space: NASBench201, data_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without any CIFAR-10 accuracy the sources for target cifar10 are the same, bit for bit."""
    monkeypatch.setenv("DIFFNAG_DATA", str(data_folder))
    before = sister_tables(space, "cifar10")
    whole = table_module.load_table(space)
    blind = replace(whole, values={key: column * (np.nan if key.startswith("cifar10/") else 1) for key, column in whole.values.items()})
    monkeypatch.setattr("diffnag.datasets.sources.load_table", lambda space: blind)
    for one, two in zip(before, sister_tables(space, "cifar10"), strict=True):
        assert np.array_equal(one.values, two.values) and np.array_equal(one.better, two.better) and one.reliability == two.reliability


def test_imagenet32_regimes_are_kept_apart(space: NASBench201, data_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DIFFNAG_DATA", str(data_folder))
    sources = imagenet32_tuples(space)
    assert [(source.origin, source.labels) for source in sources] == [("imagenet32/a", 4152), ("imagenet32/b", 478)]
    assert all(abs(source.values.mean()) < 1e-9 and source.task.features is None for source in sources)


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_no_task_of_the_targets_images(space: NASBench201, data_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Tasks are recognised by the images that they use."""
    monkeypatch.setenv("DIFFNAG_DATA", str(data_folder))
    read = []
    monkeypatch.setattr("diffnag.datasets.drawn_tasks.task_images", lambda spec: read.append(spec) or TASK_IMAGES)
    counts = {target: len(own_measurements(space, target)) for target in (*DATASETS, OWN_IMAGES)}
    assert counts["cifar10"] == counts[OWN_IMAGES] >= 200
    assert 80 < counts["cifar100"] < counts["cifar10"]
    read.clear()
    own_measurements(space, "cifar100")
    assert {spec.source for spec in read} == {"tiny_imagenet16", "letters"}
    read.clear()
    own_measurements(space, "ImageNet16-120")
    ids = (data_folder / "images" / "tiny_imagenet_wnids.txt").read_text().split()
    animals = {label for label, wnid in enumerate(ids) if wnid < "n02600"}
    assert animals == set(range(59))
    assert not any(animals & set(spec.classes) for spec in read if spec.source == "tiny_imagenet16")


def test_source_errors(space: NASBench201) -> None:
    with pytest.raises(UserError, match="unknown transfer protocol 'x'; there are: sister-tables, meta-only"):
        load_sources("x", space, "cifar10")
    with pytest.raises(UserError, match="unknown target 'x'; there are: cifar10"):
        load_sources("meta-only", space, "x")
    with pytest.raises(DataNotFound, match="imagenet32_tasks.csv.gz"):
        imagenet32_tuples(space)


def test_normal_scores() -> None:
    scores = normal_scores(np.array([3.0, 1.0, 2.0]))
    assert scores[2] == 0
    assert scores[0] == -scores[1] == pytest.approx(0.9674, abs=1e-4)


# -- networks


def test_task_encoder_ignores_order_and_takes_any_size() -> None:
    torch.manual_seed(0)
    encoder = TaskEncoder(16, "images")
    task = TaskFeatures(torch.randn(7, 5, 64), torch.zeros(4))
    shuffled = task.features[torch.randperm(7)]
    shuffled = TaskFeatures(torch.stack([images[torch.randperm(5)] for images in shuffled]), torch.zeros(4))
    other, unseen = TaskFeatures(torch.randn(3, 9, 64), torch.zeros(4)), TaskFeatures(None, torch.zeros(4))
    encoder.standardise([task, other, unseen])
    how = torch.tensor([1])
    one, two, three, none = (encoder(encoder.inputs(t)[None], how) for t in (task, shuffled, other, unseen))
    torch.testing.assert_close(one, two, atol=1e-4, rtol=1e-4)
    assert not torch.allclose(one, three) and none.isfinite().all()
    for knows in ("nothing", "descriptors"):
        blind = TaskEncoder(16, knows)
        blind.standardise([task, other])
        assert torch.equal(blind(blind.inputs(task)[None], how), blind(blind.inputs(other)[None], how))


def test_separability_is_a_leave_one_out_share() -> None:
    generator = torch.Generator().manual_seed(0)
    apart = torch.arange(4.0)[:, None, None] + 0.05 * torch.randn(4, 10, 8, generator=generator)
    assert separability(apart).item() == pytest.approx(math.log(40.5 / 0.5))
    noise = torch.randn(5, 400, 8, generator=generator)  # there are no classes: a fifth is right by chance
    assert separability(noise).item() == pytest.approx(math.log(0.2 / 0.8), abs=0.25)
    again = torch.cat([apart, apart], dim=1)  # a repeated image does not confirm its own class
    assert torch.equal(separability(again), separability(apart))


@pytest.mark.parametrize("loss", LOSSES)
def test_losses_prefer_the_right_order_and_ignore_unknown_values(loss: str) -> None:
    value, known = torch.tensor([[0.0, 1.0, 2.0, 9.0]]), torch.tensor([[True, True, True, False]])
    right, wrong = torch.tensor([[0.0, 1.0, 2.0, -5.0]]), torch.tensor([[2.0, 1.0, 0.0, -5.0]])
    assert LOSSES[loss](right, value, known) < LOSSES[loss](wrong, value, known)
    for other in (0.0, 100.0):
        moved = right.clone()
        moved[0, 3] = other
        torch.testing.assert_close(LOSSES[loss](moved, value, known), LOSSES[loss](right, value, known))
    shifted = LOSSES[loss](right + 3, value, known)
    torch.testing.assert_close(shifted, LOSSES[loss](right, value, known), atol=1e-5, rtol=1e-5)


def test_listwise_is_the_likelihood_of_the_order() -> None:
    score = torch.tensor([[0.3, -1.0, 2.0]])
    best_first = [2.0, 0.3, -1.0]
    weights = [math.exp(s) for s in best_first]
    expected = -(math.log(weights[0] / sum(weights)) + math.log(weights[1] / sum(weights[1:]))) / 3
    loss = LOSSES["listwise"](score, torch.tensor([[2.0, 1.0, 3.0]]), torch.ones(1, 3, dtype=torch.bool))
    assert loss.item() == pytest.approx(expected)


def test_standardising_changes_no_order(space: NASBench201, archs: list[Arch]) -> None:
    torch.manual_seed(0)
    features = architecture_features(space)(archs)
    net = CleanNetwork(features.shape[1], MetaConfig()).eval()
    embedding = torch.randn(1, 16)

    def answers() -> tuple[torch.Tensor, torch.Tensor]:
        with torch.no_grad():
            phi = net(features, embedding.expand(len(archs), -1))
            return phi, net.value(phi)[:, 0]

    _, before = answers()
    standardise(net, embedding, features)
    phi, after = answers()
    torch.testing.assert_close(after, (before - before.mean()) / before.std(), atol=1e-3, rtol=1e-3)
    assert phi.mean(0).abs().max() < 1e-2
    assert torch.cov(phi.T).diagonal().max() < 1.01


# -- training


@pytest.mark.timeout(120)
def test_train_save_load(space: NASBench201, archs: list[Arch], short: None, tmp_path: Path) -> None:
    values = np.random.default_rng(1).normal(size=len(archs))
    better = np.argsort(np.argsort(-values)) / len(values)
    sources = [
        Source("nasbench201/cifar100", task_features("cifar100"), "table", archs, values, 600, better, 2.0),
        Source("nasbench201/ImageNet16-120", task_features("ImageNet16-120"), "table", archs, values, 600, better, 1.0),
        Source("own measurements", task_features("mnist"), "small", archs[:9], values[:9], 9),
        Source("own measurements", task_features("tiny_imagenet"), "small", archs[9:16], values[9:16], 7),
    ]
    one, two = MetaPredictor(), MetaPredictor()
    for predictor in (one, two):
        predictor.meta_fit(sources, space=space, target="cifar10", seed=3, report=quiet)
    one.save(tmp_path / "m.safetensors", target="cifar10", meta={"transfer": "sister-tables"})
    loaded = MetaPredictor()
    loaded.load(tmp_path / "m.safetensors", space=space, target="cifar10")
    assert loaded.labels_source == {"nasbench201/cifar100": 600, "nasbench201/ImageNet16-120": 600, "own measurements": 16}
    for other in (two, loaded):  # the same seed gives the same weights
        assert np.array_equal(one.predict(archs)[0], other.predict(archs)[0])
    with pytest.raises(UserError, match="predicts cifar10 in nasbench201, not cifar100"):
        loaded.load(tmp_path / "m.safetensors", space=space, target="cifar100")


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_command(
    space: NASBench201, short: None, tmp_path: Path, data_folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("DIFFNAG_DATA", str(data_folder))
    out = tmp_path / "m.safetensors"
    monkeypatch.setattr(sys, "argv", ["train_predictor", "--target", "cifar100", "--sources", "meta-only", "--out", str(out)])
    train_predictor.main()
    assert "target cifar100, sources: imagenet32/a (4,152 labels), imagenet32/b (478 labels), own measurements (1," in capsys.readouterr().out
    loaded = MetaOnlyPredictor()
    loaded.load(out, space=space, target="cifar100")
    assert set(loaded.labels_source) == {"imagenet32/a", "imagenet32/b", "own measurements"}


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--target", "x"], "unknown target 'x'; there are: cifar10"),
        (["--target", "cifar10", "--sources", "x"], "unknown transfer protocol 'x'"),
        (["--target", "cifar10", "--predictor", "mlp"], "predictor 'mlp' is not meta-learned"),
        (["--target", "cifar10"], "nas_bench_201"),
    ],
)
def test_command_bad_input(
    arguments: list[str], sentence: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("DIFFNAG_CACHE", str(tmp_path))  # no table of another test is there
    monkeypatch.setattr(sys, "argv", ["train_predictor", "--out", str(tmp_path / "m.safetensors"), *arguments])
    with pytest.raises(SystemExit) as stop:
        run_command(train_predictor.main)
    assert stop.value.code == 2
    assert sentence in capsys.readouterr().err


# -- shipped checkpoints


@pytest.mark.parametrize("dataset", [*DATASETS, "digits"])
@pytest.mark.parametrize("name", ["meta", "meta-only"])
def test_shipped_checkpoints_saw_nothing_of_their_target(space: NASBench201, name: str, dataset: str) -> None:
    predictor = load_predictor(name, space=space, dataset=dataset, seed=0)
    origins = predictor.labels_source
    measured = {"imagenet32/a", "imagenet32/b", "own measurements"}
    tables = {f"nasbench201/{other}" for other in DATASETS if other != dataset} if name == "meta" else set()
    assert set(origins) == measured | tables
    path = shipped("nasbench201", predictor.predictor.transfer, dataset if dataset in DATASETS else OWN_IMAGES)
    assert path.stat().st_size < 2e6


def test_unknown_dataset_and_space(space: NASBench201) -> None:
    with pytest.raises(UserError, match="unknown dataset 'x'; there are: cifar10, cifar100"):
        load_predictor("meta", space=space, dataset="x", seed=0)


@pytest.mark.parametrize("dataset", DATASETS)
def test_ranks_an_unseen_target(space: NASBench201, data_folder: Path, monkeypatch: pytest.MonkeyPatch, dataset: str) -> None:
    from scipy.stats import kendalltau

    monkeypatch.setenv("DIFFNAG_DATA", str(data_folder))
    table = table_module.load_table(space)
    mean, std = load_predictor("meta", space=space, dataset=dataset, seed=0).predict([space.from_str(text) for text in table.archs])
    assert kendalltau(mean, table.values[f"{dataset}/test/200"])[0] > 0.83
    assert (std > 0).all()


def test_labels_adapt_mean_and_uncertainty(space: NASBench201, meta: CheckedPredictor, archs: list[Arch]) -> None:
    """Labels follow the prior except for one property of the cell, which the adapted predictor finds."""
    prior, _, features = meta.predictor._prior(archs)
    truth = 90 + 2 * (prior + 0.8 * np.sin(features[0][:, 0]) + 0.4 * features[0][:, 1])
    before = np.corrcoef(prior, truth)[0, 1]
    meta.fit(archs[:80], truth[:80])
    mean, std = meta.predict(archs[80:])
    after = np.corrcoef(mean, truth[80:])[0, 1]
    assert 1 - after < (1 - before) / 3
    assert (np.abs(mean - truth[80:]) < 1.645 * std).mean() > 0.8
    one, two = meta.predict(archs[60:62])[0], meta.predict(archs[60:62])[0]
    assert np.array_equal(one, two)
    meta.fit(archs[:1], truth[:1])  # a single label only fixes the level
    assert meta.predict(archs[:1])[0][0] == pytest.approx(truth[0])
    assert np.isfinite(std).all()


def test_adapted_guidance_agrees_with_predict(space: NASBench201, archs: list[Arch]) -> None:
    """With little noise `forward_noisy` gives the mean of `predict` and almost no variance; with much noise its variance is large."""
    meta = load_predictor("meta", space=space, dataset="cifar10", seed=0)
    rng = np.random.default_rng(0)
    meta.fit(archs[:40], 0.3 * rng.normal(size=40) + meta.predictor._prior(archs[:40])[0])
    mean, _ = meta.predict(archs)
    batch, packing = ArchBatch.of(archs, space), Packing.of(space)
    sde = meta.predictor._noisy.sde
    x0, spread = packing.pack(batch.V, batch.E), mean.std()
    errors = []
    for t in (0.0, 0.95):
        times = torch.full((len(archs),), t)
        alpha, sigma = (expand_like(value, x0) for value in sde.marginal(times))
        x = alpha * x0 + sigma * torch.randn(x0.shape, generator=torch.Generator().manual_seed(0))
        noisy, variance = meta.predictor.forward_noisy(*packing.split(x / alpha), batch.mask, (sigma / alpha)[:, 0])
        errors.append(((noisy.numpy() - mean) ** 2).mean() / spread**2)
        assert variance.mean().item() / spread**2 == pytest.approx(errors[-1], rel=0.5, abs=0.1)
    assert errors[0] < 0.1
    assert errors[1] > 0.6


def test_rows_of_one_noise_level_share_a_condition(space: NASBench201) -> None:
    meta = load_predictor("meta", space=space, dataset="cifar10", seed=0)
    n, f = space.nodes, len(space.operators)
    noise = torch.Generator().manual_seed(0)
    V, E = torch.randn(6, n, f, generator=noise), torch.randn(6, n, n, generator=noise)
    there, levels = torch.ones(6, n, dtype=torch.bool), torch.tensor([0.5, 0.5, 0.5, 2.0, 2.0, 2.0])
    together = meta.predictor.forward_noisy(V, E, there, levels)
    for level in (slice(0, 3), slice(3, 6)):
        apart = meta.predictor.forward_noisy(V[level], E[level], there[level], levels[level])
        for one, other in zip(together, apart, strict=True):
            torch.testing.assert_close(one[level], other, atol=1e-5, rtol=1e-4)


def test_an_item_does_not_depend_on_its_batch(space: NASBench201, archs: list[Arch]) -> None:
    meta = load_predictor("meta", space=space, dataset="cifar10", seed=0)
    np.testing.assert_allclose(meta.predict(archs)[0][5:7], meta.predict(archs[5:7])[0], atol=1e-5)


def test_metadata_names_command_and_seed(space: NASBench201) -> None:
    from diffnag.io.checkpoint import load_checkpoint

    _, about = load_checkpoint(shipped("nasbench201", "sister-tables", "cifar10"), kind="meta-predictor")
    assert about["seed"] == 0
    assert about["command"] == "python -m diffnag.train_predictor --predictor meta --target cifar10 --sources sister-tables"
    json.dumps(about)
