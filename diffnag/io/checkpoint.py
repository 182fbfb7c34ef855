"""Checkpoints: plain tensors and plain JSON in one safetensors file. Loading one never runs code."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import MISSING, fields
from pathlib import Path
from types import UnionType
from typing import TYPE_CHECKING, Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

from torch import Tensor

from diffnag.errors import UserError, in_a_line
from diffnag.io.files import written_whole

if TYPE_CHECKING:
    import numpy as np

FORMAT = 1
C = TypeVar("C")


def save_checkpoint(path: str | Path, tensors: Mapping[str, Tensor], meta: Mapping[str, Any]) -> None:
    """Write `tensors` with `meta`, whose `kind` says what the file is, such as `denoiser`; raises `UserError` for NaN or infinity."""
    from safetensors.torch import save_file

    if bad := _not_finite(tensors):
        raise UserError(f"{path} was not written: {bad} is NaN or infinite, so the training diverged; a smaller learning rate may help")
    header = {"diffnag": json.dumps({"format": FORMAT, **meta}, sort_keys=True)}
    with written_whole(path) as temporary:
        save_file({name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}, temporary, metadata=header)


def in_two_bytes(tensor: Tensor) -> Tensor:
    """A tensor of a small file: weights in two bytes each, the few vectors of normalisation as they are."""
    return tensor.half() if tensor.ndim > 1 else tensor


def load_checkpoint(
    path: str | Path, *, kind: str, needs: Mapping[str, type | UnionType] | None = None
) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Tensors and metadata of a file that `save_checkpoint` wrote.

    Raises `UserError` unless the file is whole, of this `kind`, with finite weights, and its metadata have each key of
    `needs` with a value of that type. Whoever rebuilds a network from them does so within `rebuilding`.
    """
    from safetensors import safe_open

    path = Path(path)
    if not path.is_file():
        raise UserError(f"there is no checkpoint {path}")
    try:
        with safe_open(path, framework="pt") as file:
            meta = json.loads((file.metadata() or {}).get("diffnag", "{}"))
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - no mapping
    except Exception as error:  # a damaged file fails in many ways
        raise UserError(f"{path} is no readable checkpoint (a whole safetensors file is expected): {in_a_line(error)}") from error
    if not isinstance(meta, dict) or meta.get("format") != FORMAT:
        found = meta.get("format") if isinstance(meta, dict) else None
        raise UserError(f"{path} is not a diffnag checkpoint of format {FORMAT}; its format is {found}")
    if meta.get("kind") != kind:
        raise UserError(f"{path} holds a {meta.get('kind')}, not a {kind}")
    check_description(path, meta, needs or {})
    if bad := _not_finite(tensors):
        raise UserError(f"{path} is a damaged checkpoint: {bad} is NaN or infinite")
    return tensors, meta


def check_description(path: str | Path, meta: Mapping[str, Any], needs: Mapping[str, type | UnionType]) -> None:
    """Raise `UserError` unless the metadata of the checkpoint `path` have each key of `needs` with a value of that type."""
    for key, wanted in needs.items():
        if key not in meta or not _is_a(meta[key], wanted):
            fault = f"has {key} {meta[key]!r:.100}" if key in meta else f"lacks {key}"
            raise UserError(f"{path} is a damaged checkpoint: its description {fault}; expected is a value of type {_named(wanted)}")


def config_from(cls: type[C], values: Mapping[str, Any]) -> C:
    """Make the frozen dataclass `cls` from plain `values`, such as the configuration in a checkpoint.

    Raises `ValueError` that names an unknown key, a missing key without a default, or a value of another type.
    """
    hints = get_type_hints(cls)
    known = {field.name: field for field in fields(cls)}  # type: ignore[arg-type]
    if unknown := [key for key in values if key not in known]:
        raise ValueError(f"{cls.__name__} has no field {unknown[0]!r}; it has: {', '.join(known)}")
    for name, field in known.items():
        if name not in values:
            if field.default is MISSING and field.default_factory is MISSING:
                raise ValueError(f"{cls.__name__} lacks {name}")
        elif not _is_a(values[name], hints[name]):
            raise ValueError(f"{name} of {cls.__name__} is {values[name]!r:.100}; expected is a value of type {_named(hints[name])}")
    return cls(**values)


@contextmanager
def rebuilding(path: str | Path) -> Iterator[None]:
    """Turn errors in the block, such as a wrong size or a missing tensor, into a `UserError` that names the checkpoint."""
    try:
        yield
    except UserError:
        raise
    except Exception as error:  # a wrong description can fail at any place of a network
        raise UserError(f"{path} does not hold what its own description asks for: {in_a_line(error)}") from error


def _is_a(value: object, wanted: Any) -> bool:
    """`isinstance` for values of JSON: a truth value is no number, a whole number is a float as well, and floats are finite."""
    if get_origin(wanted) is Literal:
        return value in get_args(wanted)
    if get_origin(wanted) in (UnionType, Union):
        return any(_is_a(value, part) for part in get_args(wanted))
    if isinstance(value, bool):
        return wanted is bool
    if wanted is float:
        return isinstance(value, int | float) and math.isfinite(value)
    return isinstance(value, get_origin(wanted) or wanted)


def _named(wanted: Any) -> str:
    return wanted.__name__ if isinstance(wanted, type) else str(wanted)


def _not_finite(tensors: Mapping[str, Tensor]) -> str | None:
    """The name of a tensor with a NaN or an infinity, or None. A mask of 0 and -inf, as softmax takes it, is no weight."""
    for name, tensor in tensors.items():
        if tensor.is_floating_point() and not tensor.isfinite().all() and not ((tensor == 0) | (tensor == -math.inf)).all():
            return name
    return None


def weights_checksum(path: str | Path) -> str:
    """SHA-256 of the tensors in a checkpoint, without its metadata."""
    from safetensors import safe_open

    with safe_open(path, framework="np") as file:
        return arrays_checksum((name, file.get_tensor(name)) for name in sorted(file.keys()))


def arrays_checksum(arrays: Iterable[tuple[str, np.ndarray]]) -> str:
    """SHA-256 of arrays, their names, types and shapes, in their order."""
    digest = hashlib.sha256()
    for name, array in arrays:
        digest.update(f"{name} {array.dtype} {array.shape}".encode())
        digest.update(array.tobytes())
    return digest.hexdigest()


def checksum(path: str | Path) -> str:
    """SHA-256 of a file; results store it to identify the files they were made with."""
    with Path(path).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
