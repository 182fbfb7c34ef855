"""Show what is installed: search spaces with their datasets, plug-ins, and checkpoints. Run `python -m diffnag.list`."""

from __future__ import annotations

import argparse
import json
import textwrap
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from diffnag.command.running import run_command
from diffnag.errors import DataNotFound, UserError
from diffnag.io.files import PRETRAINED
from diffnag.plugins import GROUPS, load_class, names

if TYPE_CHECKING:
    from diffnag.protocols import SearchSpace

WIDTH = 120
"""Characters a line."""
OWN_IMAGES = "digits (of scikit-learn), a folder with one sub-folder of images for each class, an .npz file with x_train and y_train"
DOTTED = "or package.module:Class"


def main() -> None:
    """Parse the command line and print."""
    parser = argparse.ArgumentParser(
        prog="python -m diffnag.list",
        description="Show the search spaces and the datasets that search accepts in each, the predictors, oracles and samplers, and "
        "the checkpoints in the package. With --space, show one space.",
    )
    parser.add_argument("--space", help="show the nodes, operators and datasets of this space, a name or package.module:Class")
    args = parser.parse_args()
    for line in _overview() if args.space is None else _one_space(args.space):
        print(line)


def _overview() -> Iterator[str]:
    from diffnag.generators.diffusion.samplers import SAMPLERS
    from diffnag.spaces.loading import load_space

    yield "search spaces, and the datasets for search --dataset (in brackets: the oracle that answers)"
    for name in names("space"):
        try:
            space = load_space(name)
            found = search_datasets(space)
        except UserError as error:
            yield from _row(name, [f"cannot be used: {error}"])
            continue
        for oracle, datasets in found.items():
            yield from _row(name, [f"{', '.join(datasets)}  ({oracle})"])
            name = ""
        if not found:
            yield from _row(name, [_none_by_name(space)])
    yield from _row("every space of images", [f"your own images: {OWN_IMAGES}  (training)"])
    yield from _row("your own model", ["search --model package.module:function, for your own images  (inherit)"])
    yield ""
    for kind in [kind for kind in GROUPS if kind != "space"]:
        yield from _row(f"{kind}s", [*names(kind), DOTTED], indent=0)
    yield from _row("samplers", list(SAMPLERS), indent=0)
    yield ""
    yield "checkpoints in the package"
    for path in sorted(PRETRAINED.rglob("*.safetensors")):
        yield from textwrap.wrap(f"{path.relative_to(PRETRAINED)}: {_described(path)}", WIDTH, initial_indent="  ", subsequent_indent="    ")
    yield ""
    yield "one space: python -m diffnag.list --space NAME"


def _one_space(name: str) -> Iterator[str]:
    from diffnag.protocols import HasResolution, HasRoles, Inherits, TakesTokens, WithoutNetworks
    from diffnag.spaces.loading import load_space
    from diffnag.spaces.roles import describe

    space = load_space(name)
    yield from _row("space", [name], indent=0)
    yield from _row("nodes", [f"at most {space.nodes}"], indent=0)
    title = "operators"
    for row in describe(space):
        yield from _row(title, [f"{row.operator}: {row.roles}"], indent=0)
        title = ""
    origin = "declared by the space" if isinstance(space, HasRoles) else "read off the operators' names, as the space declares none"
    yield from _row(title, [f"(roles {origin}; see diffnag.protocols.HasRoles)"], indent=0)
    title = "datasets"
    for oracle, datasets in search_datasets(space).items():
        yield from _row(title, [f"{', '.join(_described_dataset(dataset, space) for dataset in datasets)}  ({oracle})"], indent=0)
        title = ""
    if isinstance(space, Inherits) or not isinstance(space, TakesTokens | HasResolution | WithoutNetworks):
        oracle = "inherit" if isinstance(space, Inherits) else "training"
        yield from _row(title, [f"your own images: {OWN_IMAGES}  ({oracle})"], indent=0)
    elif title:
        yield from _row(title, [_none_by_name(space)], indent=0)


def _described_dataset(dataset: str, space: SearchSpace) -> str:
    """A dataset with the shape of its data, if the space knows it, and what is measured if it is no accuracy."""
    from diffnag.protocols import HasResolution, Minimises, NamesMeasures, TakesTokens

    facts = []
    if dataset in space.datasets:
        classes, side = space.datasets[dataset]
        pixels = "each architecture has its own resolution" if isinstance(space, HasResolution) else f"{side} x {side} pixels"
        facts.append(f"{classes:,} tokens, context of {side:,}" if isinstance(space, TakesTokens) else f"{classes:,} classes, {pixels}")
    if isinstance(space, NamesMeasures) and dataset in space.measures:
        measure = space.measures[dataset]
        facts.append(f"{measure}, less is better" if isinstance(space, Minimises) and measure in space.minimised else measure)
    return f"{dataset} ({'; '.join(facts)})" if facts else dataset


def _none_by_name(space: SearchSpace) -> str:
    """The text for a space in which no dataset can be searched, with the reason if an oracle lacks its data."""
    from diffnag.search_loop.oracle import find_oracle

    try:
        find_oracle("auto", space)
    except DataNotFound as error:
        return f"none by name: {error}"
    return "none by name"


def search_datasets(space: SearchSpace) -> dict[str, tuple[str, ...]]:
    """The datasets that `search --dataset` accepts by name in `space`, by the oracle that answers for them.

    The first oracle is the one that `--oracle auto` takes, if there is one. Training-free oracles answer for the other datasets, unless
    the networks of the space take tokens.
    """
    from diffnag.protocols import TakesTokens
    from diffnag.search_loop.oracle import find_oracle

    try:
        oracle = find_oracle("auto", space)
        found = {oracle.kind: tuple(oracle.available)}
    except DataNotFound:
        found = {}
    if isinstance(space, TakesTokens):
        return found
    if others := tuple(dataset for dataset in space.datasets if dataset not in next(iter(found.values()), ())):
        found[f"--oracle {', '.join(_training_free())}"] = others
    return found


def _training_free() -> Sequence[str]:
    """Names of the oracles that train nothing and open no file."""
    from diffnag.oracles.proxy import ProxyOracle

    return [name for name in names("oracle") if _is_proxy(name, ProxyOracle)]


def _is_proxy(name: str, base: type) -> bool:
    try:
        return issubclass(load_class("oracle", name), base)
    except UserError:  # another plug-in that is broken
        return False


def _row(title: str, entries: Sequence[str], *, indent: int = 2) -> Iterator[str]:
    """`title`, and the entries beside it in lines of at most `WIDTH` characters."""
    column = " " * 26 if indent else " " * 14
    first = f"{' ' * indent}{title} ".ljust(len(column))
    yield from textwrap.wrap(
        ", ".join(entries), WIDTH, initial_indent=first, subsequent_indent=column, break_on_hyphens=False, break_long_words=False
    )


def _described(path: Path) -> str:
    """Kind, size and figures of a checkpoint (numbers in metadata entries named `figures...`), from its header alone."""
    from safetensors import safe_open

    with safe_open(path, framework="np") as file:
        meta = json.loads((file.metadata() or {}).get("diffnag", "{}"))
    parts = [str(meta.get("kind", "of unknown kind")), f"{path.stat().st_size / 1e6:.2f} MB"]
    for key, figures in meta.items():
        if key.startswith("figures"):
            parts += [f"{name} {value:.4g}" for name, value in figures.items() if isinstance(value, int | float)]
    return ", ".join(parts)


if __name__ == "__main__":
    run_command(main)
