"""Checkpoints: plain tensors and plain JSON in one safetensors file. Loading one never runs code."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

from torch import Tensor

from diffnag.errors import UserError
from diffnag.io.files import written_whole

FORMAT = 1


def save_checkpoint(path: str | Path, tensors: Mapping[str, Tensor], meta: Mapping[str, Any]) -> None:
    """Write `tensors` with `meta`, which must hold `kind`: what the file is, such as `denoiser`."""
    from safetensors.torch import save_file

    header = {"diffnag": json.dumps({"format": FORMAT, **meta}, sort_keys=True)}
    with written_whole(path) as temporary:
        save_file({name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}, temporary, metadata=header)


def load_checkpoint(path: str | Path, *, kind: str, needs: Mapping[str, type] = MappingProxyType({})) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Read a file written by `save_checkpoint`; raises `UserError` unless it is whole, ours and of this `kind`.

    `needs` are keys of the metadata that must be there, and the types of their values.
    """
    from safetensors import SafetensorError, safe_open

    path = Path(path)
    if not path.is_file():
        raise UserError(f"there is no checkpoint {path}")
    try:
        with safe_open(path, framework="pt") as file:
            meta = json.loads((file.metadata() or {}).get("diffnag", "{}"))
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - no mapping
    except (SafetensorError, OSError, ValueError) as error:
        raise UserError(f"{path} is no readable checkpoint (a whole safetensors file is expected): {error}") from error
    if meta.get("format") != FORMAT:
        raise UserError(f"{path} is not a diffnag checkpoint of format {FORMAT}; its format is {meta.get('format')}")
    if meta.get("kind") != kind:
        raise UserError(f"{path} holds a {meta.get('kind')}, not a {kind}")
    for key, expected in needs.items():
        if not isinstance(meta.get(key), expected):
            raise UserError(f"{path} is a damaged {kind}: its metadata has no {key} of type {expected.__name__}")
    return tensors, meta


def weights_checksum(path: str | Path) -> str:
    """SHA-256 of the tensors in a checkpoint, whatever its metadata say."""
    from safetensors import safe_open

    digest = hashlib.sha256()
    with safe_open(path, framework="np") as file:
        for name in sorted(file.keys()):
            tensor = file.get_tensor(name)
            digest.update(f"{name} {tensor.dtype} {tensor.shape}".encode())
            digest.update(tensor.tobytes())
    return digest.hexdigest()


def checksum(path: str | Path) -> str:
    """SHA-256 of a file, for results that name what they were made with."""
    return hashlib.sha256(Path(path).read_bytes()).hexdigest()
