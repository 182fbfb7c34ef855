"""What is searched for, and how."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from diffnag.errors import UserError, unknown
from diffnag.plugins import names
from diffnag.search_loop.acquisition import ACQUISITIONS
from diffnag.search_loop.methods.base import BASELINES, METHODS

REWARDS = ("val", "test")
CANDIDATES = 128
"""Architectures generated a round."""
SCALE = 6.0
"""Of the guidance: twice that of generation, as a search wants the best more than variety."""
SEARCH_SHARE = 0.6
"""Of the time limit, where the best architecture is trained on one's own images afterwards."""


@dataclass(frozen=True)
class SearchOptions:
    """What is searched for, and how.

    `predictor`, `acquisition`, `candidates`, `scale` and `checkpoint` belong to method `diffnag` and are refused with
    a baseline, but for the `acquisition` of `gp-enumerate`. `reward` is the split whose accuracy is maximised: `val` is
    protocol V, `test` protocol T.

    `dataset` is one that the oracle knows, or a user's own images (see `diffnag.datasets.images`); `image_size` (pixels a
    side) and `epochs` (of a whole evaluation) belong to these. `time_limit` is in seconds.
    """

    dataset: str
    predictor: str | None = None
    space: str = "nasbench201"
    oracle: str = "auto"
    reward: str = "val"
    budget: int = 30
    batch: int = 1
    method: str = "diffnag"
    acquisition: str | None = None
    candidates: int | None = None
    scale: float | None = None
    checkpoint: Path | None = None
    max_params: int | None = None
    max_flops: int | None = None
    image_size: int | None = None
    epochs: int | None = None
    time_limit: float | None = None
    seed: int = 0
    device: str = "auto"

    def resolved(self) -> SearchOptions:
        """With the defaults of `diffnag` filled in; raises `UserError` for what does not fit together."""
        for kind, name, known in (("method", self.method, METHODS), ("reward", self.reward, REWARDS)):
            if name not in known:
                raise unknown(kind, name, known)
        counts = {"budget": self.budget, "batch": self.batch, "candidates": self.candidates}
        counts |= {"max-params": self.max_params, "max-flops": self.max_flops, "epochs": self.epochs}
        for key, value in counts.items():
            if value is not None and value < 1:
                raise UserError(f"{key} is {value}; at least 1 is accepted")
        if self.time_limit is not None and not self.time_limit > 0:
            raise UserError(f"time-limit is {self.time_limit}; more than 0 seconds are accepted")
        if self.acquisition not in (None, *ACQUISITIONS):
            raise unknown("acquisition", str(self.acquisition), ACQUISITIONS)
        own = {key: getattr(self, key) for key in ("predictor", "acquisition", "candidates", "scale", "checkpoint")}
        if self.method in BASELINES:
            used = ("acquisition",) if self.method == "gp-enumerate" else ()
            if given := [f"--{key}" for key, value in own.items() if value is not None and key not in used]:
                raise UserError(f"method {self.method!r} makes no use of {', '.join(given)}; leave it out, or use --method diffnag")
            return self
        if self.predictor is None:
            raise UserError(f"method 'diffnag' needs --predictor; there are: {', '.join(names('predictor'))}, or a dotted path")
        scale = SCALE if self.scale is None else self.scale
        return replace(self, acquisition=self.acquisition or "ucb", candidates=self.candidates or CANDIDATES, scale=scale)
