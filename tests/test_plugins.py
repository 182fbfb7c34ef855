"""Names and dotted paths to classes, and what is said of predictors that break their contract."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from importlib.metadata import EntryPoints
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from diffnag import plugins
from diffnag.arch import Arch
from diffnag.errors import DataNotFound, PredictorError, UserError
from diffnag.guidance.checked import CheckedPredictor, load_predictor
from diffnag.predictors.random_forest import RandomForestPredictor
from diffnag.search_spaces.nasbench201.space import NASBench201
from diffnag.spaces.loading import load_space

PLUGIN = '''
class Good:
    """`fit` and `predict`, no more."""
    def fit(self, archs, y):
        self.mean = y.mean()
    def predict(self, archs):
        import numpy as np
        return np.full(len(archs), self.mean), np.ones(len(archs))

class Unfit:
    def predict(self, archs): ...

class Needy(Good):
    def __init__(self, size): ...

class Prior(Good):
    labels_source = {"elsewhere": 12}
    def setup(self, *, space, task, seed):
        self.mean = float(seed)

class NoTask(Good):
    def setup(self, *, space, task, seed):
        from diffnag.errors import unknown
        raise unknown("dataset", task.name, ["svhn"])

class Clumsy(Good):
    def setup(self, *, space, task, seed):
        raise IndexError("off by one")
'''

@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """Name of a module of plug-ins in the current folder."""
    (tmp_path / "my_plugins.py").write_text(PLUGIN)
    (tmp_path / "my_broken.py").write_text("import no_such_package\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.delitem(sys.modules, "my_plugins", raising=False)
    return "my_plugins"


@pytest.fixture
def archs(space: NASBench201) -> list[Arch]:
    rng = np.random.default_rng(0)
    return [space.random(rng) for _ in range(4)]


def load(name: str, space: NASBench201) -> CheckedPredictor:
    return load_predictor(name, space=space, dataset="cifar10", seed=7)


# -- names and paths


def test_an_installation_that_is_older_than_the_code_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plugins, "registered", lambda: EntryPoints([]))
    with pytest.raises(UserError, match="no method is registered: diffnag was installed before this version"):
        plugins.load_class("method", "random")


def test_registered_names() -> None:
    assert {"darts", "mobilenetv3", "nasbench101", "nasbench201", "transnasbench101-micro", "transnasbench101-macro"} <= set(plugins.names("space"))
    assert {"random-forest", "mlp", "meta", "meta-only", "naswot", "synflow", "zen", "params", "flops"} <= set(plugins.names("predictor"))
    assert {"table", "surrogate"} <= set(plugins.names("oracle"))
    assert isinstance(load_space("nasbench201"), NASBench201)
    assert plugins.load_class("predictor", "random-forest") is RandomForestPredictor


def test_dotted_path_from_the_current_folder(module: str, space: NASBench201, archs: list[Arch]) -> None:
    predictor = load(f"{module}:Good", space)
    assert not predictor.knows_something and predictor.labels_source == {}
    predictor.fit(archs, np.array([1, 2, 3, 6]))
    mean, std = predictor.predict(archs[:2])
    assert predictor.knows_something and mean.tolist() == [3, 3] and std.tolist() == [1, 1]


def test_a_prior_is_set_up_and_knows_something(module: str, space: NASBench201, archs: list[Arch]) -> None:
    predictor = load(f"{module}:Prior", space)
    assert predictor.knows_something and predictor.labels_source == {"elsewhere": 12}
    assert predictor.predict(archs)[0].tolist() == [7] * 4


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("no-such", r"unknown predictor 'no-such'; there are: .*mlp, .*, or a dotted path package.module:Class"),
        ("no_such_module:Good", r"importing 'no_such_module' failed: ModuleNotFoundError"),
        ("my_broken:Good", r"importing 'my_broken' failed: ModuleNotFoundError: No module named 'no_such_package'"),
        ("my_plugins:Bad", r"my_plugins has no class 'Bad'; it has: Good, Unfit, Needy, Prior, NoTask, Clumsy"),
        ("my_plugins:Unfit", r"predictor 'my_plugins:Unfit' lacks fit; every predictor must offer fit, predict"),
        ("my_plugins:Needy", r"predictor 'my_plugins:Needy' cannot be made without arguments: .*'size'"),
        ("my_plugins:NoTask", r"^unknown dataset 'cifar10'; there are: svhn$"),
        ("my_plugins:Clumsy", r"predictor 'my_plugins:Clumsy' .*: setup raised IndexError: off by one"),
    ],
)
def test_what_cannot_be_loaded_is_said_in_a_sentence(module: str, space: NASBench201, name: str, sentence: str) -> None:
    with pytest.raises(UserError, match=sentence) as caught:
        load(name, space)
    assert "\n" not in str(caught.value)


# -- answers


class Answers:
    """A predictor that predicts whatever it was given."""

    def __init__(self, answer: Any) -> None:
        self.answer = answer

    def fit(self, archs: Sequence[Arch], y: np.ndarray) -> None:
        y[:] = 0
        raise self.answer

    def predict(self, archs: Sequence[Arch]) -> tuple[np.ndarray, np.ndarray]:
        if isinstance(self.answer, BaseException):
            raise self.answer
        return self.answer


ONES = np.ones(4)


@pytest.mark.parametrize(
    ("answer", "sentence"),
    [
        ((np.array([1, np.nan, 1, 1]), ONES), "a mean with 1 NaN or infinite values"),
        ((ONES, ONES * np.inf), "a std with 4 NaN or infinite values"),
        ((ONES[:3], ONES), r"a mean of shape \(3,\)"),
        ((ONES, ONES[:, None]), r"a std of shape \(4, 1\)"),
        ((ONES, -ONES), "a negative std"),
        (ONES, "a ndarray that is no pair of number arrays"),
        (None, "a NoneType that is no pair"),
        ((ONES, ["a"] * 4), "a tuple that is no pair of number arrays"),
        ((torch.ones(4, requires_grad=True), ONES), "a tuple that is no pair of number arrays"),
    ],
)
def test_bad_answers_are_refused_by_name(archs: list[Arch], answer: Any, sentence: str) -> None:
    with pytest.raises(PredictorError, match=rf"predictor 'mine' \(.*\.Answers\): predict returned {sentence}.*shape \(4,\)"):
        CheckedPredictor("mine", Answers(answer)).predict(archs)


class Guesses(Answers):
    """A predictor whose quantiles are whatever it was given."""

    def quantiles(self, archs: Sequence[Arch], levels: Sequence[float]) -> np.ndarray:
        return self.answer


@pytest.mark.parametrize("answer", [np.array([ONES, -ONES]), np.array([ONES, ONES * np.nan]), np.ones((2, 3)), [["a"] * 4] * 2, None])
def test_bad_quantiles_are_refused_by_name(archs: list[Arch], answer: Any) -> None:
    with pytest.raises(PredictorError, match=r"\.Guesses\): quantiles returned something else; accepted is an array of shape \(2, 4\), finite"):
        CheckedPredictor("mine", Guesses(answer)).quantiles(archs, (0.2, 0.8))
    assert CheckedPredictor("mine", Guesses([[0] * 4, [1] * 4])).quantiles(archs, (0.2, 0.8)).tolist() == [[0.0] * 4, [1.0] * 4]  # type: ignore[union-attr]
    assert CheckedPredictor("mine", Guesses(answer)).quantiles([], (0.2, 0.8)).shape == (2, 0), "as `predict`, it is not asked about nothing"  # type: ignore[union-attr]
    assert CheckedPredictor("mine", Answers(answer)).quantiles(archs, (0.2, 0.8)) is None


@pytest.mark.parametrize("error", [ZeroDivisionError("one"), DataNotFound("two")])
def test_what_a_predictor_raises_names_it(archs: list[Arch], error: Exception) -> None:
    predictor, y = CheckedPredictor("mine", Answers(error)), np.arange(4.0)
    fault = f"{type(error).__name__}: {error}"
    with pytest.raises(PredictorError, match=f"Answers.*: predict raised {fault}"):
        predictor.predict(archs)
    with pytest.raises(PredictorError, match=f"Answers.*: fit raised {fault}"):
        predictor.fit(archs, y)
    assert not predictor.knows_something
    assert y.tolist() == [0, 1, 2, 3], "a plug-in does not get at our labels"


def test_interrupts_pass(archs: list[Arch]) -> None:
    with pytest.raises(KeyboardInterrupt):
        CheckedPredictor("mine", Answers(KeyboardInterrupt())).predict(archs)


def test_answers_become_float64_arrays(archs: list[Arch]) -> None:
    mean, std = CheckedPredictor("mine", Answers(([1, 2, 3, 4], torch.zeros(4)))).predict(archs)
    assert mean.dtype == std.dtype == np.float64 and mean.tolist() == [1, 2, 3, 4] and std.tolist() == [0] * 4
    assert [part.shape for part in CheckedPredictor("mine", Answers(None)).predict([])] == [(0,), (0,)]


# -- the list


def test_list_names_what_there_is() -> None:
    printed = subprocess.run([sys.executable, "-m", "diffnag.list"], capture_output=True, text=True, check=True).stdout
    for word in ("nasbench201", "cifar10", "random-forest", "surrogate", "dpmpp", "tasks.safetensors"):
        assert word in printed
