"""A network in 8 bits: it answers as in 32, from a file that is smaller."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnxruntime
import torch
from torch import nn

from diffnag.datasets.images import Images
from diffnag.networks.onnx_file import write_onnx
from diffnag.search_loop.finish.eight_bits import EightBits, write_eight_bits
from diffnag.search_loop.finish.finished import Share


def pictures(count: int, *, seed: int) -> Images:
    """Pictures of 8 pixels a side: red ones and blue ones."""
    rng = np.random.default_rng(seed)
    y = np.arange(count) % 2
    x = rng.integers(0, 100, (count, 8, 8, 3), dtype=np.uint8)
    x[y == 0, :, :, 0] += 120
    x[y == 1, :, :, 2] += 120
    return Images(x, y.astype(np.int64))


def test_it_classifies_as_in_32_bits(tmp_path: Path) -> None:
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(3, 64, 3, padding=1), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(64, 2)).eval()
    with torch.no_grad():  # the first channels pass red on, the others blue
        network[0].weight.zero_()
        network[0].weight[:32, 0, 1, 1] = network[0].weight[32:, 2, 1, 1] = torch.linspace(0.1, 3, 32)
        red = torch.cat([torch.ones(32), -torch.ones(32)])
        network[4].weight.copy_(torch.stack([red, -red]))
    inputs = [torch.rand(2, 3, 16, 16)]
    write_onnx(tmp_path / "a.onnx", network, inputs, name="images", axes={0: "batch"}, facts={})
    test = pictures(40, seed=1)
    found = write_eight_bits(tmp_path / "b.onnx", tmp_path / "a.onnx", train=pictures(30, seed=0), test=test, side=16)
    assert found.test == Share(40, 40) and found.milliseconds > 0 and found.milliseconds_in_32_bits > 0
    answers = [onnxruntime.InferenceSession(tmp_path / name).run(None, {"images": inputs[0].numpy()})[0] for name in ("a.onnx", "b.onnx")]
    assert 0 < np.abs(answers[0] - answers[1]).max() < 0.05 * np.abs(answers[0]).max() + 0.5  # other weights, near them
    assert list(tmp_path.glob("*.onnx")) and len(list(tmp_path.iterdir())) == 2  # no file is left over


def test_one_line_for_a_user() -> None:
    line = str(EightBits(Share(9, 10), 1.234, 5.678))
    assert line == "test accuracy 90.00 %; 1.23 ms an image on one core, 5.68 ms in 32 bits"
