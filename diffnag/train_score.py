"""Train a generator's network on the unlabelled architectures of a space: `python -m diffnag.train_score`."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from diffnag.command.options import add_options, given
from diffnag.command.running import run_command
from diffnag.errors import UserError
from diffnag.generators.loading import family_from_command_line, load_family
from diffnag.generators.options import Training
from diffnag.protocols import TrainableFamily

RECIPES = ("shipped",)


def parser(family: TrainableFamily, name: str) -> argparse.ArgumentParser:
    """The command's arguments: those of every training, and those of the family `name`."""
    p = argparse.ArgumentParser(
        "python -m diffnag.train_score", description="Train a generator's network on the unlabelled architectures of a space.",
        epilog="Started by torchrun, several processes share each step. Neither an interruption nor their number changes what is learned.",
    )  # fmt: skip
    p.add_argument("--generator", help="generator family, a name or package.module:Class (default: the one that the space prefers)")
    add_options(p, Training)
    p.add_argument("--recipe", help="shipped: the options of the network that the package ships for the space; options given beside it come first")
    p.add_argument("--out", type=Path, help="where the weights go, .safetensors (with --recipe shipped by default where the package keeps its own)")
    p.add_argument("--resume", action="store_true", help="go on with the interrupted training of --out")
    p.add_argument("--device", default="auto", help="auto, cpu, cuda, ... (default: auto)")
    add_options(p.add_argument_group(f"options of the family {name}"), family.Config)
    return p


def main(argv: Sequence[str] | None = None) -> None:
    """Parse the command line and train."""
    arguments = sys.argv[1:] if argv is None else list(argv)
    name = family_from_command_line(arguments)
    family = load_family(name)
    if not isinstance(family, TrainableFamily):
        raise UserError(f"generator {name!r} has no network to train; accepted are families with build and loss, such as sde")
    args = parser(family, name).parse_args(arguments)
    training, config = given(args, Training), given(args, family.Config)
    out = args.out
    if args.recipe is not None:
        recipe = _recipe(args.recipe, training.get("space", Training().space), name)
        training, config = recipe["training"] | training, recipe["config"] | config
        out = out or recipe["out"]
    if out is None:
        raise UserError("--out is missing: name the file that the weights go to, such as my_weights.safetensors")

    from diffnag.generators.training import train

    train(family, Training(**training), family.Config(**config), out=out, resume=args.resume, device=args.device)


def _recipe(recipe: str, space: str, family: str) -> dict[str, Any]:
    """Options of training and family that the package's own network was made with, and the place of its file."""
    from diffnag.generators.recipes import shipped_recipe

    if recipe not in RECIPES:
        raise UserError(f"unknown recipe {recipe!r}; there are: {', '.join(RECIPES)}")
    return shipped_recipe(space, family)


if __name__ == "__main__":
    run_command(main)
