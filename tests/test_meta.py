"""The meta-predictor: what it may read, what it is invariant to, how labels change it, and the shipped checkpoints."""

from __future__ import annotations

import json
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch

import predictors.meta as meta_module
from diffnag import cli, train_predictor
from diffnag.arch import ArchBatch, Packing
from diffnag.datasets.sources import Source, imagenet32_tuples, load_sources, normal_scores, sister_tables
from diffnag.datasets.tasks import load_task
from diffnag.errors import DataNotFound, UserError
from diffnag.oracles import table as table_module
from diffnag.predicting import load_predictor
from diffnag.sde import expand_like
from predictors.meta import MetaOnlyPredictor, MetaPredictor, shipped
from predictors.meta_network import CleanNetwork, MetaConfig, TaskEncoder
from predictors.meta_training import whiten

DATASETS = ("cifar10", "cifar100", "ImageNet16-120")


@pytest.fixture
def short(monkeypatch):
    """Trainings of a few steps."""
    for name in ("FEW_STEPS", "MANY_STEPS", "NOISY_STEPS"):
        monkeypatch.setattr(meta_module, name, 3)


@pytest.fixture(scope="module")
def archs(space):
    rng = np.random.default_rng(0)
    return [space.random(rng) for _ in range(300)]


@pytest.fixture(scope="module")
def meta(space):
    return load_predictor("meta", space=space, dataset="cifar10", seed=0)


def quiet(stage: str, step: int, steps: int, loss: float) -> None:
    assert np.isfinite(loss)


# -- sources


def test_sister_tables_leave_the_target_out(space, data_folder, monkeypatch):
    monkeypatch.setenv("DIFFNAG_DATA", str(data_folder))
    sources = sister_tables(space, "cifar10")
    assert [(source.origin, source.dataset, source.labels) for source in sources] == [
        ("nasbench201/cifar100", "cifar100", 31250), ("nasbench201/ImageNet16-120", "ImageNet16-120", 31250),
    ]  # fmt: skip


def test_target_accuracies_are_never_read(space, data_folder, monkeypatch):
    """With every CIFAR-10 accuracy gone, the sources for target cifar10 are the same to the bit."""
    monkeypatch.setenv("DIFFNAG_DATA", str(data_folder))
    before = sister_tables(space, "cifar10")
    whole = table_module.load_table(space)
    blind = replace(whole, values={key: column * (np.nan if key.startswith("cifar10/") else 1) for key, column in whole.values.items()})
    monkeypatch.setattr("diffnag.datasets.sources.load_table", lambda space: blind)
    for one, two in zip(before, sister_tables(space, "cifar10"), strict=True):
        assert np.array_equal(one.values, two.values)


def test_imagenet32_regimes_are_kept_apart(space, data_folder, monkeypatch):
    monkeypatch.setenv("DIFFNAG_DATA", str(data_folder))
    sources = imagenet32_tuples(space)
    assert [(source.origin, source.labels, source.dataset) for source in sources] == [("imagenet32/a", 4152, None), ("imagenet32/b", 478, None)]
    assert all(abs(source.values.mean()) < 1e-9 for source in sources)
    assert [source.origin for source in load_sources("meta-only", space, "cifar10")] == ["imagenet32/a", "imagenet32/b"]


def test_source_errors(space):
    with pytest.raises(UserError, match="unknown transfer protocol 'x'; there are: sister-tables, meta-only"):
        load_sources("x", space, "cifar10")
    with pytest.raises(UserError, match="unknown dataset 'x'; there are: cifar10"):
        load_sources("meta-only", space, "x")
    with pytest.raises(DataNotFound, match="imagenet32_tasks.csv.gz"):
        imagenet32_tuples(space)


def test_normal_scores():
    scores = normal_scores(np.array([3.0, 1.0, 2.0]))
    assert scores[2] == 0
    assert scores[0] == -scores[1] == pytest.approx(0.9674, abs=1e-4)


# -- networks


def test_task_encoder_ignores_order_and_takes_any_size():
    torch.manual_seed(0)
    encoder = TaskEncoder(32)
    torch.nn.init.normal_(encoder.over_classes.query)
    torch.nn.init.normal_(encoder.within_class.query)
    task = torch.randn(7, 5, 64)
    shuffled = task[torch.randperm(7)]
    shuffled = torch.stack([images[torch.randperm(5)] for images in shuffled])
    torch.testing.assert_close(encoder(task), encoder(shuffled))
    assert not torch.allclose(encoder(task), encoder(torch.randn(3, 9, 64)))
    assert encoder(None) is encoder.unknown


