"""Relaxed inputs lie on the simplex, keep what is constant, and tell less the more noise there was."""

from __future__ import annotations

import numpy as np
import torch

from diffnag.arch import ArchBatch
from diffnag.guidance.relaxation import relax


def test_relaxed_architectures(space):
    rng = np.random.default_rng(0)
    batch = ArchBatch.of([space.random(rng) for _ in range(400)], space)
    V, E = relax(batch.V, batch.E, space, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(V.sum(2), torch.ones(400, 8))
    assert torch.equal(E, batch.E) and torch.equal(V[:, [0, 7]], batch.V[:, [0, 7]]) and (V[:, 1:7, :2] == 0).all()
    sure = V[:, 1:7].amax(2)
    assert sure.min() < 0.25 and (sure > 0.99).float().mean() > 0.2  # from nothing known to nothing undecided
    kept = (V.argmax(2) == batch.V.argmax(2))[:, 1:7].float()
    assert kept[sure > 0.9].mean() > 0.9 and abs(kept.mean() - sure.mean()) < 0.03  # posterior means are calibrated
