"""The wrapper around a plug-in predictor: every answer is checked, and every failure names the class of the predictor."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from torch import Tensor, is_grad_enabled, isfinite, nn

from diffnag.datasets.tasks import Task
from diffnag.errors import PredictorError, UserError, type_and_line
from diffnag.plugins import make_predictor
from diffnag.protocols import HasPrior, HasQuantiles, NeedsSetup, NoisyPredictor, RelaxedPredictor

if TYPE_CHECKING:
    from diffnag.arch import Arch
    from diffnag.datasets.images import ImageDataset
    from diffnag.protocols import Predictor, SearchSpace

LARGEST = 1e30
"""Predictions beyond this would overflow where they are squared or exponentiated."""
ROUNDING = 1e-9
"""How far, as a share, quantiles may descend."""
SIGNATURES = {"setup": ("task", "setup(self, *, space, task, seed)"), "forward_noisy": ("noise", "forward_noisy(self, V, E, mask, noise)")}
"""Method -> the argument that it must have, and its signature."""


class CheckedPredictor:
    """A plug-in predictor whose every answer is checked.

    Args:
        name: What the user called it.
        predictor: The plug-in. A `setup` or `forward_noisy` with the signature of an older version is refused by a `UserError`.
        space: Where it was set up, if it was: `check_for` then refuses another one.
        dataset: What it was set up for, if it was.
    """

    def __init__(self, name: str, predictor: Predictor, *, space: SearchSpace | None = None, dataset: str | None = None) -> None:
        self.name = name
        self.predictor = predictor
        self._space, self._dataset = space, dataset
        self._fitted = False
        for method, (argument, signature) in SIGNATURES.items():
            if hasattr(predictor, method) and not _takes(getattr(predictor, method), argument):
                raise UserError(f"predictor {self._class}: {method} has no argument {argument!r}; it must be {signature}")

    # -- what it can do

    @property
    def has_prior(self) -> bool:
        """Whether it can predict before any label of the target."""
        return isinstance(self.predictor, HasPrior)

    @property
    def prior_labels(self) -> float:
        """Labels of a search that its prior is good for: 0 without a prior, infinite without such an attribute."""
        if not self.has_prior:
            return 0.0
        value = getattr(self.predictor, "prior_labels", np.inf)
        if not isinstance(value, int | float | np.number) or not value >= 0:
            raise PredictorError(f"predictor {self._class}: prior_labels is {value!r}; accepted is a number of at least 0")
        return float(value)

    @property
    def knows_something(self) -> bool:
        """Whether `predict` may be called: it has a prior, or was fitted."""
        return self._fitted or self.has_prior

    @property
    def labels_source(self) -> dict[str, int]:
        """Origin -> number of source labels behind the predictor; empty without a prior."""
        if not isinstance(self.predictor, HasPrior):
            return {}
        found = self._call("labels_source", lambda: self.predictor.labels_source)  # type: ignore[attr-defined]
        if not isinstance(found, Mapping) or not all(isinstance(key, str) and _is_count(count) for key, count in found.items()):
            raise PredictorError(f"predictor {self._class}: labels_source is {found!r}; accepted is a mapping of names to whole numbers")
        return {key: int(count) for key, count in found.items()}

    @property
    def is_noisy(self) -> bool:
        """Whether it is noise-aware: it has `forward_noisy`."""
        return isinstance(self.predictor, NoisyPredictor)

    @property
    def is_relaxed(self) -> bool:
        """Whether it is differentiable on relaxed architectures: it has a `forward` of its own."""
        inherited = isinstance(self.predictor, nn.Module) and type(self.predictor).forward is nn.Module.forward  # which only raises
        return isinstance(self.predictor, RelaxedPredictor) and not inherited

    def check_for(self, space: SearchSpace, dataset: str | None = None) -> None:
        """Raise `UserError` where it was set up in another space or for another dataset than `dataset`, if one is given."""
        if self._space is not None and self._space.name != space.name:
            raise UserError(f"predictor {self.name!r} was set up in space {self._space.name!r}, not in {space.name!r}; load it again")
        if dataset is not None and self._dataset is not None and self._dataset != dataset:
            raise UserError(f"predictor {self.name!r} was set up for dataset {self._dataset!r}, not for {dataset!r}; load it again")

    # -- what it is asked

    def fit(self, archs: Sequence[Arch], y: np.ndarray) -> None:
        """Learn from all labels so far, `y (m,)`; raises `PredictorError` where the plug-in fails."""
        y = np.array(y, dtype=np.float64)  # a copy: the plug-in may not change ours
        self._call("fit", lambda: self.predictor.fit(archs, y))
        self._fitted = self._fitted or len(archs) > 0

    def predict(self, archs: Sequence[Arch]) -> tuple[np.ndarray, np.ndarray]:
        """Mean and standard deviation, float64 `(b,)` each, finite, the latter at least 0; else `PredictorError`."""
        if not archs:
            return np.empty(0), np.empty(0)
        answer = self._call("predict", lambda: self.predictor.predict(archs))
        try:
            mean, std = (np.asarray(part, dtype=np.float64) for part in answer)
        except (TypeError, ValueError, RuntimeError) as error:
            raise self._refused(f"a {type(answer).__name__} that is no pair of number arrays", len(archs)) from error
        for part, values in (("mean", mean), ("std", std)):
            if values.shape != (len(archs),):
                raise self._refused(f"a {part} of shape {values.shape}", len(archs))
            if not np.isfinite(values).all():
                raise self._refused(f"a {part} with {(~np.isfinite(values)).sum()} NaN or infinite values", len(archs))
            if (np.abs(values) > LARGEST).any():
                raise self._refused(f"a {part} as large as {np.abs(values).max():.3g}", len(archs))
        if (std < 0).any():
            raise self._refused("a negative std", len(archs))
        return mean, std

    def quantiles(self, archs: Sequence[Arch], levels: Sequence[float]) -> np.ndarray | None:
        """Quantiles, float64 `(levels, b)`, finite and ascending, else `PredictorError`; None of a plug-in without them."""
        predictor = self.predictor
        if not isinstance(predictor, HasQuantiles):
            return None
        if not archs:
            return np.empty((len(levels), 0))
        found = self._call("quantiles", lambda: np.asarray(predictor.quantiles(archs, levels)))
        shape = len(levels), len(archs)
        numbers = found.shape == shape and found.dtype.kind in "fiu" and np.isfinite(found).all()
        if not numbers or (np.diff(found, axis=0) < -ROUNDING * np.abs(found[1:])).any():
            what = f"accepted is an array of shape {shape}, finite, ascending along the levels"
            raise PredictorError(f"predictor {self._class}: quantiles returned something else; {what}")
        return np.asarray(found, dtype=np.float64)

    def forward(self, V: Tensor, E: Tensor, mask: Tensor) -> Tensor:
        """Mean `(b,)` of relaxed architectures, differentiable; see `RelaxedPredictor`. Raises `PredictorError`."""
        answer = self._call("forward", lambda: self.predictor.forward(V, E, mask))  # type: ignore[attr-defined]
        return self._tensor(answer, "forward", V)

    def forward_noisy(self, V: Tensor, E: Tensor, mask: Tensor, noise: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and variance `(b,)` given noisy architectures, differentiable; see `NoisyPredictor`. Raises `PredictorError`."""
        answer = self._call("forward_noisy", lambda: self.predictor.forward_noisy(V, E, mask, noise=noise))  # type: ignore[attr-defined]
        if not isinstance(answer, tuple | list) or len(answer) != 2:
            raise PredictorError(f"predictor {self._class}: forward_noisy returned a {type(answer).__name__}; accepted is (mean, variance)")
        mean, variance = answer
        return self._tensor(mean, "forward_noisy", V), self._tensor(variance, "forward_noisy", V, differentiable=False)

    # -- how

    def _setup(self, *, space: SearchSpace, task: Task, seed: int) -> None:
        if isinstance(predictor := self.predictor, NeedsSetup):
            self._call("setup", lambda: predictor.setup(space=space, task=task, seed=seed))
        self._space, self._dataset = space, task.name

    def _call(self, method: str, call: Callable[[], Any]) -> Any:
        """The plug-in's answer. A `UserError` of its `setup` passes, such as an unknown dataset; so does Ctrl-C of any method."""
        try:
            return call()
        except (Exception, SystemExit) as error:  # a plug-in may fail in any way, and may not end the process either
            if method == "setup" and isinstance(error, UserError):
                raise
            raise PredictorError(f"predictor {self._class}: {method} raised {type_and_line(error)}") from error

    def _tensor(self, value: Any, method: str, V: Tensor, *, differentiable: bool = True) -> Tensor:
        b = len(V)
        if not isinstance(value, Tensor) or value.shape != (b,) or not isfinite(value).all() or (value.abs() > LARGEST).any():
            found = f"shape {tuple(value.shape)}" if isinstance(value, Tensor) else type(value).__name__
            raise PredictorError(f"predictor {self._class}: {method} must return finite tensors of shape ({b},), got {found}")
        if differentiable and is_grad_enabled() and V.requires_grad and not value.requires_grad:
            raise PredictorError(f"predictor {self._class}: {method} returned a tensor without a gradient; it must be differentiable in V and E")
        return value

    def _refused(self, what: str, count: int) -> PredictorError:
        return PredictorError(
            f"predictor {self._class}: predict returned {what}; "
            f"accepted is (mean, std), two arrays of shape ({count},), finite, at most {LARGEST:g}, with std >= 0"
        )

    @property
    def _class(self) -> str:
        cls = type(self.predictor)
        return f"{self.name!r} ({cls.__module__}.{cls.__qualname__})"


def load_predictor(name: str, *, space: SearchSpace, dataset: str, seed: int, images: ImageDataset | None = None) -> CheckedPredictor:
    """Make the predictor behind a registered name or dotted path and set it up for `dataset`, where it has a `setup`.

    `images` are a user's own, where they are in memory; otherwise a predictor that looks at them reads them from `dataset`.
    Raises `UserError` for an unknown name and for what `setup` itself calls a user's mistake, else `PredictorError`.
    """
    checked = CheckedPredictor(name, make_predictor(name))
    checked._setup(space=space, task=Task.of(dataset, space, images=images), seed=seed)
    return checked


def _takes(method: Any, argument: str) -> bool:
    """Whether a method can be called with this keyword; True where its signature cannot be read."""
    try:
        parameters = inspect.signature(method).parameters.values()
    except (TypeError, ValueError):
        return True
    return any(parameter.name == argument or parameter.kind == inspect.Parameter.VAR_KEYWORD for parameter in parameters)


def _is_count(value: object) -> bool:
    return isinstance(value, int | np.integer) and not isinstance(value, bool) and int(value) >= 0
