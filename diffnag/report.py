"""`python -m diffnag.report`: write the page of a search that has ended."""

from __future__ import annotations

import argparse
from pathlib import Path

from diffnag.command.running import run_command


def main() -> None:
    """Parse the command line, write the page."""
    p = argparse.ArgumentParser(
        "python -m diffnag.report", description="Write report.html into the folder of a search: one page with all that was found, for any browser.",
        epilog="example: python -m diffnag.report runs/nasbench201-cifar10-meta-0",
    )  # fmt: skip
    p.add_argument("run", metavar="RUN", type=Path, help="folder of a search")
    p.add_argument("--space", metavar="PATH", help="package.module:Class that the search was given as its space; this code makes the drawings")
    args = p.parse_args()

    from diffnag.search_loop.report.page import write_report

    print(f"wrote {write_report(args.run, own_space=args.space)}")


if __name__ == "__main__":
    run_command(main)
