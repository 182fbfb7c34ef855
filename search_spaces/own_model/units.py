"""The choices of a space of parts: groups of channels and residual blocks, put together so that there are not too many."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

from diffnag.search_spaces.own_model.network import Elastic, Group, in_body

MOST = 20
"""Units, at most: a long chain is hard to search."""
TRUNK = "trunk"
"""Name of the unit of all channels that residual blocks add to."""


@dataclass(frozen=True)
class Unit:
    """One choice: the share of the channels of some groups, or that some blocks are left out; all by their numbers."""

    name: str
    groups: tuple[int, ...]
    blocks: tuple[int, ...]
    begin: int
    """Number of its first layer."""
    stage: int
    """Number of the size of maps at which it works, from 0."""
    weights: int
    """Number of weights of its layers."""


def units_of(network: Elastic, sides: Mapping[str, int]) -> tuple[Unit, ...]:
    """The units in the order of the network; `sides` are pixels a side of the output of each layer, in the order in which they run.

    A block is one unit with the groups inside it. The channels to which blocks add, of all stages, are one unit, the first. A group whose
    layers see a single pixel and lie within another group, as those of squeeze-and-excitation do, goes with that one. Every other group
    is a unit. If there are too many, neighbours of the same stage are put together, the smallest first.
    """
    order = {layer: number for number, layer in enumerate(sides)}
    owned = [frozenset(map(in_body, block.owned)) & order.keys() for block in network.blocks]
    inside: dict[int, list[int]] = {number: [] for number in range(len(owned))}
    trunk, alone = [], {}
    for number, group in enumerate(network.groups):
        if within := [block for block, layers in enumerate(owned) if group.layers <= layers]:
            inside[min(within, key=lambda block: len(owned[block]))].append(number)
        elif any(group.layers & layers for layers in owned):
            trunk.append(number)
        else:
            alone[number] = group

    def unit(groups: Sequence[int], blocks: Sequence[int], layers: Collection[str], *, name: str) -> Unit:
        widest = sorted(set(sides.values()), reverse=True)
        first = min(layers, key=order.__getitem__)
        weights = sum(parameter.numel() for layer in layers for parameter in network.get_submodule(layer).parameters())
        mapped = [layer for layer in layers if sides[layer] > 1] or layers  # squeeze-and-excitation is at its stage, not at one of its own
        last = max(mapped, key=order.__getitem__)
        return Unit(name or first.removeprefix(in_body("")), tuple(groups), tuple(blocks), order[first], widest.index(sides[last]), weights)

    found = [unit(groups, [number], owned[number], name=_common(network.blocks[number].owned)) for number, groups in inside.items()]
    hosts = _hosts(alone, order, sides)
    for number, group in alone.items():
        if hosts[number] == number:
            written = [place.layer for place in group.places if place.side == "out"]
            found.append(unit([other for other, host in hosts.items() if host == number], [], written, name=""))
    found = _fewer(sorted(found, key=lambda one: one.begin), MOST - bool(trunk))
    twice = {name for name, times in Counter(one.name for one in found).items() if times > 1}
    found = [replace(one, name=network.blocks[one.blocks[0]].total) if one.name in twice and one.blocks else one for one in found]
    return (*([Unit(TRUNK, tuple(trunk), (), 0, 0, 0)] if trunk else []), *found)


def _common(layers: Collection[str]) -> str:
    """The longest path of modules that all layers lie in; empty if there is none."""
    paths = [layer.split(".")[:-1] for layer in layers]
    shared = []
    for parts in zip(*paths, strict=False):
        if len(set(parts)) > 1:
            break
        shared.append(parts[0])
    return ".".join(shared)


def _hosts(groups: Mapping[int, Group], order: Mapping[str, int], sides: Mapping[str, int]) -> dict[int, int]:
    """The group that each group goes with: the closest one around it, for those that see a single pixel, else itself."""
    spans = {}
    for number, group in groups.items():
        places = [order[layer] for layer in group.layers]
        spans[number] = (min(places), max(places))
    small = {number for number, group in groups.items() if all(sides[layer] == 1 for layer in group.layers)}

    def host(number: int) -> int:
        begin, end = spans[number]
        around = [other for other in groups if other not in small and spans[other][0] < begin and end < spans[other][1]]
        return min(around, key=lambda other: spans[other][1] - spans[other][0], default=number) if number in small else number

    return {number: host(number) for number in groups}


def _fewer(units: Sequence[Unit], most: int) -> list[Unit]:
    """At most so many units, as neighbours are put together: at first those that can both be left out, or neither, in one stage."""
    found = list(units)
    while len(found) > most:
        pairs = list(enumerate(pairwise(found)))

        def cost(pair: tuple[int, tuple[Unit, Unit]]) -> tuple[bool, bool, int]:
            _, (one, other) = pair
            return bool(one.blocks) != bool(other.blocks), one.stage != other.stage, one.weights + other.weights

        number, (one, other) = min(pairs, key=cost)
        blocks = one.blocks + other.blocks if one.blocks and other.blocks else ()
        name = f"{one.name.partition(' to ')[0]} to {other.name.rpartition(' to ')[2]}"
        joined = Unit(name, one.groups + other.groups, blocks, one.begin, one.stage, one.weights + other.weights)
        found[number : number + 2] = [joined]
    return found
