"""What a plug-in must offer. Anything with these members fits; nothing has to be subclassed."""

from diffnag.protocols.generators import Family, Generator, HasLikelihood, LogProb, TrainableFamily
from diffnag.protocols.methods import Method
from diffnag.protocols.objectives import NeedsNetwork, Objective, Predicts
from diffnag.protocols.oracles import MultiFidelity, NeedsImages, Oracle
from diffnag.protocols.predictors import HasPrior, NeedsSetup, NoisyPredictor, Predictor, RelaxedPredictor
from diffnag.protocols.spaces import (
    Attention,
    Decoded,
    HasMoreTables,
    HasParts,
    HasResNetLike,
    HasRoles,
    NamesMeasures,
    Picture,
    Pictured,
    PrefersGenerator,
    Prunes,
    ReadsTables,
    Role,
    SearchSpace,
    Size,
    TrainsSmall,
)

__all__ = [
    "Attention",
    "Decoded",
    "Family",
    "Generator",
    "HasLikelihood",
    "HasMoreTables",
    "HasParts",
    "HasPrior",
    "HasResNetLike",
    "HasRoles",
    "LogProb",
    "Method",
    "MultiFidelity",
    "NamesMeasures",
    "NeedsImages",
    "NeedsNetwork",
    "NeedsSetup",
    "NoisyPredictor",
    "Objective",
    "Oracle",
    "Picture",
    "Pictured",
    "Predictor",
    "Predicts",
    "PrefersGenerator",
    "Prunes",
    "ReadsTables",
    "RelaxedPredictor",
    "Role",
    "SearchSpace",
    "Size",
    "TrainableFamily",
    "TrainsSmall",
]
