"""Accuracy of a trained network on images that were attacked or corrupted, from a table: `robustness:pgd@Linf/1`.

The table of NAS-Bench-201: Jung et al., Neural Architecture Design and Robustness: A Dataset, ICLR 2023.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from diffnag.errors import UserError
from diffnag.io.property_tables import load_properties

if TYPE_CHECKING:
    from diffnag.arch import Arch
    from diffnag.datasets.tasks import Task
    from diffnag.networks.plan import Skeleton
    from diffnag.protocols import SearchSpace

KIND = "robustness"
ATTACKS = ("0.1", "0.5", "1", "2", "3", "4", "8")
"""Strengths of an attack in 1/255 of the range of a pixel, in the order of the table."""
SEVERITIES = ("1", "2", "3", "4", "5")
CORRUPTIONS = (
    "brightness", "contrast", "defocus_blur", "elastic_transform", "fog", "frost", "gaussian_noise", "glass_blur", "impulse_noise",
    "jpeg_compression", "motion_blur", "pixelate", "shot_noise", "snow", "zoom_blur",
)  # fmt: skip
LEVELS: Mapping[str, tuple[str, ...]] = {
    "fgsm@Linf": ("0.1", "0.5", "1", "2", "3", "4", "5", "6", "7", "8", "255"),
    **dict.fromkeys(("pgd@Linf", "aa_apgd-ce@Linf", "aa_square@Linf"), ATTACKS),
    **dict.fromkeys(CORRUPTIONS, SEVERITIES),
}
"""Kind -> its levels: the strength of an attack, or the severity of a corruption."""


class Robustness:
    """Accuracy in % on test images of the task that were changed in one way, at one level. It is paid for, as accuracy is."""

    unit: ClassVar[str] = "%"
    maximise: ClassVar[bool] = True
    paid: ClassVar[bool] = True
    origin: str | None = None
    _space: SearchSpace
    _values: Mapping[str, float]

    def __init__(self, kind: str, level: str) -> None:
        if level not in LEVELS.get(kind, ()):
            kinds = ", ".join(f"{kind}/{'|'.join(levels)}" for kind, levels in LEVELS.items())
            what = f"unknown level {level!r} of {kind}" if kind in LEVELS else f"unknown kind of robustness {kind!r}"
            raise UserError(f"{what}; accepted are a kind and one of its levels: {kinds}")
        self.name = f"{KIND}:{kind}/{level}"
        self._kind, self._level = kind, LEVELS[kind].index(level)

    @classmethod
    def of(cls, argument: str) -> Robustness:
        """The objective that the command line names behind `robustness:`, such as `pgd@Linf/1` or `gaussian_noise/3`."""
        kind, _, level = argument.rpartition("/")
        return cls(kind, level) if kind else cls(level, "")

    def setup(self, *, space: SearchSpace, task: Task, skeleton: Skeleton | None) -> None:
        """Find the column of the task; raises `DataNotFound` without the table, and `UserError` for a task that it does not have."""
        table = load_properties(space, KIND)
        key = f"{task.name}/{self._kind}"
        if (column := table.columns.get(key)) is None:
            datasets = sorted({name.partition("/")[0] for name in table.columns})
            raise UserError(f"{self.name} is known for {', '.join(datasets)}, not for {task.name!r}")
        if column.shape != (len(table.archs), len(LEVELS[self._kind])):
            raise UserError(f"the {space.name} table of robustness has values of shape {column.shape} for {key}; expected are all its levels")
        if skeleton is not None:
            raise UserError(f"{self.name} is that of the benchmark's own network")
        values = column[:, self._level].astype(np.float64)
        if not ((values >= 0) & (values <= 100) | np.isnan(values)).all():
            raise UserError(f"the {space.name} table of robustness has accuracies of {key} that are not within 0 and 100 %")
        self._space, self._values, self.origin = space, dict(zip(table.archs, values.tolist(), strict=True)), table.sha256

    def provenance(self) -> Mapping[str, str]:
        """See `Sourced`: the table."""
        return {"table": f"{self._space.name} {KIND}", "sha256": self.origin or ""}

    def measure(self, arch: Arch, *, task: Task) -> float:
        """The accuracy in %, NaN for an architecture that the table lacks."""
        return self._values.get(self._space.to_str(arch), math.nan)
