"""The contract of oracles."""

from __future__ import annotations

import json

import pytest

from diffnag.arch import Arch
from diffnag.errors import UserError
from diffnag.protocols import Oracle, SearchSpace
from diffnag.testing.draws import draws


class OracleContract:
    """What every oracle must do. Fixtures: `oracle`, set up with `space`, and `space`. Values lie in `low` to `high`.

    `sparse` names the splits that it has for some architectures only; for the others it raises a `UserError` that says so.
    """

    low, high = 0.0, 100.0
    sparse: tuple[str, ...] = ()

    def test_answers_for_all_that_is_available(self, oracle: Oracle, space: SearchSpace) -> None:
        assert oracle.available and all(oracle.available.values())
        archs = draws(space, 5)
        for dataset, splits in oracle.available.items():
            for split in splits:
                values = [self._value(oracle, arch, dataset=dataset, split=split) for arch in archs]
                there = [value for value in values if value is not None]
                assert there or split in self.sparse
                assert all(isinstance(value, float) and self.low <= value <= self.high for value in there)
                assert values == [self._value(oracle, arch, dataset=dataset, split=split) for arch in archs], "same answer twice"

    def _value(self, oracle: Oracle, arch: Arch, *, dataset: str, split: str) -> float | None:
        try:
            return oracle.query(arch, dataset=dataset, split=split)
        except UserError as lacking:
            assert split in self.sparse and split in str(lacking)
            return None

    def test_what_is_not_there_is_refused_and_what_is_there_named(self, oracle: Oracle, space: SearchSpace) -> None:
        (arch,) = draws(space, 1)
        dataset, (split, *_) = next(iter(oracle.available.items()))
        with pytest.raises(UserError, match=dataset):
            oracle.query(arch, dataset="no-such-dataset", split=split)
        with pytest.raises(UserError, match=split):
            oracle.query(arch, dataset=dataset, split="no-such-split")
        with pytest.raises(UserError, match="epochs"):
            oracle.query(arch, dataset=dataset, split=split, epochs=987_654_321)

    def test_provenance_can_stand_in_a_result(self, oracle: Oracle) -> None:
        assert oracle.kind
        json.dumps(dict(oracle.provenance()), allow_nan=False)
