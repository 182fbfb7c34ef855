"""Train a surrogate of measured accuracies on a benchmark table: `python -m diffnag.train_surrogate`.

Two sets are held out and never trained on. `canonical_classes` has all architectures of some canonical classes, so nothing in the
training set computes the same. `strings` has some of the remaining architectures; others of the same class may be in the training set.
"""

from __future__ import annotations

import argparse
import hashlib
import shlex
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from diffnag.command.options import add_options, option, options_from
from diffnag.command.progress import Progress
from diffnag.command.running import run_command
from diffnag.errors import DataNotFound, UserError
from diffnag.io.device import resolve_device

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from diffnag.io.tables import BenchmarkTable
    from diffnag.oracles.surrogate import Surrogate
    from diffnag.protocols import SearchSpace

BATCH = 128
LEARNING_RATE = 3e-3
WEIGHT_DECAY = 0.05
LEVELS = 256
"""Knots of the map from normal scores to accuracies."""


@dataclass(frozen=True)
class Options:
    """Everything, beside the table, that decides the weights."""

    held_out: float = option(0.1, least=0.001, most=0.9, help="share of the canonical classes, and of the remaining architectures, that is held out")
    epochs: int = option(120, most=10**6, help="passes over the training set")
    members: int = option(6, most=1000, help="networks in the ensemble")
    width: int = option(256, most=10**5, help="hidden units of a layer")
    seed: int = option(0, least=0, most=2**63 - 1, help="seed of the held-out sets, the weights and the batches")


@dataclass(frozen=True)
class Files:
    """Input, output and device."""

    out: Path = option(metavar="FILE", help="the safetensors file to write")
    space: str = option("nasbench201", help="search space, a name or package.module:Class")
    data: Path | None = option(None, help="the benchmark's table, or a folder that holds it; by default where the table oracle finds it")
    device: str = option("auto", help="auto, cpu, cuda, ...")


def parser() -> argparse.ArgumentParser:
    p = argparse.ArgumentParser("python -m diffnag.train_surrogate", description=__doc__.partition(":")[0] + ".")
    add_options(p, Files)
    add_options(p, Options)
    return p


def main() -> None:
    """Parse the command line, train, write the file and print its rank correlations."""
    args = parser().parse_args()
    files, options = options_from(args, Files), options_from(args, Options)
    from diffnag.io.files import check_weights_place
    from diffnag.spaces.loading import load_space

    check_weights_place(files.out)
    space = load_space(files.space)
    meta = train(space, read_table(space, files.data), options, out=files.out, device=files.device)
    print(f"wrote {files.out}: {meta['note']}, learned from {meta['labels']:,} labels")
    for name, found in meta["held_out"].items():
        taus = "  ".join(f"{key} {figure['kendall_tau']:.3f}" for key, figure in found["outputs"].items())
        print(f"Kendall tau, held-out {name} ({found['architectures']:,} architectures): {taus}")


def read_table(space: SearchSpace, data: Path | None) -> BenchmarkTable:
    """The table of `space` from a file or folder; by default the one that the table oracle finds."""
    from diffnag.io.tables import load_table
    from diffnag.protocols import ReadsTables

    if data is None:
        return load_table(space)
    if not isinstance(space, ReadsTables):
        raise DataNotFound(f"space {space.name!r} has no benchmark table")
    return space.read_table(data / space.table_file if data.is_dir() else data, trust_pickle=False)


def held_out(classes: Sequence[str], strings: Sequence[str], *, share: float, seed: int) -> dict[str, np.ndarray]:
    """Draw the two held-out sets of architectures with canonical keys `classes (m,)` and `strings (m,)`: bool `(m,)` each, disjoint.

    A hash of seed and text decides, so whether an architecture is held out depends on itself only.
    """
    def drawn(kind: str, text: str) -> bool:
        return int.from_bytes(hashlib.sha256(f"surrogate {kind} {seed} {text}".encode()).digest()) / 2**256 < share

    by_class = np.array([drawn("class", key) for key in classes], dtype=bool)
    return {"strings": np.array([drawn("string", text) for text in strings], dtype=bool) & ~by_class, "canonical_classes": by_class}


