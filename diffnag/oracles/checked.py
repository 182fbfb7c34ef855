"""The one way to ask a plug-in oracle anything: every answer is checked, every failure is one sentence with the oracle's class."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import suppress
from numbers import Integral
from typing import TYPE_CHECKING, Any, TypeVar

from diffnag.errors import DataNotFound, UserError, type_and_line, unknown
from diffnag.plugins import make_oracle

if TYPE_CHECKING:
    from diffnag.arch import Arch
    from diffnag.datasets.images import ImageDataset
    from diffnag.protocols import Oracle, SearchSpace

LARGEST = 1e15
"""Values beyond this would overflow where they are squared."""

T = TypeVar("T")
_END = object()


class EvaluationFailed(Exception):
    """One evaluation failed: the oracle raised, or returned no finite number. The message is one line."""


class CheckedOracle:
    """A plug-in oracle whose every answer is checked. It follows the protocol `Oracle`; make one with `checked_oracle` or `load_oracle`.

    A failed evaluation raises `EvaluationFailed`, everything else that fails a `UserError`. Both have one line. A `UserError` of the
    plug-in itself keeps its text, and Ctrl-C passes. A plug-in that calls `sys.exit` has failed like one that raises.
    """

    def __init__(self, name: str, plugin: Oracle) -> None:
        self.name = name
        """As the user wrote it."""
        self.plugin: Any = plugin

    def setup(self, *, space: SearchSpace) -> None:
        """Open the data; raises `DataNotFound` if the plug-in does."""
        self._call("setup", lambda: self.plugin.setup(space=space))
        _ = self.kind

    @property
    def kind(self) -> str:
        """What the figures are, in one word."""
        kind = self._call("kind", lambda: self.plugin.kind)
        if not isinstance(kind, str) or kind.split() != [kind]:
            raise self._refused("kind", kind, "one word, a str")
        return kind

    @property
    def available(self) -> dict[str, tuple[str, ...]]:
        """Dataset -> its splits."""
        found = self._call("available", lambda: self.plugin.available)
        if not isinstance(found, Mapping) or not all(isinstance(name, str) and _are_names(splits) for name, splits in found.items()):
            raise self._refused("available", found, "a mapping of dataset names to tuples of split names")
        return {dataset: tuple(splits) for dataset, splits in found.items()}

    def provenance(self) -> dict[str, str | float]:
        """What stands beside the figures in every result: texts and finite numbers."""
        found = self._call("provenance", lambda: self.plugin.provenance())
        accepted = "a mapping of names to texts and finite numbers"
        if not isinstance(found, Mapping):
            raise self._refused("provenance", found, accepted)
        for key, value in found.items():
            finite = isinstance(value, str | int) or (isinstance(value, float) and math.isfinite(value))
            if not isinstance(key, str) or not finite:
                raise self._refused("provenance", {key: value}, accepted)
        return dict(found)

    def query(self, arch: Arch, *, dataset: str, split: str, epochs: int | None = None) -> float:
        """The value of `arch`, finite and at most `LARGEST` in size; else `EvaluationFailed`."""
        value = _number(self._evaluate(lambda: self.plugin.query(arch, dataset=dataset, split=split, epochs=epochs)))
        if not math.isfinite(value):
            raise EvaluationFailed(f"the oracle returned {value}")
        return value

    # -- how

    def _evaluate(self, evaluation: Callable[[], T]) -> T:
        """The plug-in's answer to an evaluation, which may fail in any way. A `UserError` means that all others would fail, too."""
        try:
            return evaluation()
        except UserError as error:
            raise self._in_a_line(error) from error
        except (Exception, SystemExit) as error:
            raise EvaluationFailed(type_and_line(error)) from error

    def _call(self, member: str, call: Callable[[], T]) -> T:
        """The plug-in's answer to anything else."""
        try:
            return call()
        except UserError as error:
            raise self._in_a_line(error) from error
        except (Exception, SystemExit) as error:  # a plug-in may fail in any way, and may not end the process either
            raise UserError(f"oracle {self._class}: {member} raised {type_and_line(error)}") from error

    def _in_a_line(self, error: UserError) -> UserError:
        """The same error if its text is one line, else one with the lines joined."""
        lines = str(error).splitlines()
        if len(lines) <= 1:
            return error
        kind = DataNotFound if isinstance(error, DataNotFound) else UserError
        return kind(" ".join(line.strip() for line in lines if line.strip()))

    def _refused(self, member: str, value: object, accepted: str) -> UserError:
        text = repr(value)
        return UserError(f"oracle {self._class}: {member} is {text if len(text) <= 80 else text[:79] + '…'}; accepted is {accepted}")

    @property
    def _class(self) -> str:
        cls = type(self.plugin)
        return f"{self.name!r} ({cls.__module__}.{cls.__qualname__})"


