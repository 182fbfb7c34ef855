"""Latency on a device: `latency:pixel3`, `latency:mine.device.json`, `latency:here`."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from shlex import quote
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from diffnag.devices.export import Export
from diffnag.devices.features import Features
from diffnag.devices.fewshot import FewShot
from diffnag.devices.file import SUFFIX, DeviceFile
from diffnag.devices.shipped import known_devices, model_for, shipped_file
from diffnag.devices.tables import full_name, latencies, latency_table
from diffnag.devices.timing import host_fingerprint, processor, time_arch
from diffnag.errors import UserError
from diffnag.io.checkpoint import checksum, weights_checksum
from diffnag.objectives.cost import shape_for

if TYPE_CHECKING:
    from diffnag.arch import Arch
    from diffnag.datasets.tasks import Task
    from diffnag.networks.plan import Skeleton
    from diffnag.protocols import SearchSpace

HERE = "here"
ACCEPTED = f"accepted are a device of the space's benchmark, a file NAME{SUFFIX} of `python -m diffnag.device`, and {HERE}"


class Latency:
    """Time of a forward pass in ms, minimised.

    Of a device in the benchmark's table the values are exact and cost nothing, where the user has the table; otherwise they are
    predicted by the weights that the package ships, and nothing can be measured. For a device file they are predicted from what was
    measured, with one more measurement where it is asked for, if the device is this machine. `here` is this machine, of which nothing
    was measured before.
    """

    unit: ClassVar[str] = "ms"
    maximise: ClassVar[bool] = False
    paid = True
    """Whether values cost a measurement; False with the benchmark's table."""
    measurable = False
    """Whether `measure` works for every architecture, here and now."""
    note: str | None = None
    """What the user should know of the values, after `setup`."""
    _space: SearchSpace
    _dataset: str
    _model: FewShot | None
    _export: Export | None

    def __init__(self, source: str) -> None:
        if not source or set(source) & set("<>= \t\n"):
            raise UserError(f"latency:{source} names no device; {ACCEPTED}")
        self._source = source
        self.name = f"latency:{source}"
        self._file = DeviceFile.load(Path(source)) if source.endswith(SUFFIX) else None
        self.origin = self._file.origin if self._file else None
        self._provenance = {} if self._file is None else {
            "device": self._file.name, "origin": self._file.origin, "sha256": checksum(source),
            "measurements": str(len(self._file.measurements)), "runtime": self._file.runtime,
        }  # fmt: skip
        self._measured: Mapping[str, float] = {}

    def provenance(self) -> Mapping[str, str]:
        """See `Sourced`: the device file, the table, the weights that the package ships, or the processor of this machine."""
        return self._provenance

    @classmethod
    def of(cls, argument: str) -> Latency:
        """The latency of the device that the command line names behind `latency:`."""
        return cls(argument)

    def setup(self, *, space: SearchSpace, task: Task, skeleton: Skeleton | None) -> None:
        """Find out what is known of the device; see `NeedsNetwork`.

        Raises `UserError` for an unknown device, and for a device file of another space or of other networks.
        """
        self._space, self._dataset, self._model, self._export, self.note = space, task.name, None, None, None
        if self._file is None and self._source != HERE:
            self._of_benchmark(task, skeleton)
            return
        classes, side = shape_for(space, task)
        run = {"batch": self._file.export.batch, "threads": self._file.export.threads} if self._file else {}
        export = Export.of(space, num_classes=classes, image_size=side, skeleton=skeleton, **run)
        if self._file:
            self._file.check(space, export)
            self._measured, self._model = self._file.measurements, self._file.model(space)
            self.measurable = self._file.host == host_fingerprint()
        else:
            self._model, self.measurable = model_for(space, lambda arch: export.size(arch, space)), True
            self.origin = processor()
            self._provenance = {"processor": self.origin}
        self._export = export

    def measure(self, arch: Arch, *, task: Task) -> float:
        """The latency in ms: from the table or the file, else timed on this machine; NaN for an architecture that the table lacks.

        Raises `UserError` where it cannot be measured here.
        """
        text = self._space.to_str(arch)
        if text in self._measured:
            return self._measured[text]
        if not self.paid:
            return math.nan
        if not self.measurable or self._export is None:
            raise UserError(f"{self.name} of {text} cannot be measured here: the device is not this machine")
        return time_arch(arch, self._space, self._export)

    def predict(self, archs: Sequence[Arch]) -> tuple[np.ndarray, np.ndarray]:
        """Mean and standard deviation in ms, `(b,)` each; what the table or the file knows is exact."""
        measured = np.array([self._measured.get(self._space.to_str(arch), math.nan) for arch in archs])
        if self._model is None:
            return measured, np.zeros(len(archs))
        mean, std = self._model.predict(archs)
        known = np.isfinite(measured)
        return np.where(known, measured, mean), np.where(known, 0.0, std)

    def learn(self, archs: Sequence[Arch], values: Sequence[float] | np.ndarray) -> None:
        """Learn all latencies that a search has measured; those of earlier calls are replaced, those of the device file stay. NaN is left out."""
        if self._model is None:
            return
        known = dict(zip(*self._file.known(self._space), strict=True)) if self._file else {}
        known |= {arch: float(value) for arch, value in zip(archs, values, strict=True) if math.isfinite(value)}
        self._model.fit(list(known), np.array(list(known.values())))

    def how_to_measure(self, archs: Path, *, folder: Path) -> tuple[str, ...]:
        """See `Explains`."""
        space = quote(self._file.space if self._file else self._space.name)
        bundle, measured = folder / "bundle", folder / "bundle" / "measured.csv"
        out = self._source if self._file else f"{self._source}{SUFFIX}"
        command = f"python -m diffnag.device {{}} --space {space} {{}} --bundle {quote(str(bundle))}"
        return (
            command.format("measure", f"{self._networks()} --archs {quote(str(archs))}"),
            f"python runner.py  # in {bundle}, copied to the device; then copy it back",
            command.format("fit", f"--from {quote(str(measured))} --out {quote(out)}"),
            f"# then search with latency:{out}" + ("" if self._file else " into another folder"),
        )

    def _comes_from(self, what: str, sha256: str) -> None:
        self.origin, self._provenance = sha256, {what: f"{self._space.name} latency", "sha256": sha256}

    def _networks(self) -> str:
        """The arguments of `diffnag.device` that ask for the networks that are meant."""
        return f"--dataset {self._dataset}" if self._export is None else self._export.arguments

    def _of_benchmark(self, task: Task, skeleton: Skeleton | None) -> None:
        """A device that the benchmark of the space has measured."""
        space, shipped = self._space, known_devices(self._space)
        table = latency_table(space)
        measured = latencies(table) if table else {}
        known = list(dict.fromkeys([*measured, *(shipped.fits if shipped else ())]))
        if (device := full_name(self._source, known)) is None:
            there = f"; devices of {space.name} are {', '.join(sorted(known))}" if known else f"; no device of {space.name} is known"
            raise UserError(f"unknown device {self._source!r}: {ACCEPTED}{there}")
        if skeleton is not None or task.name not in space.datasets:
            raise UserError(f"{self.name} is that of the benchmark's own network; for your own images measure a device: python -m diffnag.device")
        if table and device in measured:
            self._measured, self.paid, self.measurable = dict(zip(table.archs, measured[device].tolist(), strict=True)), False, True
            self._comes_from("table", table.sha256)
            return
        assert shipped is not None
        self._comes_from("weights", weights_checksum(shipped_file(space)))
        self._model = FewShot(Features(space), shipped.fits[device].prior(shipped.names))
        self.note = f"{self.name} is predicted by the weights of the package, and not measured: the table of latencies is not here"
