"""Objective `hw-gpt-memory`: memory of language models in float16, as the surrogate of HW-GPT-Bench estimates it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, ClassVar

from diffnag.search_spaces.gpt.surrogate import Surrogates

if TYPE_CHECKING:
    import numpy as np

    from diffnag.arch import Arch
    from diffnag.datasets.tasks import Task
    from diffnag.networks.plan import Skeleton
    from diffnag.protocols import SearchSpace


class HWGPTMemory:
    """Estimated memory in MB, minimised. The surrogate costs nothing to ask, so limits on it are met before anything is paid."""

    name: ClassVar[str] = "hw-gpt-memory"
    unit: ClassVar[str] = "MB"
    maximise: ClassVar[bool] = False
    paid: ClassVar[bool] = False
    _surrogates: Surrogates

    @property
    def origin(self) -> str:
        """See `Sourced`."""
        return self._surrogates.sha256

    def provenance(self) -> Mapping[str, str]:
        """See `Sourced`: the file of the surrogates."""
        return {"surrogates": "HW-GPT-Bench", "sha256": self.origin}

    def setup(self, *, space: SearchSpace, task: Task, skeleton: Skeleton | None) -> None:
        """Read the surrogates, which are those of the benchmark's own networks; see `Surrogates.of` for the errors."""
        self._surrogates = Surrogates.of(space, asked_by=f"objective {self.name!r}")

    def measure(self, arch: Arch, *, task: Task) -> float:
        """Estimated memory of one architecture."""
        return float(self.predict_many([arch])[0])

    def predict_many(self, archs: Sequence[Arch]) -> np.ndarray:
        """Estimated memory of many architectures, float64 `(b,)`."""
        return self._surrogates.predict("float16_memory", archs)
