"""The shipped plug-ins keep the contracts that third parties' are held to."""

from __future__ import annotations

from pathlib import Path

import pytest

from diffnag.plugins import load_class, make_oracle
from diffnag.protocols import Oracle, Predictor
from diffnag.testing import OracleContract, PredictorContract, SearchSpaceContract
from predictors.mlp import MLPPredictor
from predictors.path_ensemble import PathEnsemblePredictor
from predictors.random_forest import RandomForestPredictor
from search_spaces.nasbench201 import NASBench201


class TestNASBench201(SearchSpaceContract):
    pass  # `space` is in conftest.py


class TestRandomForest(PredictorContract):
    @pytest.fixture
    def predictor_class(self) -> type[Predictor]:
        return RandomForestPredictor


class TestMLP(PredictorContract):
    @pytest.fixture
    def predictor_class(self) -> type[Predictor]:
        return MLPPredictor


class TestPathEnsemble(PredictorContract):
    @pytest.fixture
    def predictor_class(self) -> type[Predictor]:
        return PathEnsemblePredictor


class TestMeta(PredictorContract):
    @pytest.fixture(params=["meta", "meta-only"])
    def predictor_class(self, request: pytest.FixtureRequest) -> type[Predictor]:
        return load_class("predictor", request.param)


class TestTableOracle(OracleContract):
    @pytest.fixture
    def oracle(self, space: NASBench201, data_folder: Path, monkeypatch: pytest.MonkeyPatch) -> Oracle:
        monkeypatch.setenv("DIFFNAG_DATA", str(data_folder))
        oracle = make_oracle("table")
        oracle.setup(space=space)
        return oracle


class TestProxyOracle(OracleContract):
    low, high = -1e3, 1e3

    @pytest.fixture(params=["naswot", "synflow", "zen"])
    def oracle(self, space: NASBench201, request: pytest.FixtureRequest) -> Oracle:
        oracle = make_oracle(request.param)
        oracle.setup(space=space)
        return oracle


class TestSurrogateOracle(OracleContract):
    @pytest.fixture
    def oracle(self, space: NASBench201) -> Oracle:
        oracle = make_oracle("surrogate")
        oracle.setup(space=space)
        return oracle
