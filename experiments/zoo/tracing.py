"""Trace the models of timm and torchvision with torch.fx on the meta device: no weights are made or loaded."""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
from torch import Tensor, fx, nn

LEAVES = re.compile(
    r"Attention|Attn|^Squeeze|^SEModule$|^SEWithNorm$|^SELayer$|Effective|Eca|Cbam|GatherExcite|GlobalContext|PatchMerging|LayerScale|DropPath"
    r"|StochasticDepth|Norm|EvoNorm|Halo|Lambda|NonLocal|Rope|RelPos|PosEmbed|PosConv$|BlurPool|SelectAdaptivePool|Pooling"
)
"""Classes that are taken as one operation each."""
OPENED = re.compile(
    r"(Stage|Block|BlockPostNorm|Layer|Network|Net)$|^Conv.*Norm|^Linear|^NormLinear|NormMlp|NormFirst|WithNorm$|^SeparableConv|^Downsample|^Stem|^NormDownsample"
    r"|^DepthwiseSep|NormConv"
)
"""Classes that look like them, and are taken apart all the same."""
UNTRACED_ONLY_BY_HABIT = ("NormFreeBlock",)
"""Classes that timm does not trace, though it can be done."""
FACTS = ("kernel_size", "stride", "groups", "in_channels", "out_channels", "in_features", "out_features")


@dataclass
class Row:
    """One step of a traced model: the class of a module, or the name of a function or method, with the shape of what it gives.

    `shape` is a list of numbers for a tensor, a list of shapes for several, and a text for anything else.
    """

    name: str
    kind: str
    inputs: list[str]
    shape: Any
    facts: dict[str, Any] = field(default_factory=dict)
    args: tuple[Any, ...] = ()
    kwargs: dict[str, Any] = field(default_factory=dict)
    active: bool = False
    """Whether a normalisation has an activation in it."""


def builders() -> Iterator[tuple[str, Callable[[], nn.Module], tuple[int, int, int] | None]]:
    """Name, builder, and shape of the images of every model; None where the model states it itself."""
    import timm
    import torchvision

    for name in torchvision.models.list_models(module=torchvision.models):
        side = 299 if "inception" in name else 224
        yield f"torchvision:{name}", partial(torchvision.models.get_model, name, weights=None), (3, side, side)
    for name in timm.list_models():
        yield f"timm:{name}", partial(timm.create_model, name, pretrained=False), None


def traced(build: Callable[[], nn.Module], images: tuple[int, int, int] | None) -> tuple[list[Row], int]:
    """The steps of the model that `build` makes, and pixels a side of its images. Raises whatever building and tracing raise."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            with torch.device("meta"):
                model = build()
        except NotImplementedError:  # it computes widths with tensors, which have no values there
            model = build().to("meta")
        shape = images or tuple(model.default_cfg["input_size"])  # type: ignore[index]
        graph = _Tracer().trace(model.eval())
        module = fx.GraphModule(model, graph)
        with torch.no_grad():
            _Shapes(module).run(torch.empty(2, *shape, device="meta"))
    return [_row(node, module) for node in graph.nodes], shape[1]


class _Tracer(fx.Tracer):
    def __init__(self) -> None:
        import timm

        super().__init__(autowrap_functions=tuple(timm.layers.get_notrace_functions()), param_shapes_constant=True)
        self.whole = {kind for kind in timm.layers.get_notrace_modules() if kind.__name__ not in UNTRACED_ONLY_BY_HABIT}

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        kind = type(m).__name__
        return type(m) in self.whole or bool(LEAVES.search(kind) and not OPENED.search(kind)) or super().is_leaf_module(m, module_qualified_name)


class _Shapes(fx.Interpreter):
    """Notes the shape of what each step gives."""

    def run_node(self, n: fx.Node) -> Any:
        result = super().run_node(n)
        n.meta["shape"] = _shape(result)
        return result


def _shape(value: object) -> Any:
    if isinstance(value, Tensor):
        return list(value.shape)
    return [_shape(each) for each in value] if isinstance(value, tuple | list) else str(value)


def _row(node: fx.Node, module: fx.GraphModule) -> Row:
    row = Row(node.name, node.op, [each.name for each in node.all_input_nodes], node.meta["shape"])
    if node.op == "call_module":
        part = module.get_submodule(str(node.target))
        row.kind = type(part).__name__
        row.facts = {name: value for name in FACTS if isinstance(value := getattr(part, name, None), int | tuple)}
        row.active = isinstance(act := getattr(part, "act", None), nn.Module) and not isinstance(act, nn.Identity)
    elif node.op in ("call_function", "call_method"):
        row.kind = node.target if isinstance(node.target, str) else getattr(node.target, "__name__", str(node.target))
        row.args, row.kwargs = node.args, dict(node.kwargs)
    return row
