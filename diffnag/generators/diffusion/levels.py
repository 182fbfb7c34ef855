"""The noise levels that a score network is trained on."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from diffnag.generators.diffusion.samplers import time_grid

if TYPE_CHECKING:
    from diffnag.generators.diffusion.sde import SDE

FOCUS = (0.8, 0.55)
"""Centre and spread of the log-normal noise sigma / alpha: around the centre most entries, -1 or 1, are decided."""


def training_times(sde: SDE, focus: float) -> Tensor:
    """Return 1,001 descending times: a share `focus` log-normal in noise (`FOCUS`), the rest equidistant in log noise as in sampling."""
    grid = time_grid(sde, 1000)
    if not focus:
        return grid
    centre, spread = FOCUS
    levels = sde.noise_to_signal(grid).log()
    density = torch.exp(-(((levels - math.log(centre)) / spread) ** 2) / 2)
    reached = ((1 - focus) / len(grid) + focus * density / density.sum()).cumsum(0)
    return torch.from_numpy(np.interp(np.linspace(0, 1, len(grid)), reached.numpy(), grid.numpy()).astype(np.float32))