def train(space: SearchSpace, table: BenchmarkTable, options: Options, *, out: Path, device: str = "auto") -> dict[str, Any]:
    """Learn all columns of `table` at once, write `out`, and return its metadata. The figures there are those of the stored weights."""
    from diffnag.io.checkpoint import save_checkpoint
    from diffnag.oracles.surrogate import NOTE, Surrogate, graph_features
    from diffnag.spaces.fingerprint import space_fingerprint

    begin = time.monotonic()
    archs = [space.from_str(text) for text in table.archs]
    classes = [space.canonical(arch) for arch in archs]
    held = held_out(classes, table.archs, share=options.held_out, seed=options.seed)
    training = ~(held["strings"] | held["canonical_classes"])
    if min(training.sum(), *(chosen.sum() for chosen in held.values())) < 2:
        raise UserError(f"{len(archs)} architectures are too few to hold {options.held_out:g} of them out twice")
    counts = [graph_features(arch, space.operators) for arch in archs]
    accuracies = np.stack(list(table.values.values()), axis=1).astype(np.float64)
    if missing := [key for key, column in table.values.items() if np.isnan(column).any()]:
        raise UserError(f"the {space.name} table has missing values in {missing[0]}; a surrogate is trained on complete columns")

    features = tuple(sorted({name for row in np.flatnonzero(training) for name in counts[row]}))
    tensors = _fit([counts[row] for row in np.flatnonzero(training)], accuracies[training], features, options, device=device)
    surrogate = Surrogate(features=features, outputs=tuple(table.values), tensors=tensors)
    trained = {classes[row] for row in np.flatnonzero(training)}
    meta = {
        "kind": "surrogate",
        "note": NOTE,
        "space": space.name,
        "space_fingerprint": space_fingerprint(space),
        "table_version": table.version,
        "table_sha256": table.sha256,
        "labels": int(training.sum()) * accuracies.shape[1],
        "training_architectures": int(training.sum()),
        "held_out": {
            name: {
                "architectures": int(chosen.sum()),
                "classes": len({classes[row] for row in np.flatnonzero(chosen)}),
                "architectures_of_a_trained_class": sum(classes[row] in trained for row in np.flatnonzero(chosen)),
                "outputs": figures(surrogate, [counts[row] for row in np.flatnonzero(chosen)], accuracies[chosen]),
            }
            for name, chosen in held.items()
        },
        **{f"trained_{key}": value for key, value in asdict(options).items()},
        "train_seconds": round(time.monotonic() - begin, 1),
        "command": shlex.join(["python", "-m", "diffnag.train_surrogate", *sys.argv[1:]]),
        "features": features,
        "outputs": surrogate.outputs,
    }
    save_checkpoint(out, tensors, meta)
    return meta


def figures(surrogate: Surrogate, counts: Sequence[Any], accuracies: np.ndarray) -> dict[str, dict[str, float]]:
    """Kendall's tau-b and R^2 of each output of `surrogate`, compared with `accuracies (b, outputs)` in %."""
    from scipy.stats import kendalltau

    predicted = surrogate.predict(counts)
    found = {}
    for key, guess, true in zip(surrogate.outputs, predicted.T, accuracies.T, strict=True):
        r2 = 1 - ((guess - true) ** 2).sum() / ((true - true.mean()) ** 2).sum()
        found[key] = {"kendall_tau": round(float(kendalltau(guess, true).statistic), 4), "r2": round(float(r2), 4)}
    return found


