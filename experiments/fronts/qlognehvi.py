"""BoTorch's qLogNEHVI as a search method, for comparison: `pip install 'diffnag[bench]'`."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, Any, ClassVar, Self

import numpy as np

from diffnag.arch import ArchBatch
from diffnag.search_loop.methods.base import Setting, batch_of, mutations, promising, taken
from diffnag.search_loop.methods.model_based import INITIAL

if TYPE_CHECKING:
    from torch import Tensor

    from diffnag.arch import Arch
    from diffnag.search_loop.domain import Domain
    from diffnag.search_loop.trial import Batch, Known

POOL = 100
"""Neighbours of the best, and as many random draws, among which each label is chosen."""
SAMPLES = 64
"""Draws of the acquisition function."""


@dataclass(frozen=True)
class QLogNEHVI:
    """Log noisy expected hypervolume improvement (Ament et al., NeurIPS 2023) on BoTorch's default Gaussian process for each objective.

    Inputs are the entries of V and E that vary. It is optimised over a pool of candidates, as the space is discrete.
    """

    domain: Domain
    seed: int
    searches_fronts: ClassVar[bool] = True
    uses: ClassVar[frozenset[str]] = frozenset()
    defaults: ClassVar[Mapping[str, Any]] = {}

    @classmethod
    def of(cls, setting: Setting) -> Self:
        """See `Method`."""
        return cls(setting.domain, setting.seed)

    def propose(self, known: Known, q: int) -> Batch:
        """See `Method`."""
        count = len(known.history) + len(known.pending)
        rng = np.random.default_rng([self.seed, count])
        seen = taken(self.domain, known)
        usable = promising(self.domain, known.history)
        if count < INITIAL or len(usable) < 2:
            return batch_of(islice(self.domain.random(rng, seen), min(max(INITIAL - count, 1), q)))
        pool = mutations(self.domain, (trial.arch for trial in usable), POOL, seen, rng)
        pool += islice(self.domain.random(rng, seen), POOL)
        goal = self.domain.goal
        values = goal.signs * goal.values(usable)
        order = self._ranked([trial.arch for trial in usable], values, pool, seed=int(rng.integers(2**31)))
        return batch_of([pool[i] for i in order[:q]])

    def _ranked(self, archs: Sequence[Arch], values: np.ndarray, pool: Sequence[Arch], *, seed: int) -> list[int]:
        """Indices of the pool, the largest acquisition value first."""
        import torch
        from botorch.acquisition.multi_objective.logei import qLogNoisyExpectedHypervolumeImprovement
        from botorch.fit import fit_gpytorch_mll
        from botorch.models import ModelListGP, SingleTaskGP
        from botorch.sampling import SobolQMCNormalSampler
        from gpytorch.mlls import SumMarginalLogLikelihood

        X, candidates = self._inputs(archs), self._inputs(pool)
        y = torch.from_numpy((values - values.mean(0)) / np.maximum(values.std(0), 1e-9))
        with warnings.catch_warnings(), torch.random.fork_rng():
            warnings.simplefilter("ignore")
            torch.manual_seed(seed)
            model = ModelListGP(*(SingleTaskGP(X, y[:, j : j + 1]) for j in range(y.shape[1])))
            fit_gpytorch_mll(SumMarginalLogLikelihood(model.likelihood, model))
            reference = torch.cat([y[:, :1].median()[None], y[:, 1:].min(0).values - 0.1])
            acquisition = qLogNoisyExpectedHypervolumeImprovement(
                model, reference.tolist(), X, sampler=SobolQMCNormalSampler(torch.Size([SAMPLES]), seed=seed), prune_baseline=True
            )
            with torch.no_grad():
                worth = torch.cat([acquisition(part[:, None]) for part in candidates.split(50)])
        return [int(i) for i in torch.argsort(worth, descending=True)]

    def _inputs(self, archs: Sequence[Arch]) -> Tensor:
        from torch import from_numpy

        from diffnag.predictors.plain_features import plain_features, varying

        batch = ArchBatch.of(archs, self.domain.space)
        return from_numpy(plain_features(batch.V.numpy(), batch.E.numpy())[:, varying(self.domain.space)])
