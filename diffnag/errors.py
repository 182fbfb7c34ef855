"""The errors a user can cause. Command lines print them in one sentence and exit with code 2."""

from __future__ import annotations

from collections.abc import Iterable


class UserError(Exception):
    """A mistake in the input: says what was wrong and what is accepted."""


class DataNotFound(UserError):
    """A benchmark table or another file that the user has to supply is not there."""


class PredictorError(UserError):
    """A predictor plug-in broke its contract: raised, returned NaN or a wrong shape."""


LONGEST = 1_000
"""Characters of a sentence that are printed: it may quote what the user gave, such as a line of a megabyte."""


def shortened(sentence: str) -> str:
    """A sentence of at most `LONGEST` characters on one line; what is left out of its middle is marked."""
    line = " ".join(sentence.splitlines())
    return line if len(line) <= LONGEST else f"{line[: LONGEST // 2]} ... {line[-LONGEST // 2 :]}"


def unknown(kind: str, name: str, known: Iterable[str]) -> UserError:
    """The one sentence for a name that does not exist: `unknown dataset 'x'; there are: a, b`."""
    return UserError(f"unknown {kind} {name!r}; there are: {', '.join(known)}")


def type_and_line(error: BaseException) -> str:
    """The type of an error and the first line of its message, for what a plug-in raised."""
    return f"{type(error).__name__}: {in_a_line(error, typed=False)}"


def in_a_line(error: BaseException, *, typed: bool = True) -> str:
    """The first line of an error's message, behind its type where `typed` and the message alone would not be understood."""
    line = next((line.strip() for line in str(error).splitlines() if line.strip()), "")
    return line if not typed or (line and isinstance(error, RuntimeError | ValueError)) else f"{type(error).__name__}: {line}"
