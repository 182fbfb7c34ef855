"""`python -m diffnag.draw`: draw one architecture."""

from __future__ import annotations

import argparse
from pathlib import Path

from diffnag.command import arguments
from diffnag.command.running import run_command


def main() -> None:
    """Parse the command line, draw, write the picture."""
    p = argparse.ArgumentParser(
        "python -m diffnag.draw", description="Draw one architecture: operators as coloured boxes, edges as arrows.",
        epilog="example: python -m diffnag.draw 'conv3x3@0/maxpool3x3@0,1/output@1,2' --space nasbench101 --out cell.svg",
    )  # fmt: skip
    p.add_argument("arch", metavar="ARCH", help="the architecture as its space writes it, in quotes, because shells treat | and ( as special")
    p.add_argument("--space", default="nasbench201", help="search space: a name or package.module:Class (default: nasbench201)")
    p.add_argument("--out", type=Path, required=True, help="file for the picture, ending in .svg, .png or .pdf")
    args = p.parse_args()

    from diffnag.drawing.picture import check_suffix, save
    from diffnag.io.files import check_writable
    from diffnag.spaces.loading import load_space

    check_suffix(args.out)
    check_writable(args.out)
    space = load_space(args.space)
    arch = space.from_str(args.arch)
    save(args.out, arch, space)
    print(f"wrote {args.out}{arguments.read_as(args.arch, space.to_str(arch))}")


if __name__ == "__main__":
    run_command(main)
