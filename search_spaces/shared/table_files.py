"""Steps that the readers of benchmark tables share: checks of the file, and the result."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from diffnag.errors import UserError
from diffnag.io.checkpoint import checksum
from diffnag.io.tables import BenchmarkTable, check_accuracies

if TYPE_CHECKING:
    import numpy as np

    from diffnag.arch import Arch


class Named(Protocol):
    """The part of a search space that readers need."""

    name: str

    def from_str(self, text: str) -> Arch: ...


def check_file(path: Path, *, trust_pickle: bool) -> None:
    """Raise `UserError` if there is no file at `path`, or if it is a pickle (`.pth`) that the user does not trust."""
    if not path.is_file():
        raise UserError(f"there is no file {path}")
    if path.suffix == ".pth" and not trust_pickle:
        raise UserError(f"{path.name} is a pickle, which can run any code when it is loaded; if you trust its source, add --trust-pickle")


def make_table(
    path: Path, space: Named, archs: Sequence[str], values: Mapping[str, np.ndarray], seconds: Mapping[str, np.ndarray], *,
    version: str, not_accuracies: Collection[str] = (),
) -> BenchmarkTable:  # fmt: skip
    """The table of `space` that was read from `path`; see `BenchmarkTable` for its parts.

    Raises `UserError` if there is no architecture, if one occurs twice, and for accuracies that are not in %. The columns `not_accuracies`
    hold other measures and are not checked.
    """
    if len(set(archs)) < len(archs) or not archs:
        raise UserError(f"{path} has {'an architecture twice' if archs else f'no architecture of space {space.name!r}'}")
    check_accuracies(path, {key: column for key, column in values.items() if key not in not_accuracies})
    return BenchmarkTable(space=space.name, archs=tuple(archs), values=values, seconds=seconds, version=version, sha256=checksum(path))
