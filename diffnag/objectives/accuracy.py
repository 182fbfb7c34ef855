"""The label of a task: what an oracle answers. It is paid for, and the first objective of every search."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, ClassVar

from diffnag.datasets.images.asked import CLASSIFICATION, MEASURES
from diffnag.protocols import Minimises, MultiFidelity, NamesMeasures

if TYPE_CHECKING:
    from diffnag.arch import Arch
    from diffnag.datasets.images import ImageDataset
    from diffnag.datasets.tasks import Task
    from diffnag.oracles.checked import CheckedOracle
    from diffnag.protocols import SearchSpace

ACCURACY, SCORE = MEASURES[CLASSIFICATION], "score"
PROXY = "proxy"
"""Kind of the oracles that train nothing: they answer a score, which belongs to no split."""


@dataclass(frozen=True)
class Label:
    """What `oracle` answers on `split`. The one place where a search asks an oracle for values."""

    oracle: CheckedOracle
    split: str
    name: str = ACCURACY
    maximise: bool = True
    paid: ClassVar[bool] = True

    @property
    def unit(self) -> str:
        """`%` for accuracies and other scores of a user's own images; other labels are plain numbers."""
        return unit_of(self.name)

    def measure(self, arch: Arch, *, task: Task) -> float:
        """The finite value of a whole evaluation; raises `EvaluationFailed` or `UserError` as `CheckedOracle` does."""
        return self.oracle.query(arch, dataset=task.name, split=self.split)

    def stages(self, arch: Arch, *, task: Task) -> Iterator[tuple[int, float]]:
        """`(epochs, value)` on the way to the end of one evaluation; only for an oracle that is `watched`."""
        assert isinstance(self.oracle, MultiFidelity)
        return self.oracle.stages(arch, dataset=task.name, split=self.split)

    def on(self, split: str) -> Label:
        """The same label on another split."""
        return replace(self, split=split)

    @property
    def watched(self) -> bool:
        """Whether an evaluation can be watched and stopped."""
        return isinstance(self.oracle, MultiFidelity)

    @property
    def epochs(self) -> int:
        """Epochs of a whole evaluation, if it is `watched`."""
        assert isinstance(self.oracle, MultiFidelity)
        return self.oracle.epochs


def label_name(space: SearchSpace, *, dataset: str, kind: str, images: ImageDataset | None = None) -> str:
    """What an oracle of this `kind` answers on one dataset: a proxy's score, else as the space names it, else an accuracy.

    On a user's own `images` that are not classified it is the score of their task.
    """
    if kind == PROXY:
        return SCORE
    if images is not None:
        return MEASURES[images.task]
    return space.measures.get(dataset, ACCURACY) if isinstance(space, NamesMeasures) else ACCURACY


def is_maximised(space: SearchSpace, name: str) -> bool:
    """Whether more of the label called `name` is better."""
    return not (isinstance(space, Minimises) and name in space.minimised)


def unit_of(name: str) -> str:
    """The unit of a label by its name."""
    return "%" if name in MEASURES.values() else ""
