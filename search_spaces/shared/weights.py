"""Files of a network's weights, of which only tensors are read."""

from __future__ import annotations

import pickle
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from diffnag.errors import UserError
from diffnag.io.text_tables import reading

WRAPPERS = ("state_dict", "model", "model_state_dict", "weights")
"""Keys under which trainings save the weights beside other things."""
PARALLEL = "module."
"""What `DataParallel` puts before every name."""


def read_weights(file: Path) -> dict[str, Tensor]:
    """The tensors by name of a `.pth`, `.pt` or `.safetensors` file; raises `UserError` if it cannot be read, or holds other things.

    Weights that lie under `state_dict` or `model` are found there, and a prefix `module.` of all names is taken off.
    """
    if not file.is_file():
        raise UserError(f"there is no file {file}")
    with reading(file, "file of weights"):
        if file.suffix == ".safetensors":
            from safetensors.torch import load_file

            return load_file(file)
        if file.suffix not in (".pth", ".pt"):
            raise UserError(f"{file} is no file of weights: accepted are .pth, .pt and .safetensors")
        content = _plain(file)
    if isinstance(content, Mapping):
        content = next((content[key] for key in WRAPPERS if isinstance(content.get(key), Mapping)), content)
    if not isinstance(content, Mapping) or not all(isinstance(tensor, Tensor) for tensor in content.values()):
        raise UserError(f"{file} is no file of weights: it holds other things than tensors by name")
    parallel = all(name.startswith(PARALLEL) for name in content)
    return {name.removeprefix(PARALLEL) if parallel else name: tensor for name, tensor in content.items()}


def _plain(file: Path) -> Any:
    """The tensors and plain values of a file of torch; raises `UserError` for one with anything else, which would have to be unpickled."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch warns of pickles that it does not know
            return torch.load(file, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        fault = "it is damaged, or holds other things than tensors, which are not unpickled"
        raise UserError(f"{file} is no readable file of weights: {fault}") from error
