"""Measure this machine: choose architectures, time them, keep what is measured."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from diffnag.devices.design import choose
from diffnag.devices.file import SUFFIX, DeviceFile
from diffnag.devices.shipped import prior_for
from diffnag.devices.timing import ROUNDS, host_fingerprint, runtime_name, time_archs

if TYPE_CHECKING:
    from diffnag.arch import Arch
    from diffnag.devices.export import Export
    from diffnag.protocols import SearchSpace


def next_archs(space: SearchSpace, export: Export, count: int, *, seed: int, before: DeviceFile | None = None) -> list[Arch]:
    """The `count` architectures that say the most beside those that were measured `before`."""
    features, prior = prior_for(space, lambda arch: export.size(arch, space))
    return choose(features, prior, count, seed=seed, measured=before.known(space)[0] if before else ())


def measure(
    space: SearchSpace, export: Export, archs: Sequence[Arch], *, out: Path, before: DeviceFile | None, spec: str,
    progress: Callable[[str, int, int, str], None], rounds: int = ROUNDS,
) -> DeviceFile:  # fmt: skip
    """Time architectures on this machine and write `out`, with what was measured `before`. `spec` is how the space was named.

    What is measured when it is interrupted is written, and the interrupt is raised again with a sentence that says so.
    """
    file = before or DeviceFile.new(
        space, {}, name=out.name.removesuffix(SUFFIX), spec=spec, export=export, runtime=runtime_name(), host=host_fingerprint()
    )
    measured: dict[str, float] = {}
    try:
        timing = time_archs(archs, space, export, rounds=rounds, on_export=lambda done: progress("export", done, len(archs), ""))
        for number, measured in enumerate(timing, start=1):
            progress("round", number, rounds, f"{min(measured.values()):.2f} to {max(measured.values()):.2f} ms")
    except KeyboardInterrupt:
        if not measured:
            raise KeyboardInterrupt("stopped before the first round was over; nothing was written") from None
        file.with_measured(measured).save(out)
        raise KeyboardInterrupt(f"stopped early; wrote {out} with what was measured so far") from None
    file = file.with_measured(measured)
    file.save(out)
    return file