def test_whitening_changes_features_and_not_values(space, archs):
    torch.manual_seed(0)
    net = CleanNetwork(space, MetaConfig(width=32, layers=1))
    batch = ArchBatch.of(archs, space)
    embedding = torch.randn(32)

    def answers():
        with torch.no_grad():
            phi = net(batch.V, batch.E, batch.mask, embedding.expand(len(batch), -1))
            return phi, net.value(phi), net.log_variance(phi)

    _, value, variance = answers()
    whiten(net, embedding, space)
    phi, value_after, variance_after = answers()
    torch.testing.assert_close(value_after, value, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(variance_after, variance, atol=1e-4, rtol=1e-4)
    assert phi.mean(0).abs().max() < 0.3
    assert torch.cov(phi.T).diagonal().max() < 1.4


# -- training


def test_train_save_load(space, archs, short, tmp_path):
    values = np.random.default_rng(1).normal(size=len(archs))
    sources = [Source("nasbench201/cifar100", "cifar100", archs, values, 600), Source("imagenet32/a", None, archs[:40], values[:40], 40)]
    one, two = MetaPredictor(), MetaPredictor()
    for predictor in (one, two):
        predictor.meta_fit(sources, space=space, target="cifar10", seed=3, report=quiet)
    one.save(tmp_path / "m.safetensors", target="cifar10", meta={"transfer": "sister-tables"})
    loaded = MetaPredictor()
    loaded.load(tmp_path / "m.safetensors", space=space, dataset="cifar10")
    assert loaded.labels_source == {"nasbench201/cifar100": 600, "imagenet32/a": 40}
    for other in (two, loaded):  # the same seed, the same weights
        assert np.array_equal(one.predict(archs)[0], other.predict(archs)[0])
    with pytest.raises(UserError, match="predicts cifar10 in nasbench201, not cifar100"):
        loaded.load(tmp_path / "m.safetensors", space=space, dataset="cifar100")
    with pytest.raises(UserError, match="a source holds labels of the target cifar100"):
        one.meta_fit(sources, space=space, target="cifar100", seed=0, report=quiet)


def test_command(space, short, tmp_path, data_folder, monkeypatch, capsys):
    monkeypatch.setenv("DIFFNAG_DATA", str(data_folder))
    out = tmp_path / "m.safetensors"
    monkeypatch.setattr(sys, "argv", ["train_predictor", "--target", "cifar100", "--sources", "meta-only", "--out", str(out)])
    train_predictor.main()
    assert "target cifar100, sources: imagenet32/a (4,152 labels), imagenet32/b (478 labels)" in capsys.readouterr().out
    loaded = MetaOnlyPredictor()
    loaded.load(out, space=space, dataset="cifar100")
    assert sum(loaded.labels_source.values()) == 4630


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--target", "x"], "unknown dataset 'x'; there are: cifar10"),
        (["--target", "cifar10", "--sources", "x"], "unknown transfer protocol 'x'"),
        (["--target", "cifar10", "--predictor", "mlp"], "predictor 'mlp' is not meta-learned"),
        (["--target", "cifar10"], "nas_bench_201"),
    ],
)
def test_command_bad_input(arguments, sentence, capsys, monkeypatch, tmp_path):
    monkeypatch.setenv("DIFFNAG_CACHE", str(tmp_path))  # with no table left by another test
    monkeypatch.setattr(sys, "argv", ["train_predictor", "--out", str(tmp_path / "m.safetensors"), *arguments])
    with pytest.raises(SystemExit) as stop:
        cli.run(train_predictor.main)
    assert stop.value.code == 2
    assert sentence in capsys.readouterr().err


# -- what is shipped


@pytest.mark.parametrize("dataset", DATASETS)
@pytest.mark.parametrize("name", ["meta", "meta-only"])
def test_shipped_checkpoints_saw_nothing_of_their_target(space, name, dataset):
    predictor = load_predictor(name, space=space, dataset=dataset, seed=0)
    origins = predictor.labels_source
    if name == "meta":
        assert set(origins) == {f"nasbench201/{other}" for other in DATASETS if other != dataset}
        assert sum(origins.values()) == 62500
    else:
        assert origins == {"imagenet32/a": 4152, "imagenet32/b": 478}
    path = shipped("nasbench201", predictor.predictor.transfer, dataset)
    assert path.stat().st_size < 2e6


