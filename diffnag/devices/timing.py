"""Export architectures and time them on this machine."""

from __future__ import annotations

import hashlib
import os
import platform
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from diffnag.devices.runner import network_run, timed_rounds

if TYPE_CHECKING:
    from diffnag.arch import Arch
    from diffnag.devices.export import Export
    from diffnag.protocols import SearchSpace

ROUNDS = 20
"""Rounds over all networks."""
CPU_FILE = Path("/proc/cpuinfo")
"""Where Linux names the processor."""
Runs = Mapping[str, Callable[[], object]]


def time_archs(
    archs: Sequence[Arch], space: SearchSpace, export: Export, *, rounds: int = ROUNDS, on_export: Callable[[int], None] = lambda done: None
) -> Iterator[dict[str, float]]:
    """Export all of `archs`, then yield after each round the median latency of each so far: architecture -> ms.

    `on_export` is called with the number of networks that are exported. Raises `UserError` for one that cannot be built.
    """
    runs = {}
    with tempfile.TemporaryDirectory() as folder:
        for done, arch in enumerate(archs, start=1):
            path = Path(folder) / f"{done}.onnx"
            export.write(path, arch, space)
            runs[space.to_str(arch)] = network_run(path.read_bytes(), batch=export.batch, threads=export.threads)
            path.unlink()
            on_export(done)
    yield from timed_rounds(runs, rounds=rounds)


def time_arch(arch: Arch, space: SearchSpace, export: Export, *, rounds: int = ROUNDS) -> float:
    """Median latency of one architecture in ms."""
    *_, last = time_archs([arch], space, export, rounds=rounds)
    return last[space.to_str(arch)]


def runtime_name() -> str:
    """Name and version of the runtime that times."""
    from importlib.metadata import version

    return f"onnxruntime {version('onnxruntime')}"


def host_fingerprint() -> str:
    """SHA-256 over name, processor and cores of this machine; 16 hexadecimal digits. It recognises a machine and describes none."""
    return hashlib.sha256(f"{platform.node()} {platform.machine()} {_model()} {os.cpu_count()}".encode()).hexdigest()[:16]


def processor() -> str:
    """The processor of this machine in words, with the number of its cores."""
    return f"{platform.machine()} {_model().rpartition(': ')[2]}, {os.cpu_count()} cores"


def _model() -> str:
    """The line in which Linux names the processor; elsewhere what Python knows of it."""
    lines = CPU_FILE.read_text(errors="replace").splitlines() if CPU_FILE.is_file() else []
    return next((line for line in lines if line.startswith("model name")), platform.processor())
