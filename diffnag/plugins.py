"""Names to classes: `meta` (an entry point) or `package.module:Class` (a dotted path)."""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Callable, Iterable, Mapping
from importlib.metadata import entry_points
from typing import TYPE_CHECKING, Any, cast

from diffnag.errors import UserError, unknown

if TYPE_CHECKING:
    import numpy as np

    from diffnag.arch import Arch
    from diffnag.protocols import Oracle, Predictor, SearchSpace

GROUPS = {
    "space": "diffnag.search_spaces",
    "predictor": "diffnag.predictors",
    "oracle": "diffnag.oracles",
}


def names(kind: str) -> list[str]:
    """The registered names of a kind: `space`, `predictor` or `oracle`."""
    return sorted(point.name for point in entry_points(group=GROUPS[kind]))


def load_class(kind: str, name: str) -> type[Any]:
    """The class behind a registered name or a dotted path `package.module:Class`.

    Raises `UserError` that names what there is, or what part of the path failed.
    """
    if ":" not in name:
        for point in entry_points(group=GROUPS[kind], name=name):
            return cast("type[Any]", point.load())
        raise unknown(kind, name, [*names(kind), "or a dotted path package.module:Class"])
    module_name, _, class_name = name.partition(":")
    if os.getcwd() not in sys.path and "" not in sys.path:
        sys.path.insert(0, os.getcwd())  # a console script does not see the user's folder, `python -m` does
    try:
        module = importlib.import_module(module_name)
    except Exception as error:  # a user's module may fail in any way
        raise UserError(f"{kind} {name!r}: importing {module_name!r} failed: {type(error).__name__}: {error}") from error
    found = getattr(module, class_name, None)
    if not isinstance(found, type):
        classes = [key for key, value in vars(module).items() if isinstance(value, type) and value.__module__ == module_name]
        raise UserError(f"{kind} {name!r}: {module_name} has no class {class_name!r}; it has: {', '.join(classes) or 'none'}")
    return found


def _make(kind: str, name: str, members: tuple[str, ...]) -> Any:
    cls = load_class(kind, name)
    missing = [member for member in members if not hasattr(cls, member)]
    if missing:
        raise UserError(f"{kind} {name!r} lacks {', '.join(missing)}; a {kind} must offer {', '.join(members)}")
    try:
        return cls()
    except Exception as error:  # a user's class may fail in any way
        raise UserError(f"{kind} {name!r} cannot be made without arguments: {type(error).__name__}: {error}") from error


SPACE_MEMBERS = (
    "name", "nodes", "operators", "attention", "constant", "datasets", "skeletons", "to_str", "from_str", "encode", "decode",
    "canonical", "random", "neighbours", "enumerate", "parameters", "to_parameters", "from_parameters", "size", "build",
)  # fmt: skip


def load_space(name: str) -> SearchSpace:
    """Make the search space behind a registered name or dotted path.

    One of a user's own is tried on one architecture; `UserError` says which rule it breaks. `SearchSpaceContract` in
    `diffnag.testing` tells more.
    """
    space = cast("SearchSpace", _make("space", name, ()))
    if missing := [member for member in SPACE_MEMBERS if not hasattr(type(space), member) and member not in vars(space)]:
        raise UserError(f"space {name!r} lacks {', '.join(missing)}; a space must offer {', '.join(SPACE_MEMBERS)}")
    if ":" in name:
        try:
            broken = _broken_rule(space)
        except Exception as error:  # a user's class may fail in any way
            raise UserError(f"space {name!r} fails on an architecture of its own: {type(error).__name__}: {error}") from error
        if broken:
            raise UserError(f"space {name!r} breaks a rule: {broken}")
    return space


def _broken_rule(space: SearchSpace) -> str | None:
    """The first rule of a space that one random architecture shows to be broken."""
    import numpy as np

    from diffnag.arch import Arch
    from diffnag.protocols import Picture, Pictured

    plain: list[tuple[str, bool]] = [
        ("name must be a word", isinstance(space.name, str) and bool(space.name)),
        ("operators must be a tuple of names", isinstance(space.operators, tuple | list) and all(isinstance(name, str) for name in space.operators)),
        ("datasets must map names to (classes, image side)", isinstance(space.datasets, Mapping)),
    ]
    if broken := next((rule for rule, kept in plain if not kept), None):
        return broken
    arch = space.random(np.random.default_rng(0))
    if not isinstance(arch, Arch):
        return f"random must give an Arch, not {type(arch).__name__}"
    V, E = (np.asarray(part) for part in space.encode(arch))
    shapes = (space.nodes, len(space.operators)), (space.nodes, space.nodes)
    rules: list[tuple[str, Callable[[], bool]]] = [
        (f"encode must give V {shapes[0]} and E {shapes[1]}, it gives {V.shape} and {E.shape}", lambda: (V.shape, E.shape) == shapes),
        ("encode must give entries 0 and 1", lambda: set(np.unique(V)) | set(np.unique(E)) <= {0, 1}),
        ("a node must have one operator at most", lambda: V.sum(1).max() <= 1),
        ("E must be upper triangular", lambda: not np.tril(E).any()),
        ("decode must invert encode", lambda: space.decode(V, E)[0] == arch),
        ("from_str must invert to_str", lambda: space.from_str(space.to_str(arch)) == arch),
        ("from_parameters must invert to_parameters", lambda: space.from_parameters(space.to_parameters(arch)) == arch),
        ("random must draw the same from the same generator", lambda: space.random(np.random.default_rng(0)) == arch),
        ("attention must be 'ancestors', 'causal' or 'full'", lambda: space.attention in ("ancestors", "causal", "full")),
        ("skeletons must name a pair (channels, cells)", lambda: bool(space.skeletons)),
        ("canonical must give text", lambda: isinstance(space.canonical(arch), str)),
        ("neighbours must give a list of other architectures", lambda: _others(space.neighbours(arch), arch)),
        (f"constant must be bool arrays {shapes[0]} and {shapes[1]}", lambda: _bools(space.constant) == list(shapes)),
        ("picture must give a Picture", lambda: not isinstance(space, Pictured) or isinstance(space.picture(arch), Picture)),
    ]
    return next((rule for rule, kept in rules if not kept()), None)


def _others(found: object, arch: Arch) -> bool:
    from diffnag.arch import Arch

    return isinstance(found, list) and all(isinstance(other, Arch) and other != arch for other in found)


def _bools(arrays: Iterable[np.ndarray]) -> list[tuple[int, ...]]:
    """The shapes of those that are bool arrays."""
    return [part.shape for part in arrays if part.dtype == bool]


def make_predictor(name: str) -> Predictor:
    """Make the predictor behind a registered name or dotted path; `setup` is still to be called."""
    return cast("Predictor", _make("predictor", name, ("fit", "predict")))


def make_oracle(name: str) -> Oracle:
    """Make the oracle behind a registered name or dotted path; `setup` is still to be called."""
    return cast("Oracle", _make("oracle", name, ("kind", "setup", "available", "query", "provenance")))
