"""The shipped plug-ins keep the contracts that third parties' are held to."""

from __future__ import annotations

from pathlib import Path

import pytest

from diffnag.plugins import load_class, make_oracle
from diffnag.predictors.mlp import MLPPredictor
from diffnag.predictors.path_ensemble import PathEnsemblePredictor
from diffnag.predictors.random_forest import RandomForestPredictor
from diffnag.protocols import Oracle, Predictor
from diffnag.search_spaces.nasbench201.space import NASBench201
from diffnag.testing import OracleContract, PredictorContract, SearchSpaceContract


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
