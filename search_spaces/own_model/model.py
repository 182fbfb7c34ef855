"""A user's own model: the function that makes it, its traced graph, its preprocessing, and a file of its weights."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, fx, nn

from diffnag.errors import UserError, type_and_line
from diffnag.networks.build import seeded
from diffnag.plugins import load_attribute
from diffnag.search_spaces.shared.weights import read_weights

MEAN, STD, SIDE = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225), 224
"""Preprocessing of a model that states none: that of most networks for ImageNet."""
CONFIGURATION = "pretrained_cfg"
"""Attribute of a model that states its preprocessing, as timm's models do: a dictionary with `mean`, `std` and `input_size`."""
SHOWN = 3
"""Names of tensors in an error, at most."""


@dataclass(frozen=True)
class Preprocessing:
    """Statistics of each channel, for pixels in [0, 1], by which images are standardised, and pixels a side."""

    mean: tuple[float, float, float] = MEAN
    std: tuple[float, float, float] = STD
    side: int = SIDE


class OwnModel:
    """The model behind `package.module:function`; raises `UserError` for whatever the function returns that cannot be taken apart."""

    def __init__(self, path: str) -> None:
        self.path = path
        self._make = load_attribute("model", path)
        if not callable(self._make):
            raise UserError(f"model {path!r} is no function that makes a model, it is a {type(self._make).__name__}")
        self.original = self._made(seed=0)
        self.preprocessing = self._preprocessing()
        self.last, self.body, self.classifier = self._traced()
        """Name of the last linear layer, the traced graph up to it, and the layer."""

    def fresh(self) -> Mapping[str, Tensor]:
        """The tensors of a new model, its weights drawn from torch's global generator."""
        return self._called().state_dict()

    def weights(self, file: Path | None) -> Mapping[str, Tensor]:
        """The tensors of the pretrained model: those of the file, or without one those that the function itself loads.

        The last linear layer may have any number of classes. Raises `UserError` for weights of another model, and if there are none.
        """
        if file is None:
            known, other = self.original.state_dict(), self._made(seed=1).state_dict()
            if any(not torch.equal(known[name], other[name]) for name in known):
                raise UserError(f"model {self.path!r} has other weights each time that it is made, so they are not trained; name a file --weights")
            return known
        given, expected = read_weights(file), self.original.state_dict()
        needed = {name: tensor for name, tensor in expected.items() if not name.endswith("num_batches_tracked")}
        faults = {
            "are missing": [name for name in needed if name not in given],
            "are not in the model": [name for name in given if name not in expected],
            "have another shape": [
                name for name in needed if name in given and given[name].shape != needed[name].shape and name.rpartition(".")[0] != self.last
            ],
        }  # fmt: skip
        if wrong := [f"{_listed(names)} {fault}" for fault, names in faults.items() if names]:
            raise UserError(f"{file} holds weights of another model than {self.path!r}: {'; '.join(wrong)}")
        if odd := next((name for name, tensor in given.items() if tensor.is_floating_point() and not tensor.isfinite().all()), None):
            raise UserError(f"{file} has NaN or infinite weights in {odd}")
        return given

    # -- making and tracing

    def _made(self, *, seed: int) -> nn.Module:
        with seeded(seed):
            return self._called()

    def _called(self) -> nn.Module:
        try:
            made = self._make()
        except (Exception, SystemExit) as error:  # a user's function may fail in any way
            raise UserError(f"model {self.path!r} cannot be made without arguments: {type_and_line(error)}") from error
        if not isinstance(made, nn.Module):
            raise UserError(f"model {self.path!r} must return a torch.nn.Module, it returned a {type(made).__name__}")
        return made.eval()

    def _preprocessing(self) -> Preprocessing:
        stated = getattr(self.original, CONFIGURATION, {})
        if not isinstance(stated, Mapping):
            raise self._odd(f"is a {type(stated).__name__}")
        mean, std = (stated.get(name, default) for name, default in (("mean", MEAN), ("std", STD)))
        size = stated.get("input_size", (3, SIDE, SIDE))
        for name, values in (("mean", mean), ("std", std)):
            if not _are_numbers(values, 3) or (name == "std" and min(values) <= 0):
                raise self._odd(f"has {name} {values!r}")
        if not _are_numbers(size, 3) or size[0] != 3 or size[1] != size[2] or not isinstance(size[1], int) or size[1] < 1:
            raise self._odd(f"has input_size {size!r}")
        (m0, m1, m2), (s0, s1, s2) = map(float, mean), map(float, std)
        return Preprocessing((m0, m1, m2), (s0, s1, s2), size[1])

    def _odd(self, what: str) -> UserError:
        return UserError(
            f"{CONFIGURATION} of model {self.path!r} {what}; accepted is a dictionary with mean and std (three numbers each, for pixels "
            f"in [0, 1]) and input_size (3, side, side)"
        )

    def _traced(self) -> tuple[str, fx.GraphModule, nn.Linear]:
        try:
            traced = fx.GraphModule(self.original, _Tracer().trace(self.original))
        except Exception as error:  # of a model whose way depends on its input, and the like
            raise UserError(f"torch.fx cannot trace model {self.path!r}: {type_and_line(error)}") from error
        graph = traced.graph
        every, once = (dict(traced.named_parameters(remove_duplicate=not tied)) for tied in (True, False))
        if shared := [name for name in every if name not in once]:
            raise UserError(f"model {self.path!r} uses the weights {shared[0]} in more than one layer, which is not supported")
        called = [node.target for node in graph.nodes if node.op == "call_module"]
        for name in called:
            if called.count(name) > 1 and next(traced.get_submodule(name).parameters(), None) is not None:
                raise UserError(f"model {self.path!r} uses its layer {name} more than once, which is not supported")
        (output,) = (node for node in graph.nodes if node.op == "output")
        last, classifier = output.args[0], None
        while isinstance(last, fx.Node) and last.op == "call_module":
            layer = traced.get_submodule(str(last.target))
            if not isinstance(layer, nn.Identity | nn.Dropout | nn.Flatten):  # these change no logits
                classifier = layer
                break
            last = last.args[0]
        if not isinstance(classifier, nn.Linear):
            raise UserError(f"model {self.path!r} must return what its last torch.nn.Linear returns, the logits; it returns something else")
        assert isinstance(last, fx.Node)
        output.args = (last.args[0],)
        graph.eliminate_dead_code()
        _keep_inputs(traced)
        return str(last.target), fx.GraphModule(traced, graph), classifier


class _Tracer(fx.Tracer):
    """Keeps layers whole that packages derive from torch's."""

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        return isinstance(m, nn.Conv2d | nn.Linear | nn.BatchNorm1d | nn.BatchNorm2d) or super().is_leaf_module(m, module_qualified_name)


def _keep_inputs(traced: fx.GraphModule) -> None:
    """Let no activation overwrite its input: where a block is left out, that is the output of another activation, which needs it."""
    for layer in traced.modules():
        if getattr(layer, "inplace", False) is True:
            layer.inplace = False  # type: ignore[assignment]
    for node in traced.graph.nodes:
        if node.kwargs.get("inplace") is True:
            node.kwargs = {**node.kwargs, "inplace": False}


def _are_numbers(values: Any, count: int) -> bool:
    is_list = isinstance(values, Sequence) and len(values) == count
    return is_list and all(isinstance(value, int | float) and math.isfinite(value) for value in values)


def _listed(names: Sequence[str]) -> str:
    """The first of some names, and how many there are."""
    shown = ", ".join(names[:SHOWN])
    return f"{len(names)} tensors ({shown}{', ...' if len(names) > SHOWN else ''})"
