"""Rules of a search space that can be checked on a few of its architectures."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import TYPE_CHECKING, get_args

import numpy as np

from diffnag.arch import Arch
from diffnag.errors import UserError
from diffnag.protocols import Attention, Decoded, HasRoles, Picture, Pictured
from diffnag.spaces.draws import random_archs
from diffnag.spaces.roles import fault_of

if TYPE_CHECKING:
    from diffnag.protocols import SearchSpace

DRAWS = 5
"""Random architectures on which the rules are checked."""
Rule = tuple[str, Callable[[], bool | str]]
"""What must hold, and a check of it: True, or False, or a sentence that says what is wrong."""


def broken_rule(space: SearchSpace) -> str | None:
    """The first rule that `space` breaks, as a sentence, or None. It is checked on the space's attributes and `DRAWS` architectures.

    `diffnag.testing.SearchSpaceContract` checks more.
    """
    for rule, kept in _rules(space):
        try:
            found = kept()
        except Exception as error:  # a user's class may fail in any way
            return f"{rule}; it raised {type(error).__name__}: {error}"
        if isinstance(found, str):
            return f"{rule}: {found}"
        if not found:
            return rule
    return None


def _rules(space: SearchSpace) -> Iterator[Rule]:
    """The rules of a space in the order of checking: each relies on those before it."""
    draws = partial(random_archs, space, DRAWS, seed=0)
    yield "name must be a word of letters, digits, '.', '_' and '-'", lambda: bool(re.fullmatch(r"\w[\w.-]*", space.name))
    yield "nodes must be a whole number of at least 1", lambda: _is_count(space.nodes)
    yield "operators must be a tuple of names, each once", lambda: _are_names(space.operators)
    yield "roles must be declared for every operator, or not at all", lambda: _fault_of_roles(space) or True
    yield f"attention must be one of {', '.join(map(repr, get_args(Attention)))}", lambda: space.attention in get_args(Attention)
    yield "datasets must map names to (classes, image side)", lambda: _maps(space.datasets, _is_pair)
    yield "skeletons must be one or more pairs (channels, cells)", lambda: bool(space.skeletons) and all(map(_is_pair, space.skeletons))
    yield "parameters must map names to choices", lambda: _maps(space.parameters, _are_names)
    yield "random(rng) must return an Arch drawn with the generator rng", lambda: all(isinstance(arch, Arch) for arch in draws())
    archs = draws()
    yield "random(rng) must return the same architecture for generators of the same seed", lambda: draws() == archs
    shapes = (space.nodes, len(space.operators)), (space.nodes, space.nodes)
    for arch in archs:
        yield from _rules_of(space, arch, shapes)
    yield f"constant must be bool arrays {shapes[0]} and {shapes[1]}", lambda: all(map(_is_bool, space.constant, shapes))
    yield "constant must be True only for entries that are the same in all architectures", lambda: _stay(space, archs)
    yield "attention 'ancestors' is only for spaces with a constant E", lambda: space.attention != "ancestors" or bool(space.constant[1].all())
    yield "from_str must raise UserError for text that is no architecture", lambda: _refuses(space)
    V, E = space.encode(archs[0])
    for other in (np.zeros_like(V), np.ones_like(V)):
        yield "decode must return Decoded(None, reason) for matrices of no architecture", partial(_is_refused, space, other, E)


def _rules_of(space: SearchSpace, arch: Arch, shapes: tuple[tuple[int, int], ...]) -> Iterator[Rule]:
    """The rules for one architecture."""
    yield f"encode must return arrays V {shapes[0]} and E {shapes[1]}", lambda: tuple(part.shape for part in space.encode(arch)) == shapes
    yield "encode must return numpy arrays", lambda: all(isinstance(part, np.ndarray) for part in space.encode(arch))
    V, E = space.encode(arch)
    yield "the entries of V and E must be 0 or 1", lambda: set(np.unique(V)) | set(np.unique(E)) <= {0, 1}
    yield "a node must have at most one operator", lambda: V.sum(1).max() <= 1
    yield "E must be upper triangular", lambda: not np.tril(E).any()
    yield "decode must return Decoded(arch, None) for the matrices of encode(arch)", lambda: space.decode(V, E) == Decoded(arch, None)
    yield "to_str must return a str", lambda: isinstance(space.to_str(arch), str)
    yield "from_str must invert to_str", lambda: space.from_str(space.to_str(arch)) == arch
    yield "to_parameters must return one of the choices for each of parameters", lambda: _are_choices(space.to_parameters(arch), space.parameters)
    yield "from_parameters must invert to_parameters", lambda: space.from_parameters(space.to_parameters(arch)) == arch
    yield "canonical must return a str", lambda: isinstance(space.canonical(arch), str)
    yield "canonical must return the same key each time", lambda: space.canonical(arch) == space.canonical(arch)
    yield "neighbours must return a list of other architectures, each once", lambda: _are_others(space.neighbours(arch), arch)
    yield (
        "picture must return a Picture with texts, edges between them without a cycle, and one panel for each text or none",
        lambda: not isinstance(space, Pictured) or _can_be_drawn(space.picture(arch)),
    )


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
    import networkx

    if not isinstance(picture, Picture) or not all(isinstance(text, str) for text in (*picture.texts, *picture.panels)):
        return False
    nodes, ends = len(picture.texts), {end for edge in picture.edges for end in edge}
    acyclic = networkx.is_directed_acyclic_graph(networkx.DiGraph(picture.edges))
    return nodes > 0 and len(picture.panels) in (0, nodes) and ends <= set(range(nodes)) and acyclic


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
