"""A network as an ONNX file, whose logits are compared with those of torch."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor, nn

from diffnag.io.files import written_whole

if TYPE_CHECKING:
    from onnxruntime import InferenceSession

ONNX_TOLERANCE = 1e-4
"""Largest accepted difference between the logits of an ONNX file and of torch, as a share of the largest logit where that is above 1."""


def write_onnx(
    path: str | Path, network: nn.Module, inputs: Sequence[Tensor], *, name: str, axes: Mapping[int, str], facts: Mapping[str, str], unit: float = 1.0
) -> float:
    """Write `network`, which is on the CPU and in evaluation mode, with the input `name` and the output `logits`.

    The input may have any size in `axes`, which are named; the metadata of the file hold `facts`. Returns the largest absolute difference
    between the logits of onnxruntime and of torch on `inputs`, the first of which is traced, in units of `unit`. Raises `RuntimeError` if it is above
    `ONNX_TOLERANCE`: untrained networks may have logits of hundreds, which are rounded more.
    """
    with quiet("torch.onnx"):
        program = torch.onnx.export(
            network, (inputs[0],), dynamo=True, verbose=False, input_names=[name], output_names=["logits"],
            dynamic_shapes=({axis: torch.export.Dim(called) for axis, called in axes.items()},),
        )  # fmt: skip
    assert program is not None
    program.model.metadata_props.update(facts)
    with written_whole(path) as temporary:
        program.save(temporary, external_data=False)
        difference, largest = (value / unit for value in _difference(temporary, network, inputs, name=name))
        accepted = ONNX_TOLERANCE * max(1.0, largest)
        if not difference <= accepted:
            raise RuntimeError(f"its logits differ from torch's by {difference:.2g}; accepted is {accepted:g}")
    return difference


@torch.no_grad()
def _difference(path: Path, network: nn.Module, inputs: Sequence[Tensor], *, name: str) -> tuple[float, float]:
    """Largest difference of a logit, and the largest logit of torch."""
    session = open_session(path)
    answers = [(session.run(None, {name: given.numpy()})[0], network(given).numpy()) for given in inputs]
    return max(float(np.abs(theirs - ours).max()) for theirs, ours in answers), max(float(np.abs(ours).max()) for _, ours in answers)


def open_session(path: Path) -> InferenceSession:
    """A session of onnxruntime on the CPU for an ONNX file, which stays silent but for errors."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3  # errors
    return onnxruntime.InferenceSession(path.read_bytes(), options, providers=["CPUExecutionProvider"])


@contextmanager
def quiet(name: str) -> Iterator[None]:
    """Context without warnings, and without those of a logger: of absent packages and of deprecated parts, which a user cannot change."""
    logger = logging.getLogger(name)
    before = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(before)