def _fit(
    counts: Sequence[Any], accuracies: np.ndarray, features: tuple[str, ...], options: Options, *, device: str
) -> dict[str, Tensor]:
    """Train the tensors of a `Surrogate`, rounded as they are stored; all randomness comes from the seed."""
    import torch

    from diffnag.oracles.surrogate import design

    levels, quantiles, scores = _normal_scores(accuracies)
    # Architectures with equal features are one example with their mean scores. Its weight is the root of their number: a few
    # classes of small cells have hundreds of members and would outweigh all others.
    rows, group = np.unique(design(counts, features), axis=0, return_inverse=True)
    size = np.bincount(group)
    means = np.stack([np.bincount(group, column) / size for column in scores.T], axis=1)
    centre, scale = rows.mean(0), np.maximum(rows.std(0), 1)  # at least 1: enlarging rare counts would invite overfitting

    targets = (means, np.sqrt(size) / np.sqrt(size).mean())
    layers = _trained_layers((rows - centre) / scale, *targets, options, device=resolve_device(device))
    tensors = {"centre": torch.from_numpy(centre), "scale": torch.from_numpy(scale)}
    tensors |= {"levels": torch.from_numpy(levels).float(), "quantiles": torch.from_numpy(quantiles).float()}
    for depth, (weights, bias) in enumerate(layers):
        tensors |= {f"weight{depth}": weights.detach().cpu().half(), f"bias{depth}": bias.detach().cpu().half()}
    return tensors


def _trained_layers(
    x: np.ndarray, y: np.ndarray, weight: np.ndarray, options: Options, *, device: torch.device
) -> list[tuple[Tensor, Tensor]]:
    """Train weights and biases of each layer on inputs `x (m, d)` with scores `y (m, outputs)`; `weight (m,)` weighs the examples."""
    import torch

    from diffnag.networks.ensemble import ensemble, random_layers

    x_all, y_all, weight_all = (torch.as_tensor(value, dtype=torch.float32, device=device) for value in (x, y, weight))
    generator = torch.Generator().manual_seed(options.seed)
    drawn = random_layers([x.shape[1], options.width, options.width, y.shape[1]], members=options.members, generator=generator)
    layers = [(weights.to(device).requires_grad_(), bias.to(device).requires_grad_()) for weights, bias in drawn]
    with torch.no_grad():
        layers[-1][0].mul_(0.1)  # predictions begin near the mean

    batches = -(-len(x) // BATCH)
    optimizer = torch.optim.AdamW([tensor for layer in layers for tensor in layer], lr=LEARNING_RATE, weight_decay=WEIGHT_DECAY)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, LEARNING_RATE, total_steps=options.epochs * batches, pct_start=0.1)
    done = 0
    try:
        with Progress() as progress:
            progress("epoch", 0, options.epochs)
            for done in range(options.epochs):
                for pick in torch.randperm(len(x), generator=generator).to(device).chunk(batches):
                    error = ensemble(layers, x_all[pick]) - y_all[pick]
                    loss = (error.square().mean(2) * weight_all[pick]).mean(1).sum()  # a sum: each member learns for itself
                    optimizer.zero_grad()
                    loss.backward()
                    optimizer.step()
                    schedule.step()
                progress("epoch", done + 1, options.epochs, f"loss {loss.item() / options.members:.4f}")
    except KeyboardInterrupt:
        raise KeyboardInterrupt(f"stopped after epoch {done} of {options.epochs}; nothing was written") from None
    return layers


def _normal_scores(accuracies: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Turn each column of `(m, outputs)` into normal scores of its mid-ranks; returns `levels (q,)`, `quantiles (outputs, q)` and the scores.

    Accuracies are dense near the best and have a long tail of failures. A rank correlation weighs all of them alike.
    """
    from scipy.special import ndtr, ndtri
    from scipy.stats import rankdata

    m = len(accuracies)
    levels = np.linspace(ndtri(0.5 / m), ndtri(1 - 0.5 / m), LEVELS)
    quantiles = np.quantile(accuracies, ndtr(levels), axis=0, method="hazen").T
    return levels, quantiles, ndtri((rankdata(accuracies, axis=0) - 0.5) / m)


if __name__ == "__main__":
    run_command(main)
