"""What a plug-in must offer. Anything with these members fits; nothing has to be subclassed."""

from diffnag.protocols.generators import Family, Generator, HasLikelihood, LogProb, TrainableFamily
from diffnag.protocols.oracles import MultiFidelity, NeedsImages, Oracle
from diffnag.protocols.predictors import HasPrior, NeedsSetup, NoisyPredictor, Predictor, RelaxedPredictor
from diffnag.protocols.spaces import (
    Attention,
    Decoded,
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
    "HasParts",
    "HasPrior",
    "HasResNetLike",
    "HasRoles",
    "LogProb",
    "MultiFidelity",
    "NamesMeasures",
    "NeedsImages",
    "NeedsSetup",
    "NoisyPredictor",
    "Oracle",
    "Picture",
    "Pictured",
    "Predictor",
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
