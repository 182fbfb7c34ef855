"""Predictors that know only the labels of a search: features, quality on the reference table, behaviour."""

from __future__ import annotations

import csv
import gzip
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.stats import kendalltau

from diffnag.arch import Arch, ArchBatch
from diffnag.guidance.checked import CheckedPredictor, load_predictor
from diffnag.predictors.features import graph_features
from diffnag.predictors.mlp import MLPPredictor
from diffnag.search_spaces.nasbench201.space import NASBench201


@pytest.fixture(scope="module")
def labelled(space: NASBench201, data_folder: Path) -> tuple[list[Arch], np.ndarray]:
    """All architectures and their validation accuracies on CIFAR-10 in %."""
    with gzip.open(data_folder / "nas_bench_201.csv.gz", "rt") as file:
        rows = list(csv.DictReader(file))
    return [space.from_str(row["arch_str"]) for row in rows], np.array([float(row["cifar10_val_200"]) for row in rows])


def fitted(name: str, space: NASBench201, archs: list[Arch], y: np.ndarray) -> CheckedPredictor:
    predictor = load_predictor(name, space=space, dataset="cifar10", seed=0)
    predictor.fit(archs, y)
    return predictor


def test_features_count_operators_and_pairs_along_edges() -> None:
    V = torch.tensor([[[1.0, 0], [0, 1], [0, 1], [1, 0]]])  # operators a, b, b, and an absent node
    E = torch.zeros(1, 4, 4)
    E[0, 0, 1] = E[0, 0, 2] = E[0, 1, 2] = E[0, 2, 3] = 1
    (features,) = graph_features(V, E, torch.tensor([[True, True, True, False]]))
    operators, edges, counts, pairs = features.split([8, 6, 2, 4])
    assert operators.tolist() == [1, 0, 0, 1, 0, 1, 0, 0]
    assert edges.tolist() == [1, 1, 0, 1, 0, 0]  # 0-1, 0-2, 0-3, 1-2, 1-3, 2-3
    assert counts.tolist() == [1, 2]
    assert pairs.tolist() == [0, 2, 0, 1]  # a-a, a-b, b-a, b-b


@pytest.mark.parametrize("name", ["random-forest", "mlp", "path-ensemble"])
def test_fifty_labels_rank_the_table(name: str, space: NASBench201, labelled: tuple[list[Arch], np.ndarray]) -> None:
    archs, y = labelled
    taus = []
    for seed in range(3):
        order = np.random.default_rng(seed).permutation(len(y))
        paid, rest = order[:50], order[50:2050]
        predictor = fitted(name, space, [archs[i] for i in paid], y[paid])
        mean, std = predictor.predict([archs[i] for i in rest])
        taus.append(kendalltau(mean, y[rest]).statistic)
        assert y[paid].min() - 1 < mean.mean() < y[paid].max() + 1 and (std > 0).mean() > 0.95
    assert np.mean(taus) > 0.48, taus


def test_mlp_is_more_certain_about_labelled_architectures(space: NASBench201, labelled: tuple[list[Arch], np.ndarray]) -> None:
    archs, y = labelled
    order = np.random.default_rng(0).permutation(len(y))
    seen, rest = ([archs[i] for i in part] for part in (order[:50], order[50:1050]))
    predictor = fitted("mlp", space, seen, y[order[:50]])
    assert predictor.predict(seen)[1].mean() < predictor.predict(rest)[1].mean()


def test_mlp_is_meaningful_for_relaxed_architectures(space: NASBench201, labelled: tuple[list[Arch], np.ndarray]) -> None:
    """Half-way to random architectures it still ranks, and its values stay in the range of those for real architectures."""
    archs, y = labelled
    order = np.random.default_rng(0).permutation(len(y))
    plugin = fitted("mlp", space, [archs[i] for i in order[:50]], y[order[:50]]).predictor
    assert isinstance(plugin, MLPPredictor)
    rest, others = (ArchBatch.of([archs[i] for i in part], space) for part in (order[50:1050], order[1050:2050]))
    with torch.no_grad():
        clean = plugin.forward(rest.V, rest.E, rest.mask)
        half = plugin.forward((rest.V + others.V) / 2, rest.E, rest.mask)
    assert kendalltau(half, y[order[50:1050]]).statistic > 0.25
    assert clean.min() - clean.std() < half.min() and half.max() < clean.max() + clean.std()


def test_one_failure_does_not_dominate_mlp(space: NASBench201) -> None:
    """With one failed training (10 %) among good labels, predictions stay near the good ones."""
    rng = np.random.default_rng(0)
    archs, y = [space.random(rng) for _ in range(20)], rng.normal(90, 1, 20)
    y[0] = 10
    mean, _ = fitted("mlp", space, archs, y).predict([space.random(rng) for _ in range(200)])
    assert mean.min() > 85 and mean.max() < 95


def test_absent_nodes_do_not_matter(space: NASBench201) -> None:
    rng = np.random.default_rng(0)
    archs = [space.random(rng) for _ in range(10)]
    plugin = fitted("mlp", space, archs, np.arange(10.0)).predictor
    assert isinstance(plugin, MLPPredictor)
    batch = ArchBatch.of(archs, space)
    mask = batch.mask.clone()
    mask[:, 5:] = False
    noise = torch.rand(batch.V.shape, generator=torch.Generator().manual_seed(0)) * ~mask[..., None]
    torch.testing.assert_close(plugin.forward(batch.V + noise, batch.E, mask), plugin.forward(batch.V, batch.E, mask))
