"""The file of a device: what was measured on it, of which networks, and how. Plain JSON, checked when it is read."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from diffnag.devices.export import Export
from diffnag.devices.shipped import model_for
from diffnag.errors import UserError, in_a_line
from diffnag.io.checkpoint import config_from
from diffnag.io.files import write_json
from diffnag.io.text_tables import read_csv, reading
from diffnag.spaces.fingerprint import check_fingerprint, space_fingerprint

if TYPE_CHECKING:
    from diffnag.arch import Arch
    from diffnag.devices.fewshot import FewShot
    from diffnag.protocols import SearchSpace

KIND, FORMAT = "diffnag device", 1
SUFFIX = ".device.json"
FEWEST = 3
"""Measurements of a device, at least: fewer say next to nothing."""


@dataclass(frozen=True)
class DeviceFile:
    """Measurements of one device in one space."""

    name: str
    space: str
    """As it was given: a name or `package.module:Class`."""
    space_fingerprint: str
    export: Export
    runtime: str
    """What ran the networks, such as `onnxruntime 1.20`; `unknown` for measurements of others."""
    host: str
    """Fingerprint of the machine that was measured (`diffnag.devices.timing.host_fingerprint`); empty for one that is elsewhere."""
    measurements: Mapping[str, float]
    """Architecture as the space writes it -> ms, above 0."""
    origin: str = ""
    """Checksum of the file with its first measurements, which it keeps while others are added: it tells devices of one name apart."""

    def __post_init__(self) -> None:
        if not self.origin and self.measurements:
            content = json.dumps(asdict(self), sort_keys=True).encode()
            object.__setattr__(self, "origin", hashlib.sha256(content).hexdigest()[:16])

    @classmethod
    def new(
        cls, space: SearchSpace, measurements: Mapping[str, float], *, name: str, spec: str, export: Export, runtime: str, host: str
    ) -> DeviceFile:
        """The file of a device; `spec` is how the space was named."""
        return cls(name, spec, space_fingerprint(space), export, runtime, host, measurements)

    def save(self, path: Path) -> None:
        """Write the file; raises `UserError` if its name does not end in `.device.json`."""
        check_name(path)
        rows = [{"arch": arch, "ms": ms} for arch, ms in self.measurements.items()]
        write_json(path, {"kind": KIND, "format": FORMAT, **{**asdict(self), "measurements": rows}})

    @classmethod
    def load(cls, path: Path) -> DeviceFile:
        """Read a file; raises `UserError` if there is none, and if it is damaged or of another kind."""
        if not path.is_file():
            raise UserError(f"there is no device file {path}")
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
            if (content.pop("kind", None), content.pop("format", None)) != (KIND, FORMAT):
                raise ValueError(f"it is not a {KIND} of format {FORMAT}")
            rows = content.pop("measurements")
            found = config_from(cls, {**content, "export": Export.from_json(content["export"]), "measurements": {}})
            measurements = checked([(row["arch"], row["ms"]) for row in rows], what=str(path))
            if not measurements:
                raise ValueError("it has no measurement")
            return replace(found, measurements=measurements)
        except UserError as error:
            raise UserError(f"{path} is damaged: {error}") from error
        except Exception as error:  # JSON of other content can fail anywhere
            raise UserError(f"{path} is no readable device file: {in_a_line(error)}") from error

    def check(self, space: SearchSpace, export: Export | None = None) -> None:
        """Raise `UserError` where the file is of another space, or of other networks than `export`, threads and batch included."""
        if ":" not in self.space and space.name != self.space:
            raise UserError(f"device {self.name!r} was measured in space {self.space!r}, not in {space.name!r}")
        check_fingerprint(space, self.space_fingerprint, what=f"device file of {self.name!r}")
        if export is not None and (fault := self.export.difference(export)):
            command = f"python -m diffnag.device measure --space {self.space} {export.arguments} --out NAME{SUFFIX}"
            raise UserError(f"device {self.name!r} was measured with {fault}; measure it again for these networks, into another file: {command}")

    def model(self, space: SearchSpace) -> FewShot:
        """The model that has learned the measurements."""
        model = model_for(space, lambda arch: self.export.size(arch, space))
        model.fit(*self.known(space))
        return model

    def known(self, space: SearchSpace) -> tuple[list[Arch], np.ndarray]:
        """Architectures and their latencies `(m,)`."""
        return [space.from_str(arch) for arch in self.measurements], np.array(list(self.measurements.values()))

    def with_measured(self, more: Mapping[str, float]) -> DeviceFile:
        """The file with more measurements; new ones replace old ones."""
        return replace(self, measurements={**self.measurements, **more})


def check_name(path: Path) -> None:
    """Raise `UserError` unless the name is that of a device file."""
    if not path.name.endswith(SUFFIX) or path.name == SUFFIX:
        raise UserError(f"{path} is no name of a device file; it has to end in {SUFFIX}")


def read_measurements(path: Path, space: SearchSpace, *, fewest: int = FEWEST) -> dict[str, float]:
    """Architecture -> ms, from a CSV with the columns `arch` and `ms`; raises `UserError` for what is not accepted."""
    if not path.is_file():
        raise UserError(f"there is no file {path}")
    with reading(path, "CSV of measurements"):
        columns = read_csv(path, "CSV of measurements with the columns arch,ms", ("arch", "ms"))
        rows = list(zip(columns["arch"], columns["ms"], strict=True))
    archs = [space.to_str(space.from_str(arch)) for arch, _ in rows]
    found = checked([(arch, _number(ms)) for arch, (_, ms) in zip(archs, rows, strict=True)], what=str(path))
    if len(found) < fewest:
        raise UserError(f"{path} has {len(found)} measurements; at least {fewest} are needed")
    return found


def checked(rows: Sequence[tuple[str, Any]], *, what: str) -> dict[str, float]:
    """Architecture -> ms; raises `UserError` for values that are not finite numbers above 0, and for an architecture that occurs twice."""
    found: dict[str, float] = {}
    for arch, ms in rows:
        if isinstance(ms, bool) or not isinstance(ms, int | float) or not (math.isfinite(ms) and ms > 0):
            raise UserError(f"{what} has {ms!r} ms for {arch!r}; accepted are finite numbers above 0")
        if arch in found:
            raise UserError(f"{what} has the architecture {arch!r} twice")
        found[arch] = float(ms)
    return found


def _number(text: str) -> float | str:
    try:
        return float(text)
    except ValueError:
        return text
