"""Contract suites for plug-ins: subclass one in a test module, give the fixtures it names, and run pytest (extra `test`).

    class TestMySpace(SearchSpaceContract):
        @pytest.fixture
        def space(self):
            return MySpace()
"""

from diffnag.testing.draws import draws
from diffnag.testing.generators import GeneratorContract
from diffnag.testing.likelihoods import LikelihoodContract
from diffnag.testing.methods import MethodContract
from diffnag.testing.objectives import ObjectiveContract
from diffnag.testing.oracles import OracleContract
from diffnag.testing.predictors import PredictorContract
from diffnag.testing.spaces import SearchSpaceContract

__all__ = [
    "GeneratorContract",
    "LikelihoodContract",
    "MethodContract",
    "ObjectiveContract",
    "OracleContract",
    "PredictorContract",
    "SearchSpaceContract",
    "draws",
]
