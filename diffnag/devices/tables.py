"""Latencies of a user's own copy of a benchmark's table."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from diffnag.errors import UserError
from diffnag.io.property_tables import load_properties, locate_properties

if TYPE_CHECKING:
    from diffnag.io.property_tables import PropertyTable
    from diffnag.protocols import SearchSpace

KIND = "latency"
SUFFIX = "_ms"


def latencies(table: PropertyTable) -> dict[str, np.ndarray]:
    """Device -> latencies in ms `(m,)`, from the columns `<device>_ms`; raises `UserError` where one is not above 0."""
    found = {name.removesuffix(SUFFIX): column for name, column in table.columns.items() if name.endswith(SUFFIX)}
    for device, ms in found.items():
        if ms.ndim != 1 or not (np.isfinite(ms) & (ms > 0)).all():
            raise UserError(f"the {table.space} table of latency has values of {device} that are not above 0 ms")
    return found


def measured_latencies(space: SearchSpace, device: str) -> dict[str, float] | None:
    """Architecture as the space writes it -> ms, where the user has the table and it has the device; else None."""
    if locate_properties(space, KIND) is None:
        return None
    table = load_properties(space, KIND)
    ms = latencies(table).get(device)
    return None if ms is None else dict(zip(table.archs, ms.tolist(), strict=True))


def full_name(device: str, known: list[str]) -> str | None:
    """The name of a device in the table: `pixel3` as it is, `2080ti` without its batch size for `2080ti_1`, `pixel3_1` for `pixel3`."""
    options = (device, f"{device}_1", device.removesuffix("_1"))
    return next((option for option in options if option in known), None)


def known_to_table(space: SearchSpace) -> list[str]:
    """The devices in the user's table, or nothing without one."""
    return [] if locate_properties(space, KIND) is None else list(latencies(load_properties(space, KIND)))
