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


def measured_latencies(space: SearchSpace) -> tuple[tuple[str, ...], dict[str, np.ndarray]]:
    """Architectures as the space writes them, and their latencies in ms by device, of the user's table; nothing without one."""
    table = latency_table(space)
    return ((), {}) if table is None else (table.archs, latencies(table))


def latency_table(space: SearchSpace) -> PropertyTable | None:
    """The user's table of latencies, or None."""
    return None if locate_properties(space, KIND) is None else load_properties(space, KIND)


def full_name(device: str, known: list[str]) -> str | None:
    """The name of a device in the table: `pixel3` as it is, `2080ti` without its batch size for `2080ti_1`, `pixel3_1` for `pixel3`."""
    options = (device, f"{device}_1", device.removesuffix("_1"))
    return next((option for option in options if option in known), None)
