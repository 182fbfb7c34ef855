"""Checked access to plug-in predictors: whatever breaks in one is told by the name of its class."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from diffnag.errors import PredictorError, UserError
from diffnag.plugins import make_predictor
from diffnag.protocols import HasPrior, NeedsSetup

if TYPE_CHECKING:
    from diffnag.arch import Arch
    from diffnag.protocols import Predictor, SearchSpace


class CheckedPredictor:
    """A plug-in predictor whose every answer is checked.

    `name` is what the user called it, `predictor` the plug-in itself, for guidance to look for more than `predict`.
    """

    def __init__(self, name: str, predictor: Predictor) -> None:
        self.name = name
        self.predictor = predictor
        self._fitted = False

    @property
    def has_prior(self) -> bool:
        """Whether it knows something before any label of the target."""
        return isinstance(self.predictor, HasPrior)

    @property
    def prior_labels(self) -> float:
        """Labels of a search that its prior is good for: 0 without one, infinite where the plug-in does not tell."""
        return float(getattr(self.predictor, "prior_labels", np.inf)) if self.has_prior else 0.0

    @property
    def knows_something(self) -> bool:
        """Whether `predict` may be asked: it has a prior, or was fitted."""
        return self._fitted or self.has_prior

    @property
    def labels_source(self) -> dict[str, int]:
        """Origin -> number of source labels behind the predictor; empty without a prior."""
        return dict(self.predictor.labels_source) if isinstance(self.predictor, HasPrior) else {}

    def fit(self, archs: Sequence[Arch], y: np.ndarray) -> None:
        """Learn from all labels so far, `y (m,)`; raises `PredictorError` where the plug-in does not manage to."""
        y = np.array(y, dtype=np.float64)  # a copy: the plug-in may not change ours
        try:
            self.predictor.fit(archs, y)
        except Exception as error:  # a plug-in may fail in any way; Ctrl-C is no Exception and passes
            raise self._failed("fit", error) from error
        self._fitted = self._fitted or len(archs) > 0

    def predict(self, archs: Sequence[Arch]) -> tuple[np.ndarray, np.ndarray]:
        """Mean and standard deviation, float64 `(b,)` each, finite, the latter at least 0; else `PredictorError`."""
        if not archs:
            return np.empty(0), np.empty(0)
        try:
            answer = self.predictor.predict(archs)
        except Exception as error:
            raise self._failed("predict", error) from error
        try:
            mean, std = (np.asarray(part, dtype=np.float64) for part in answer)
        except (TypeError, ValueError, RuntimeError) as error:
            raise self._refused(f"a {type(answer).__name__} that is no pair of number arrays", len(archs)) from error
        for part, values in (("mean", mean), ("std", std)):
            if values.shape != (len(archs),):
                raise self._refused(f"a {part} of shape {values.shape}", len(archs))
            if not np.isfinite(values).all():
                raise self._refused(f"a {part} with {(~np.isfinite(values)).sum()} NaN or infinite values", len(archs))
        if (std < 0).any():
            raise self._refused("a negative std", len(archs))
        return mean, std

    def _setup(self, *, space: SearchSpace, dataset: str, seed: int) -> None:
        if isinstance(predictor := self.predictor, NeedsSetup):
            try:
                predictor.setup(space=space, dataset=dataset, seed=seed)
            except UserError:
                raise  # a dataset it does not know, a file that is not there: said by the plug-in itself
            except Exception as error:
                raise self._failed("setup", error) from error

    def _failed(self, method: str, error: Exception) -> PredictorError:
        return PredictorError(f"predictor {self._class}: {method} raised {type(error).__name__}: {error}")

    def _refused(self, what: str, count: int) -> PredictorError:
        return PredictorError(
            f"predictor {self._class}: predict returned {what}; "
            f"accepted is (mean, std), two arrays of shape ({count},), finite, with std >= 0"
        )

    @property
    def _class(self) -> str:
        cls = type(self.predictor)
        return f"{self.name!r} ({cls.__module__}.{cls.__qualname__})"


def load_predictor(name: str, *, space: SearchSpace, dataset: str, seed: int) -> CheckedPredictor:
    """Make the predictor behind a registered name or dotted path and set it up for `dataset`, where it has a `setup`.

    Raises `UserError` for an unknown name and for what `setup` itself calls a user's mistake, else `PredictorError`.
    """
    checked = CheckedPredictor(name, make_predictor(name))
    checked._setup(space=space, dataset=dataset, seed=seed)
    return checked
