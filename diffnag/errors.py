"""The errors a user can cause. Command lines print them in one sentence and exit with code 2."""

from __future__ import annotations

from collections.abc import Iterable


class UserError(Exception):
    """A mistake in the input: says what was wrong and what is accepted."""


class DataNotFound(UserError):
    """A benchmark table or another file that the user has to supply is not there."""


class PredictorError(UserError):
    """A predictor plug-in broke its contract: raised, returned NaN or a wrong shape."""


def unknown(kind: str, name: str, known: Iterable[str]) -> UserError:
    """The one sentence for a name that does not exist: `unknown dataset 'x'; there are: a, b`."""
    return UserError(f"unknown {kind} {name!r}; there are: {', '.join(known)}")


def in_a_line(error: Exception) -> str:
    """What `error` says in its first line, with its type where that is needed to understand it."""
    told = next(iter(str(error).splitlines()), "")
    return told if told and isinstance(error, RuntimeError | ValueError) else f"{type(error).__name__}: {told}"