class _Staged(CheckedOracle):
    """A checked `MultiFidelity` oracle."""

    @property
    def epochs(self) -> int:
        """Epochs of an evaluation that is not stopped."""
        epochs = self._call("epochs", lambda: self.plugin.epochs)
        if not _is_count(epochs):
            raise self._refused("epochs", epochs, "a whole number of at least 1")
        return int(epochs)

    def stages(self, arch: Arch, *, dataset: str, split: str) -> Iterator[tuple[int, float]]:
        """`(epochs so far, value)` at points of one evaluation, epochs growing up to `epochs`; a value may be NaN or infinite.

        Raises `EvaluationFailed`.
        """
        last, done = self.epochs, 0
        points = self._evaluate(lambda: iter(self.plugin.stages(arch, dataset=dataset, split=split)))
        try:
            while (point := self._evaluate(lambda: next(points, _END))) is not _END:
                if not isinstance(point, tuple | list) or len(point) != 2 or not _is_count(point[0]) or not done < point[0] <= last:
                    raise EvaluationFailed(f"stages gave {point!r}; accepted is (epochs, value), with more than {done} and at most {last} epochs")
                done = int(point[0])
                yield done, _number(point[1])
        finally:
            with suppress(Exception, SystemExit):  # the evaluation is over, however the plug-in ends it
                getattr(points, "close", lambda: None)()


class _OnImages(CheckedOracle):
    """A checked oracle that measures on a user's own images (`NeedsImages`)."""

    def set_images(
        self, images: ImageDataset, *, dataset: str, seconds: float | None, epochs: int | None, seed: int, device: str
    ) -> None:
        """See `NeedsImages`."""
        given = {"dataset": dataset, "seconds": seconds, "epochs": epochs, "seed": seed, "device": device}
        self._call("set_images", lambda: self.plugin.set_images(images, **given))


class _StagedOnImages(_Staged, _OnImages):
    """Both."""


def checked_oracle(name: str, plugin: Oracle) -> CheckedOracle:
    """`plugin` behind a `CheckedOracle`, which has `stages` and `set_images` if the plug-in's class has; one that is checked already is kept."""
    if isinstance(plugin, CheckedOracle):
        return plugin
    staged, on_images = (hasattr(type(plugin), member) for member in ("stages", "set_images"))
    if staged:
        return (_StagedOnImages if on_images else _Staged)(name, plugin)
    return (_OnImages if on_images else CheckedOracle)(name, plugin)


def refuse_unknown(available: Mapping[str, Collection[str]], dataset: str, split: str) -> None:
    """Raise `UserError` if an oracle that has these splits of each dataset has not this one."""
    if dataset not in available:
        raise unknown("dataset", dataset, available)
    if split not in available[dataset]:
        raise unknown("split", split, available[dataset])


def load_oracle(name: str, *, space: SearchSpace) -> CheckedOracle:
    """Make the oracle behind a registered name or dotted path and set it up for `space`.

    Raises `UserError` for an unknown name and for a plug-in that fails, `DataNotFound` if its data are absent.
    """
    oracle = checked_oracle(name, make_oracle(name))
    oracle.setup(space=space)
    return oracle


def _number(value: object) -> float:
    """A value as a Python float; NaN and infinities pass."""
    refused = EvaluationFailed(f"the oracle returned a {type(value).__name__}, which is no number")
    if isinstance(value, str | bytes | bool):
        raise refused
    try:
        number = float(value)  # type: ignore[arg-type]
    except (Exception, SystemExit) as error:
        raise refused from error
    if math.isfinite(number) and abs(number) > LARGEST:
        raise EvaluationFailed(f"the oracle returned {number:g}; accepted are numbers up to {LARGEST:g} in size")
    return number


def _is_count(value: object) -> bool:
    return isinstance(value, Integral) and not isinstance(value, bool) and int(value) >= 1


def _are_names(value: object) -> bool:
    return isinstance(value, tuple | list) and all(isinstance(name, str) for name in value)
