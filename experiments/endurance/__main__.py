"""`python -m experiments.endurance`: try what should never happen, thousands of times."""

from __future__ import annotations

import argparse
import sys

from experiments.endurance import bad_inputs, growth, kills, storages


def main() -> None:
    """Parse the command line, run; exits 1 if anything fell."""
    parser = argparse.ArgumentParser("python -m experiments.endurance", description="Try what should never happen, thousands of times.")
    commands = parser.add_subparsers(dest="command", required=True)
    parts = {
        "bad-inputs": (bad_inputs, "call every command with bad inputs, each of which must end in one sentence"),
        "kills": (kills, "kill searches and trainings at random moments and resume them"),
        "storages": (storages, "let disks, servers and clocks fail under a search"),
        "growth": (growth, "measure what a label costs as a study grows"),
    }
    for name, (module, text) in parts.items():
        module.add_arguments(commands.add_parser(name, help=text, description=text))
    args = parser.parse_args()
    sys.exit(bool(parts[args.command][0].main(args)))


if __name__ == "__main__":
    main()
