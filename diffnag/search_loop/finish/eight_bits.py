"""The best network in 8 bits: an ONNX file with integer weights and activations, its accuracy, and how much faster it is."""

from __future__ import annotations

import tempfile
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from diffnag.io.files import written_whole
from diffnag.networks.answers import parts_of
from diffnag.networks.onnx_file import open_session, quiet
from diffnag.networks.training import evaluation_batch
from diffnag.search_loop.finish.finished import Share

if TYPE_CHECKING:
    from diffnag.datasets.images import Images

CALIBRATED = 100
"""Training images from which the ranges of activations are read."""
ROUNDS = 20
"""Rounds of timing."""


@dataclass(frozen=True)
class EightBits:
    """The quantised network: test accuracy, 0 to 1, and the latency of one image on one core in ms, beside that in 32 bits."""

    test: Share
    milliseconds: float
    milliseconds_in_32_bits: float

    def to_json(self) -> dict[str, Any]:
        """The part of `result.json`."""
        times = {key: round(value, 4) for key, value in asdict(self).items() if key != "test"}
        return {"test_accuracy": self.test.value, "test_interval": self.test.interval, **times}

    def __str__(self) -> str:
        """One line for a user."""
        times = f"{self.milliseconds:.3g} ms an image on one core, {self.milliseconds_in_32_bits:.3g} ms in 32 bits"
        return f"test accuracy {100 * self.test.value:.2f} %; {times}"


def write_eight_bits(path: Path, source: Path, *, train: Images, test: Images, side: int | None) -> EightBits:
    """Quantise the ONNX file `source`, which takes pixels in [0, 1] or arrays as they are, to `path`, and judge it on the test images.

    Photos are resized to the `side` that the network takes.

    Weights are integers with a scale for each channel, activations with one for each tensor, of the range that training images give
    (static quantisation of onnxruntime). Timed on this machine, in turn with `source`.
    """
    from onnxruntime.quantization import CalibrationDataReader, CalibrationMethod, QuantFormat, QuantType, quant_pre_process, quantize_static

    from diffnag.devices.runner import network_run, timed_rounds

    class Calibration(CalibrationDataReader):
        """Training images one by one."""

        def __init__(self) -> None:
            chosen = np.random.default_rng(0).permutation(len(train.y))[:CALIBRATED]
            self._left = parts_of(replace(train, x=train.x[chosen], y=train.y[chosen]), side=side, batch=1)

        def get_next(self) -> dict[str, np.ndarray] | None:
            """The next image; None at the end."""
            return next(({"images": part.numpy()} for part in self._left), None)

    with quiet("root"), tempfile.TemporaryDirectory() as folder, written_whole(path) as temporary:
        prepared = Path(folder) / "prepared.onnx"
        quant_pre_process(source, prepared, skip_symbolic_shape=True)
        quantize_static(
            prepared, temporary, Calibration(), quant_format=QuantFormat.QDQ, per_channel=True, activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8, calibrate_method=CalibrationMethod.MinMax,
        )  # fmt: skip
    contents = {name: file.read_bytes() for name, file in (("8", path), ("32", source))}
    height, width = (side, side) if side else test.x.shape[1:3]
    session, parts = open_session(path), parts_of(test, side=side, batch=evaluation_batch(height * width))
    chosen = [session.run(None, {"images": part.numpy()})[0].argmax(1) for part in parts]
    hits = int((np.concatenate(chosen) == test.y).sum())
    *_, times = timed_rounds({name: network_run(content, batch=1, threads=1) for name, content in contents.items()}, rounds=ROUNDS)
    return EightBits(Share(hits, len(test.y)), times["8"], times["32"])
