"""Columns of results, named `dataset/split/epochs`: what there is, and the one that a query means."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from diffnag.errors import UserError, unknown


class Columns:
    """The columns of a table or surrogate; `what` names it in errors."""

    def __init__(self, what: str, keys: Iterable[str]) -> None:
        self._what = what
        self._epochs: dict[str, dict[str, list[int]]] = {}
        for key in keys:
            dataset, split, epochs = key.split("/")
            self._epochs.setdefault(dataset, {}).setdefault(split, []).append(int(epochs))

    @property
    def available(self) -> Mapping[str, tuple[str, ...]]:
        """Dataset -> its splits."""
        return {dataset: tuple(splits) for dataset, splits in self._epochs.items()}

    def find(self, dataset: str, split: str, epochs: int | None) -> str:
        """The column's name; `epochs` None is the longest training there is. `UserError` for what is not there."""
        if dataset not in self._epochs:
            raise unknown("dataset", dataset, self._epochs)
        if split not in self._epochs[dataset]:
            raise unknown("split", split, self._epochs[dataset])
        there = self._epochs[dataset][split]
        epochs = max(there) if epochs is None else epochs
        if epochs not in there:
            raise UserError(f"the {self._what} has no results of {epochs} epochs; there are: {', '.join(map(str, sorted(there)))}")
        return f"{dataset}/{split}/{epochs}"
