"""What a network learns: values of losses and scores, and model files that know their task."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.metrics import average_precision_score, mean_absolute_error, r2_score, root_mean_squared_error

from diffnag.datasets.images import ImageDataset
from diffnag.datasets.images.groups import groups_of
from diffnag.errors import UserError
from diffnag.networks.classifier_file import Classifier, Description, export_onnx, load_model, save_model
from diffnag.networks.plan import Skeleton
from diffnag.networks.targets import TARGETS, Classification, MultiLabel, Regression, average_precision, target_class
from diffnag.search_loop.finish.judging import scored
from diffnag.spaces.loading import load_space
from tests.test_training import images

RNG = np.random.default_rng(0)


def test_the_registry_names_each_task() -> None:
    assert list(TARGETS) == ["classification", "regression", "multi-label"]
    with pytest.raises(UserError, match="regression"):
        target_class("ranking")


def test_r2_is_that_of_scikit_learn() -> None:
    y = RNG.normal(size=(50, 3)) * [1, 100, 1e-3] + [0, 5000, 1]
    for noise in (0.1, 0.5, 1.2):
        found = y + noise * y.std(0) * RNG.normal(size=y.shape)
        score = Regression.of(y).score(torch.from_numpy(found), torch.from_numpy(y))
        assert score == pytest.approx(max(-100, 100 * r2_score(y, found)), abs=1e-6)
        figures = Regression.of(y).figures(torch.from_numpy(found), torch.from_numpy(y), "abc")
        assert figures["RMSE of b"] == pytest.approx(root_mean_squared_error(y[:, 1], found[:, 1]))
        assert figures["MAE of c"] == pytest.approx(mean_absolute_error(y[:, 2], found[:, 2]))
    plain = torch.from_numpy(y)
    target = Regression.of(y)
    assert target.score(plain, plain) == 100 and target.score(plain.mean(0).expand_as(plain), plain) == pytest.approx(0, abs=1e-6)
    assert target.score(plain * 1e6, plain) == -100  # a number that says nothing may not disturb a search
    assert target.score(plain[:1], plain[:1]) == -100  # nothing varies


def test_regression_standardises() -> None:
    y = np.array([[1.0, 7.0], [3.0, 7.0]])
    target = Regression.of(y)
    assert target == Regression((2.0, 7.0), (1.0, 1.0)) and target.unit == 8
    outputs = torch.tensor([[-1.0, 0.0], [1.0, 0.0]])
    assert torch.equal(target.answer(outputs), torch.from_numpy(y).float())
    assert target.loss(outputs, torch.from_numpy(y).float(), smoothing=0.1).item() == 0
    assert target.loss(outputs + 2, torch.from_numpy(y).float(), smoothing=0).item() == pytest.approx(1.5)
    assert target.loss(outputs + 0.5, torch.from_numpy(y).float(), smoothing=0).item() == pytest.approx(0.125)
    assert target.decode(target.answer(outputs), ["a", "b"]) == [{"a": 1.0, "b": 7.0}, {"a": 3.0, "b": 7.0}]
    assert Regression.of(y[:, :1]).decode(torch.tensor([[1.5]]), ["a"]) == [1.5]


@pytest.mark.parametrize("levels", [1000, 5, 1])
def test_average_precision_is_that_of_scikit_learn(levels: int) -> None:
    for seed in range(20):
        rng = np.random.default_rng(seed)
        scores, labels = rng.integers(levels, size=60) / levels, rng.integers(0, 2, 60)
        assert average_precision(scores, labels) == pytest.approx(average_precision_score(labels, scores))


def test_labels_that_no_image_has_do_not_count() -> None:
    outputs, y = torch.randn(40, 3), torch.randint(0, 2, (40, 3)).float()
    y[:, 1] = 0
    wanted = np.mean([average_precision_score(y[:, k], outputs[:, k]) for k in (0, 2)])
    assert MultiLabel().score(outputs, y) == pytest.approx(100 * wanted)
    assert MultiLabel().score(outputs, y * 0) == 0


def test_multi_label_loss_and_names() -> None:
    target, zero = MultiLabel(), torch.zeros(2, 2)
    y = torch.tensor([[1.0, 0.0], [0.0, 0.0]])
    assert target.loss(zero, y, smoothing=0.2).item() == pytest.approx(math.log(2))
    large = torch.tensor([[9.0, -9.0], [-9.0, -9.0]])
    assert target.loss(large, y, smoothing=0).item() == pytest.approx(math.log1p(math.exp(-9)), rel=1e-2)
    assert target.decode(large, ["cat", "dog"]) == [("cat",), ()]
    assert target.figures(large, 1 - y, ["cat", "dog"]) == {"share of labels right": 0.0}


def test_classification_is_what_it_was() -> None:
    outputs, y = torch.randn(30, 4), torch.randint(0, 4, (30,))
    target = Classification()
    assert target.loss(outputs, y, smoothing=0.1).item() == torch.nn.functional.cross_entropy(outputs, y, label_smoothing=0.1).item()
    assert target.score(outputs, y) == 100 * (outputs.argmax(1) == y).float().mean().item()


def test_groups_share_similar_labels() -> None:
    assert groups_of(np.array([2, 0, 1])).tolist() == [2, 0, 1]
    numbers = groups_of(RNG.normal(size=(100, 2)))
    assert np.bincount(numbers).tolist() == [20] * 5
    y = np.array([[1, 0], [1, 1], [1, 0], [0, 0]], np.float32)
    assert groups_of(y).tolist() == [0, 1, 0, 2]  # the rarest label, and none


# -- files


def model_of(target: Regression | MultiLabel | Classification, *, inputs: tuple[int, int, int] | None = None, k: int = 2) -> Classifier:
    space = load_space("nasbench201")
    skeleton, names = Skeleton(4, 1, inputs=inputs), tuple("abcdef"[:k])
    channels = inputs[0] if inputs else 3
    described = Description("nasbench201", space.resnet_like, skeleton, names, 8, (0.5,) * channels, (2.0,) * channels, target)
    torch.manual_seed(0)
    network = skeleton.build(space.from_str(space.resnet_like), space, num_classes=k, image_size=8)
    return Classifier(network, described).eval()


@pytest.mark.parametrize("inputs", [None, (12, 6, 8), (3, 1, 40)])
@pytest.mark.parametrize("target", [Classification(), MultiLabel(), Regression((5000.0, -1.0), (300.0, 2.0))])
def test_files_keep_task_and_shape(tmp_path: Path, target: Regression, inputs: tuple[int, int, int] | None) -> None:
    model = model_of(target, inputs=inputs)
    save_model(tmp_path / "model.pt", model, about={})
    loaded = load_model(tmp_path / "model.pt")
    assert loaded.description == model.description
    x = torch.rand(3, *model.description.shape)
    assert torch.equal(loaded(x), model(x))
    given = (x.permute(0, 2, 3, 1) * 255).byte().numpy() if inputs is None else x.numpy()
    answers = loaded.predict(given)
    wanted = {"classification": str, "multi-label": tuple, "regression": dict}[target.task]
    assert len(answers) == 3 and all(isinstance(answer, wanted) for answer in answers)
    assert export_onnx(tmp_path / "model.onnx", model) <= 1e-4
    import onnx

    facts = {entry.key: entry.value for entry in onnx.load(tmp_path / "model.onnx").metadata_props}
    assert facts["task"] == target.task and facts["outputs"]


def test_numbers_are_in_their_own_unit() -> None:
    target = Regression((5000.0, -1.0), (300.0, 2.0))
    model, raw = model_of(target), model_of(Classification())
    x = torch.rand(4, 3, 8, 8)
    with torch.no_grad():
        torch.testing.assert_close(model(x), raw(x) * torch.tensor([300.0, 2.0]) + torch.tensor([5000.0, -1.0]))


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"task": "ranking"}, "task is 'ranking'"),
        ({"target": {"mean": [1.0, 2.0]}}, "target has mean; accepted are mean and std, each of 2 numbers"),
        ({"target": {"mean": [1.0], "std": [1.0]}}, "each of 2 numbers"),
        ({"target": {"mean": [1.0, math.nan], "std": [1.0, 1.0]}}, "each of 2 numbers"),
        ({"mean": (0.0,) * 4}, "accepted is 12 finite numbers"),
    ],
)
def test_damaged_files_are_refused(tmp_path: Path, change: dict[str, object], why: str) -> None:
    path = tmp_path / "model.pt"
    save_model(path, model_of(Regression((0.0, 0.0), (1.0, 1.0)), inputs=(12, 6, 8)), about={})
    torch.save({**torch.load(path, weights_only=True), **change}, path)
    with pytest.raises(UserError) as caught:
        load_model(path)
    assert why in str(caught.value) and "\n" not in str(caught.value)


def test_the_interval_of_a_score_holds_it() -> None:
    data: ImageDataset = images(n=60)
    y = data.train.x.mean((1, 2, 3))[:, None].astype(np.float32)
    part = type(data.train)(data.train.x, np.concatenate([y, -y], 1))
    found = scored(model_of(Regression.of(part.y)), part)
    assert found is not None and found.interval is not None and found.interval[0] <= found.value <= found.interval[1] <= 1
    assert found.measure == "R2" and set(found.figures) == {"RMSE of a", "RMSE of b", "MAE of a", "MAE of b"}
    assert scored(model_of(Classification()), data.train) is None
