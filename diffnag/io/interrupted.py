"""The state of an interrupted training, in a file beside the one that the training is to write."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from diffnag.errors import UserError
from diffnag.io.files import written_whole


def state_beside(out: Path, *, resume: bool) -> Path:
    """Where the state of the training of `out` lies. Raises `UserError` if one is there and not asked for, or asked for and not there."""
    path = out.with_name(out.name + ".state")
    if resume and not path.is_file():
        raise UserError(f"--resume: there is no interrupted training {path}")
    if not resume and path.exists():
        raise UserError(f"{path} holds an interrupted training: pass --resume to go on with it, or delete it")
    return path


def save_state(path: Path, state: Mapping[str, Any], *, options: Mapping[str, Any]) -> None:
    """Write the state of an unfinished training, tensors and plain values; a resumed training must share the `options`."""
    with written_whole(path) as temporary:
        torch.save({"options": dict(options), **state}, temporary)


def load_state(path: Path, *, options: Mapping[str, Any]) -> dict[str, Any]:
    """Read such a state; raises `UserError` if it is damaged, or was begun with other options."""
    with reading(path):
        state = torch.load(path, map_location="cpu", weights_only=True)
        theirs = dict(state["options"])
    if differing := [key for key, value in options.items() if theirs.get(key) != value]:
        named = ", ".join(f"{key} {theirs.get(key)} (now {options[key]})" for key in differing)
        raise UserError(f"--resume: {path} was begun with other options: {named}")
    return dict(state)


class Spent:
    """Seconds of a training, those before an interruption included, of the clock and of the processor's cores."""

    def __init__(self) -> None:
        self._before, self._begin = (0.0, 0.0), (time.monotonic(), time.process_time())

    @property
    def seconds(self) -> float:
        """Seconds by the clock."""
        return self._before[0] + time.monotonic() - self._begin[0]

    @property
    def core_seconds(self) -> float:
        """Seconds of all cores together."""
        return self._before[1] + time.process_time() - self._begin[1]

    def to_json(self) -> dict[str, float]:
        """What `go_on` takes."""
        return {"seconds": self.seconds, "core_seconds": self.core_seconds}

    def go_on(self, spent: Mapping[str, float]) -> None:
        """Count on from what was spent before the interruption."""
        self._before = float(spent["seconds"]), float(spent["core_seconds"])


@contextmanager
def reading(path: Path) -> Iterator[None]:
    """Context for what reads a state: where it fails, the file is damaged, and `UserError` says so."""
    try:
        yield
    except Exception as error:  # a damaged file fails in as many ways as it has bytes
        raise UserError(f"--resume: {path} is no readable training state") from error
