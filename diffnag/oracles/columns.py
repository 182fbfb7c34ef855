"""Columns of results, named `dataset/split/epochs`: which exist, and which one answers a query."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from diffnag.errors import UserError
from diffnag.oracles.checked import refuse_unknown


class Columns:
    """The columns of a table or surrogate, which errors call `what`. Raises `UserError` for a name of another form."""

    def __init__(self, what: str, keys: Iterable[str]) -> None:
        self._what = what
        self._epochs: dict[str, dict[str, list[int]]] = {}
        for key in keys:
            try:
                dataset, split, epochs = key.split("/")
                trained = int(epochs)
            except (AttributeError, ValueError) as error:
                raise UserError(f"the {what} has a column {key!r}; accepted are names dataset/split/epochs, such as cifar10/val/200") from error
            self._epochs.setdefault(dataset, {}).setdefault(split, []).append(trained)

    @property
    def available(self) -> Mapping[str, tuple[str, ...]]:
        """Dataset -> its splits."""
        return {dataset: tuple(splits) for dataset, splits in self._epochs.items()}

    def find(self, dataset: str, split: str, epochs: int | None) -> str:
        """Name of the column; `epochs=None` means the longest training. Raises `UserError` if there is no such column."""
        refuse_unknown(self._epochs, dataset, split)
        known = self._epochs[dataset][split]
        epochs = max(known) if epochs is None else epochs
        if epochs not in known:
            raise UserError(f"the {self._what} has no results of {epochs} epochs; there are: {', '.join(map(str, sorted(known)))}")
        return f"{dataset}/{split}/{epochs}"
