"""The rules of a search space that some of its architectures can show to be broken."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import TYPE_CHECKING, get_args

import numpy as np

from diffnag.arch import Arch
from diffnag.errors import UserError
from diffnag.protocols import Attention, Decoded, HasRoles, Picture, Pictured
from diffnag.spaces.roles import fault_of

if TYPE_CHECKING:
    from diffnag.protocols import SearchSpace

DRAWS = 5
Rule = tuple[str, Callable[[], bool | str]]
"""What must hold, and a check of it: True, or False, or a sentence that says what is wrong."""


def broken_rule(space: SearchSpace) -> str | None:
    """The first rule that `space` breaks, by what it says of itself and of `DRAWS` random architectures, or None.

    For a message in one sentence; `diffnag.testing.SearchSpaceContract` asks for more.
    """
    for rule, kept in _rules(space):
        try:
            found = kept()
        except Exception as error:  # a user's class may fail in any way
            return f"{rule}, and here it came to {type(error).__name__}: {error}"
        if isinstance(found, str):
            return f"{rule}: {found}"
        if not found:
            return rule
    return None


def _rules(space: SearchSpace) -> Iterator[Rule]:
    """Each stands on those before it."""
    yield "name must be a word of letters, digits, '.', '_' and '-'", lambda: bool(re.fullmatch(r"\w[\w.-]*", space.name))
    yield "nodes must be a whole number of at least 1", lambda: _is_count(space.nodes)
    yield "operators must be a tuple of names, each once", lambda: _are_names(space.operators)
    yield "roles must be declared for every operator, or not at all", lambda: _fault_of_roles(space) or True
    yield f"attention must be one of {', '.join(map(repr, get_args(Attention)))}", lambda: space.attention in get_args(Attention)
    yield "datasets must map names to (classes, image side)", lambda: _maps(space.datasets, _is_pair)
    yield "skeletons must name a pair (channels, cells) or more", lambda: bool(space.skeletons) and all(map(_is_pair, space.skeletons))
    yield "parameters must map names to their choices", lambda: _maps(space.parameters, _are_names)
    yield "random must give an Arch, drawn from the generator that it is given", lambda: all(isinstance(arch, Arch) for arch in _draws(space))
    archs = _draws(space)
    yield "random must draw the same from the same generator", lambda: _draws(space) == archs
    shapes = (space.nodes, len(space.operators)), (space.nodes, space.nodes)
    for arch in archs:
        yield from _rules_of(space, arch, shapes)
    yield f"constant must be bool arrays {shapes[0]} and {shapes[1]}", lambda: all(map(_is_bool, space.constant, shapes))
    yield "constant must mark only entries that are the same in all architectures", lambda: _stay(space, archs)
    yield "attention 'ancestors' is only for spaces with a constant E", lambda: space.attention != "ancestors" or bool(space.constant[1].all())
    yield "from_str must refuse other text with a UserError", lambda: _refuses(space)
    V, E = space.encode(archs[0])
    for other in (np.zeros_like(V), np.ones_like(V)):
        yield "decode must give Decoded(None, reason) for matrices of no architecture", partial(_is_refused, space, other, E)


def _rules_of(space: SearchSpace, arch: Arch, shapes: tuple[tuple[int, int], ...]) -> Iterator[Rule]:
    """Rules that one architecture must meet."""
    yield f"encode must give arrays V {shapes[0]} and E {shapes[1]}", lambda: tuple(part.shape for part in space.encode(arch)) == shapes
    yield "encode must give numpy arrays", lambda: all(isinstance(part, np.ndarray) for part in space.encode(arch))
    V, E = space.encode(arch)
    yield "encode must give entries 0 and 1", lambda: set(np.unique(V)) | set(np.unique(E)) <= {0, 1}
    yield "a node must have one operator at most", lambda: V.sum(1).max() <= 1
    yield "E must be upper triangular", lambda: not np.tril(E).any()
    yield "decode must give Decoded(arch, None) for what encode gave", lambda: space.decode(V, E) == Decoded(arch, None)
    yield "to_str must give text", lambda: isinstance(space.to_str(arch), str)
    yield "from_str must invert to_str", lambda: space.from_str(space.to_str(arch)) == arch
    yield "to_parameters must give a choice for each of parameters", lambda: _are_choices(space.to_parameters(arch), space.parameters)
    yield "from_parameters must invert to_parameters", lambda: space.from_parameters(space.to_parameters(arch)) == arch
    yield "canonical must give text", lambda: isinstance(space.canonical(arch), str)
    yield "canonical must give the same each time", lambda: space.canonical(arch) == space.canonical(arch)
    yield "neighbours must give a list of other architectures, each once", lambda: _are_others(space.neighbours(arch), arch)
    yield (
        "picture must give a Picture of texts, edges i -> j with i < j, and a panel each or none",
        lambda: not isinstance(space, Pictured) or _can_be_drawn(space.picture(arch)),
    )


def _draws(space: SearchSpace) -> list[Arch]:
    rng = np.random.default_rng(0)
    return [space.random(rng) for _ in range(DRAWS)]


def _fault_of_roles(space: SearchSpace) -> str | None:
    return fault_of(space.roles, space.operators) if isinstance(space, HasRoles) else None


def _is_count(value: object) -> bool:
    return isinstance(value, int | np.integer) and not isinstance(value, bool) and bool(value >= 1)


def _is_pair(value: object) -> bool:
    return isinstance(value, tuple | list) and len(value) == 2 and all(map(_is_count, value))


def _maps(value: object, check: Callable[[object], bool]) -> bool:
    return isinstance(value, Mapping) and all(map(check, value.values()))


def _are_names(values: object) -> bool:
    return isinstance(values, tuple | list) and all(isinstance(name, str) for name in values) and len(set(values)) == len(values) > 0


def _is_bool(part: np.ndarray, shape: tuple[int, int]) -> bool:
    return isinstance(part, np.ndarray) and bool(part.dtype == bool) and part.shape == shape


def _are_choices(chosen: Mapping[str, str], parameters: Mapping[str, tuple[str, ...]]) -> bool:
    return list(chosen) == list(parameters) and all(chosen[name] in choices for name, choices in parameters.items())


def _are_others(found: object, arch: Arch) -> bool:
    return isinstance(found, list) and all(isinstance(other, Arch) for other in found) and len({*found, arch}) == len(found) + 1


def _can_be_drawn(picture: object) -> bool:
    if not isinstance(picture, Picture) or not all(isinstance(text, str) for text in (*picture.texts, *picture.panels)):
        return False
    nodes = len(picture.texts)
    return nodes > 0 and len(picture.panels) in (0, nodes) and all(0 <= i < j < nodes for i, j in picture.edges)


def _stay(space: SearchSpace, archs: list[Arch]) -> bool:
    encoded = [space.encode(arch) for arch in archs]
    return all((part == first)[fixed].all() for parts in encoded for part, first, fixed in zip(parts, encoded[0], space.constant, strict=True))


def _refuses(space: SearchSpace) -> bool:
    try:
        space.from_str("no architecture")
    except UserError:
        return True
    return False


def _is_refused(space: SearchSpace, V: np.ndarray, E: np.ndarray) -> bool:
    decoded = space.decode(V, E)
    return decoded.arch is None and bool(decoded.reason)