def test_unknown_dataset_and_space(space):
    with pytest.raises(UserError, match="unknown dataset 'x'; there are: ImageNet16-120, cifar10, cifar100"):
        load_predictor("meta", space=space, dataset="x", seed=0)


@pytest.mark.parametrize("dataset", DATASETS)
def test_ranks_the_target_that_it_never_saw(space, data_folder, monkeypatch, dataset):
    from scipy.stats import kendalltau

    monkeypatch.setenv("DIFFNAG_DATA", str(data_folder))
    table = table_module.load_table(space)
    mean, std = load_predictor("meta", space=space, dataset=dataset, seed=0).predict([space.from_str(text) for text in table.archs])
    assert kendalltau(mean, table.values[f"{dataset}/test/200"])[0] > 0.83
    assert (std > 0).all()


def test_labels_adapt_mean_and_uncertainty(space, meta, archs):
    """Labels that follow the prior but for one feature: the adapted predictor finds that feature."""
    meta.predictor._forget()
    prior, _, phi = meta.predictor._scores(archs)
    truth = (90 + 2 * (prior + 0.6 * phi[:, 1])).numpy()
    before = np.corrcoef(meta.predict(archs)[0], truth)[0, 1]
    meta.fit(archs[:60], truth[:60])
    mean, std = meta.predict(archs[60:])
    assert np.corrcoef(mean, truth[60:])[0, 1] > max(before, 0.97)
    assert np.abs(mean - truth[60:]).mean() < 0.6
    one, two = meta.predict(archs[60:62])[0], meta.predict(archs[60:62])[0]
    assert np.array_equal(one, two)
    meta.fit(archs[:1], truth[:1])  # a single label only fixes the level
    assert meta.predict(archs[:1])[0][0] == pytest.approx(truth[0])
    assert np.isfinite(std).all()


def test_adapted_guidance_agrees_with_predict(space, meta, archs):
    """At the vertices `forward` is `predict`; at little noise so is `forward_noisy`, with hardly any variance."""
    rng = np.random.default_rng(0)
    meta.fit(archs[:40], rng.normal(size=40) + meta.predictor._scores(archs[:40])[0].numpy())
    mean, _ = meta.predict(archs)
    batch, packing = ArchBatch.of(archs, space), Packing.of(space)
    torch.testing.assert_close(meta.predictor.forward(batch.V, batch.E, batch.mask).double().numpy(), mean, atol=1e-4, rtol=1e-4)
    sde = meta.predictor._noisy.sde
    x0, spread = packing.pack(batch.V, batch.E), mean.std()
    errors = []
    for t in (0.0, 0.95):
        times = torch.full((len(archs),), t)
        alpha, sigma = (expand_like(value, x0) for value in sde.marginal(times))
        x = alpha * x0 + sigma * torch.randn(x0.shape, generator=torch.Generator().manual_seed(0))
        noisy, variance = meta.predictor.forward_noisy(*packing.split(x), batch.mask, times)
        errors.append(((noisy.numpy() - mean) ** 2).mean() / spread**2)
        assert variance.mean().item() / spread**2 == pytest.approx(errors[-1], rel=0.5, abs=0.03)  # it knows what it does not know
    assert errors[0] < 0.05
    assert errors[1] > 0.6
    meta.predictor._forget()


def test_an_item_does_not_depend_on_its_batch(meta, archs):
    meta.predictor._forget()
    np.testing.assert_allclose(meta.predict(archs)[0][5:7], meta.predict(archs[5:7])[0], atol=1e-5)


def test_metadata_names_command_and_seed(space):
    from diffnag.checkpoint import load_checkpoint

    _, about = load_checkpoint(shipped("nasbench201", "sister-tables", "cifar10"), kind="meta-predictor")
    assert about["seed"] == 0
    assert about["command"] == "python -m diffnag.train_predictor --predictor meta --target cifar10 --sources sister-tables"
    json.dumps(about)


def test_task_of_a_known_dataset_is_bound(space):
    assert load_task("cifar10").shape == (10, 20, 64)
    assert load_task("ImageNet16-120") is None
