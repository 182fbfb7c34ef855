"""Remembered tables of other datasets: scores in closed form, and the scores in shipped checkpoints."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from diffnag.datasets.sources import OWN_IMAGES, Source, _reliability, sister_tables
from diffnag.datasets.tasks import Task, without_images
from diffnag.io.checkpoint import load_checkpoint
from diffnag.predictors.meta.predictor import MetaPredictor, shipped
from diffnag.predictors.meta.recall import Recall
from diffnag.search_spaces.nasbench201.space import NASBench201

TASK = without_images(10, 100, 32, 3)


def table(archs: list[object], better: list[float], reliability: float, values: list[float]) -> Source:
    return Source("t", TASK, "table", archs, np.array(values), 1, np.array(better), reliability)  # type: ignore[arg-type]


def test_scores_are_means_over_classes_and_tables_weighted_by_reliability(space: NASBench201) -> None:
    alone, same = space.of_operations((3, 0, 0, 0, 0, 0)), space.of_operations((3, 0, 1, 0, 0, 0))
    best, unknown = space.of_operations((3,) * 6), space.of_operations((2,) * 6)
    assert space.canonical(alone) == space.canonical(same), "both reach no output"
    archs = [alone, same, best]
    recall = Recall.of([table(archs, [1.0, 0.8, 0.2], 3.0, [-2, 0, 3]), table(archs, [0.6, 0.8, 0.4], 1.0, [0, 0, 1])], space)
    assert recall
    raw = np.array([-0.85, -0.85, -0.25])  # (3 (1.0 + 0.8) / 2 + (0.6 + 0.8) / 2) / 4 and (3 0.2 + 0.4) / 4
    expected = (raw - raw.mean()) / raw.std()
    otherwise = np.array([7.0, 8.0, 9.0, 10.0])
    scores, values = recall([*archs, unknown], otherwise=otherwise)
    assert scores == pytest.approx([*expected, 10.0])
    assert values == pytest.approx(np.array([[-(0.5**0.5)] * 2] * 2 + [[2**0.5] * 2, [10, 10]])), "means of classes are -1, -1, 3 and 0, 0, 1"
    again = Recall.from_tensors(space, recall.tensors)
    assert np.array_equal(again(archs, otherwise=otherwise[:3])[1], values[:3]) and np.array_equal(again.scores, recall.scores)
    assert (torch.diff(recall.keys) > 0).all() and len(recall.keys) == 2


def test_there_is_nothing_to_recall_without_tables(space: NASBench201) -> None:
    assert Recall.of([Source("small", TASK, "small", [], np.zeros(0), 0)], space) is None


def test_reliability_is_signal_to_noise_among_the_best() -> None:
    rng = np.random.default_rng(0)
    signal = rng.normal(size=200_000)
    assert _reliability(signal, signal) == pytest.approx(0.95 / 0.05), "what agrees in all is no more than 19 times as much signal"
    assert _reliability(rng.normal(size=1000), rng.normal(size=1000)) < 0.2
    noises = [_reliability(*(signal + noise * rng.normal(size=(2, len(signal))))) for noise in (0.1, 0.3, 1.0)]
    assert noises[0] > noises[1] > noises[2]


@pytest.mark.parametrize("dataset", ["cifar10", "cifar100", "ImageNet16-120"])
def test_shipped_scores_come_from_the_other_datasets(
    dataset: str, space: NASBench201, data_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DIFFNAG_DATA", str(data_folder))
    tensors, _ = load_checkpoint(shipped(space.name, "sister-tables", dataset), kind="meta-predictor")
    recall = Recall.of(sister_tables(space, dataset), space)
    assert recall and torch.equal(tensors["recall.keys"], recall.keys)
    torch.testing.assert_close(tensors["recall.scores"], recall.scores)
    torch.testing.assert_close(tensors["recall.tables"], recall.tables)


def test_own_images_and_meta_only_recall_nothing(space: NASBench201) -> None:
    for transfer, target in (("sister-tables", OWN_IMAGES), ("meta-only", "cifar10")):
        tensors, _ = load_checkpoint(shipped(space.name, transfer, target), kind="meta-predictor")
        assert not [key for key in tensors if key.startswith("recall.")]


def test_an_architecture_in_no_table_gets_the_networks_score(space: NASBench201) -> None:
    predictor = MetaPredictor()
    predictor.setup(space=space, task=Task("cifar10"), seed=0)
    archs = [space.of_operations((k % 5,) * 6) for k in range(1, 5)]
    remembered = predictor.predict(archs)[0]
    assert predictor._recall
    predictor._recall = Recall(space, predictor._recall.keys[:0], predictor._recall.scores[:0], predictor._recall.tables[:0])
    networks = predictor.predict(archs)[0]
    predictor._recall = None
    assert np.array_equal(predictor.predict(archs)[0], networks) and not np.allclose(remembered, networks)
