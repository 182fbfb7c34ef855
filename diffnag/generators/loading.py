"""Generators and generator families by name."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, cast

from diffnag.plugins import make
from diffnag.protocols import PrefersGenerator

if TYPE_CHECKING:
    import torch

    from diffnag.protocols import Family, Generator, SearchSpace

DEFAULT_FAMILY = "sde"
"""The family of a space that prefers none."""


def load_family(name: str) -> Family:
    """Make the generator family behind a registered name or dotted path; raises `UserError`."""
    return cast("Family", make("generator", name, ("Sampling", "load")))


def family_of(space: SearchSpace, name: str | None = None) -> str:
    """The family that is used: `name` if it is given, else the one that the space prefers."""
    if name is not None:
        return name
    return space.generator if isinstance(space, PrefersGenerator) else DEFAULT_FAMILY


def load_generator(
    space: SearchSpace, family: str | None = None, *, checkpoint: Path | None = None, device: str | torch.device = "cpu"
) -> Generator:
    """The generator of `space`: of the family that it prefers unless one is named, from the shipped file unless one is given."""
    return load_family(family_of(space, family)).load(space, checkpoint, device=device)


def family_from_command_line(arguments: Sequence[str]) -> str:
    """The family that a command line means, before the family's own options can be parsed.

    That is `--generator` if it is given. Otherwise the space is loaded to see which family it prefers; the default space, and a mere call
    for help, use the default.
    """
    first = argparse.ArgumentParser(add_help=False, allow_abbrev=False, exit_on_error=False)
    first.add_argument("--generator")
    first.add_argument("--space", default="")
    try:
        known, _ = first.parse_known_args(list(arguments))
    except (argparse.ArgumentError, SystemExit):
        return DEFAULT_FAMILY  # the full parser will say what is wrong
    if known.generator is not None:
        return str(known.generator)
    if not known.space or "-h" in arguments or "--help" in arguments:
        return DEFAULT_FAMILY
    from diffnag.spaces.loading import load_space

    return family_of(load_space(known.space))
