"""`python -m diffnag.list`: what there is."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from diffnag.command.running import run_command
from diffnag.io.files import PRETRAINED


def main() -> None:
    """Print the registered plug-ins, the datasets, the samplers and the shipped checkpoints."""
    argparse.ArgumentParser(
        prog="python -m diffnag.list",
        description="Name the search spaces, datasets, predictors, oracles, samplers and shipped checkpoints that are there.",
    ).parse_args()

    from diffnag.datasets.tasks import known_datasets
    from diffnag.generators.diffusion.samplers import SAMPLERS
    from diffnag.plugins import names

    dotted = "or package.module:Class"
    found = {
        "spaces": [*names("space"), dotted],
        "datasets": known_datasets(),
        "predictors": [*names("predictor"), dotted],
        "oracles": [*names("oracle"), dotted],
        "samplers": list(SAMPLERS),
    }
    for kind, entries in found.items():
        print(f"{kind:12}{', '.join(entries)}")
    print("checkpoints")
    for path in sorted(PRETRAINED.rglob("*.safetensors")):
        print(f"  {path.relative_to(PRETRAINED)}: {_described(path)}")


def _described(path: Path) -> str:
    """Kind, size and the figures of a checkpoint (numbers in metadata entries named `figures...`), from its header alone."""
    from safetensors import safe_open

    with safe_open(path, framework="np") as file:
        meta = json.loads((file.metadata() or {}).get("diffnag", "{}"))
    parts = [meta.get("kind", "of unknown kind"), f"{path.stat().st_size / 1e6:.2f} MB"]
    for key, figures in meta.items():
        if key.startswith("figures"):
            parts += [f"{name} {value:.4g}" for name, value in figures.items() if isinstance(value, int | float)]
    return ", ".join(parts)


if __name__ == "__main__":
    run_command(main)
