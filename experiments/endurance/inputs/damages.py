"""Ways to damage a file."""

from __future__ import annotations

import io
import json
import os
import pickle
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np

from experiments.endurance.inputs.planted import Planted


def damaged(name: str, how: str) -> str:
    """The place of a damaged version of a good file; its suffix is kept."""
    stem, dot, suffix = name.partition(".")
    return f"$BAD/{stem}-{how}{dot}{suffix}"


def _truncated(good: bytes) -> bytes:
    return good[: len(good) // 2]


def _flipped(good: bytes) -> bytes:
    """Every 97th byte of the second half is another."""
    changed = bytearray(good)
    for at in range(len(good) // 2, len(good), 97):
        changed[at] ^= 0x55
    return bytes(changed)


def _archive(member: str, content: bytes) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr(member, content)
    return file.getvalue()


def _deep() -> bytes:
    return b"[" * 100_000


CONTENTS: Mapping[str, Callable[[bytes], bytes]] = {
    "empty": lambda good: b"",
    "truncated": _truncated,
    "headless": lambda good: good[1:],
    "noise": lambda good: np.random.default_rng(0).bytes(4096),
    "text": lambda good: "no such thing, Straße, ∑\n".encode(),
    "zeros": lambda good: bytes(4096),
    "json": lambda good: json.dumps({"kind": "x", "format": 1}).encode(),
    "json-list": lambda good: b"[1, 2, NaN]",
    "json-deep": lambda good: _deep(),
    "zip": lambda good: _archive("x_train.npy", b"no array"),
    "pickled": lambda good: pickle.dumps(Planted(Path("planted"))),
}
"""What a file holds in place of the good content."""
DAMAGES = (*CONTENTS, "directory", "loop", "dangling", "pipe", "absent")


def damage(path: Path, how: str) -> None:
    """Put something else in the place of a good file."""
    content = path.read_bytes()
    path.unlink()
    if how in CONTENTS:
        path.write_bytes(CONTENTS[how](content))
    elif how == "directory":
        path.mkdir()
    elif how == "loop":
        path.symlink_to(path.name)
    elif how == "dangling":
        path.symlink_to("nowhere")
    elif how == "pipe":
        os.mkfifo(path)
