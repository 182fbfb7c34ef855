"""Learn from a table of latencies what the devices of a search space have in common: `python -m diffnag.train_latency`."""

from __future__ import annotations

import argparse
import shlex
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from diffnag.command.options import add_options, option, options_from
from diffnag.command.running import run_command
from diffnag.errors import UserError

if TYPE_CHECKING:
    from diffnag.io.property_tables import PropertyTable
    from diffnag.protocols import SearchSpace


@dataclass(frozen=True)
class Options:
    """Input and output. Nothing is random."""

    space: str = option("nasbench201", help="search space, a name or package.module:Class")
    out: Path | None = option(None, metavar="FILE", help="the safetensors file to write (default: the file that the package ships)")


def parser() -> argparse.ArgumentParser:
    """The command's arguments."""
    p = argparse.ArgumentParser(
        "python -m diffnag.train_latency",
        description="Fit each device of the space's table of latencies, which is found as `python -m diffnag.data list` shows, and write the "
        "weights: they predict the devices, and are the prior for others.",
    )
    add_options(p, Options)
    return p


def main() -> None:
    """Parse the command line, fit, write the file and print the rank correlations."""
    options = options_from(parser().parse_args(), Options)
    from diffnag.devices.shipped import shipped_file
    from diffnag.io.files import check_weights_place
    from diffnag.io.property_tables import load_properties
    from diffnag.spaces.loading import load_space

    space = load_space(options.space)
    out = options.out or shipped_file(space)
    check_weights_place(out)
    meta = train(space, load_properties(space, "latency"), out=out)
    print(f"wrote {out}: {len(meta['devices'])} devices, {len(meta['columns'])} weights each")
    print(", ".join(f"{name} {value:.3f}" for name, value in meta["figures"].items()))


def train(space: SearchSpace, table: PropertyTable, *, out: Path) -> dict[str, Any]:
    """Fit every column `<device>_ms` of `table`, write `out`, and return its metadata. Raises `UserError` for a table without such columns."""
    import numpy as np
    import torch
    from scipy.stats import spearmanr

    from diffnag.devices.features import Features
    from diffnag.devices.prior import best_fit
    from diffnag.devices.shipped import KIND
    from diffnag.devices.tables import latencies
    from diffnag.io.checkpoint import save_checkpoint
    from diffnag.spaces.fingerprint import space_fingerprint

    found = latencies(table)
    if not found:
        raise UserError(f"the {space.name} table of latency has no column whose name ends in _ms")
    features = Features(space)
    archs = [space.from_str(text) for text in table.archs]
    columns = {counting: features(archs, counting).columns for counting in features.countings}
    fits = {device: best_fit(columns, ms) for device, ms in found.items()}
    ranks = {device: float(spearmanr(columns[fit.counting] @ fit.weights, found[device]).statistic) for device, fit in fits.items()}
    tensors = {
        "weights": torch.tensor(np.stack([fit.weights for fit in fits.values()]), dtype=torch.float32),
        "levels": torch.tensor([fit.level for fit in fits.values()]),
        "noises": torch.tensor([fit.noise for fit in fits.values()]),
    }
    meta = {
        "kind": KIND,
        "space": space.name,
        "space_fingerprint": space_fingerprint(space),
        "table_sha256": table.sha256,
        "columns": list(features.names),
        "devices": list(fits),
        "countings": [fit.counting for fit in fits.values()],
        "figures": {"mean_spearman_of_known_devices": float(np.mean(list(ranks.values()))), "worst": min(ranks.values())},
        "command": shlex.join(["python", "-m", "diffnag.train_latency", *sys.argv[1:]]),
    }
    save_checkpoint(out, tensors, meta)
    return meta


if __name__ == "__main__":
    run_command(main)
