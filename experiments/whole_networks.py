"""Measures generated networks of `network-zoo`: whole networks of up to 160 nodes, which are built, run, trained and exported.

    python -m experiments.whole_networks [--parts graphs ...] [--family pointers] [--anew]

Rows of each part are samples as they are drawn, samples without choices that are less likely than a share `LEAST` of the likeliest, and
samples within the masks of the space (`growth`), which are always valid:
  graphs     samples, as many as the training half has networks, for each of `SEEDS` seeds (means): the shares that are valid, distinct and
             new, and distances from the held-out half. The training half itself has the distances to expect; random networks, which follow
             the masks and no generator, stand beside: small ones as `random` draws them, and ones of up to 160 nodes
  likelihood negative log-likelihood of the networks of each half, in nats
  networks   `BUILT` samples: the shares that are built and run, whose gradients are finite and whose loss a step of SGD lowers, and of the
             first `EXPORTED` the largest difference between the logits of torch and of ONNX
  time       seconds for one of `BATCH` samples, the least of `REPEATS` draws
Novel networks are none of the training half (`novel`), or none of all examples (`novel_all`), up to the order of nodes. Parts that the
result file has are kept; `--anew` measures them again. Times are noisy unless the machine is idle.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from experiments.large.figures import shares, wasserstein
from experiments.large.parts import Row, measure_parts

if TYPE_CHECKING:
    from torch import Tensor, nn

    from diffnag.arch import Arch

RESULT, SPACE = "whole_networks", "network-zoo"
SEEDS = 5
LEAST = 0.01
BUILT, EXPORTED = 200, 10
CHANNELS, SIDE, CLASSES, IMAGES = 16, 64, 5, 4
RATES = (0.1, 0.01, 0.001, 1e-4)
"""Learning rates of the one step; the gradient is clipped to norm 1, as it has a norm of thousands where few pixels are normalised."""
BATCH, REPEATS = 256, 3


class Known:
    """The space, its halves, and a generator."""

    def __init__(self, family: str) -> None:
        from diffnag import load_generator, load_space
        from diffnag.spaces.split import CanonicalSplit

        space: Any = load_space(SPACE)
        generator: Any = load_generator(space, family)
        self.space, self.family, self.generator = space, family, generator
        split = CanonicalSplit.named(generator.network.split)
        self.training = split.training_archs(space)
        self.held_out = [arch for arch in space.examples() if arch not in set(self.training)]
        self.trained, self.every = ({space.canonical(arch) for arch in archs} for archs in (self.training, space.examples()))

    @cached_property
    def kinds(self) -> dict[str, Any]:
        """Name of a row -> options of the draw."""
        options: dict[str, dict[str, Any]] = {"": {}, f", least {LEAST}": {"least": LEAST}, ", masks": {"masks": True}}
        return {f"{self.family}{name}": self.generator.Sampling(**given) for name, given in options.items()}

    def draw(self, kind: str, n: int, seed: int) -> Sequence[Arch]:
        """The valid ones among `n` samples."""
        return list(self.generator.sample(n, seed=seed, sampling=self.kinds[kind]).archs)


def main() -> None:
    measure_parts(__doc__, Known, PARTS, result=RESULT, space=SPACE)


def graphs(known: Known) -> Iterator[Row]:
    """Rows of the part `graphs`."""
    n, space = len(known.training), known.space

    def small(seed: int) -> Sequence[Arch]:
        rng = np.random.default_rng(seed)
        return [space.random(rng) for _ in range(n)]

    def large(seed: int) -> Sequence[Arch]:
        rng = np.random.default_rng(seed)
        return [space.random(rng, most=space.nodes) for _ in range(n)]

    def generated(kind: str) -> Callable[[int], Sequence[Arch]]:
        return lambda seed: known.draw(kind, n, seed)

    draws: dict[str, tuple[Callable[[int], Sequence[Arch]], int]] = {
        "training half": (lambda seed: known.training, 1), **{kind: (generated(kind), SEEDS) for kind in known.kinds},
        "small random networks": (small, SEEDS), "random networks": (large, SEEDS),
    }  # fmt: skip
    for name, (draw, seeds) in draws.items():
        rows = [_figures(known, draw(seed), n) for seed in range(seeds)]
        yield {"row": name, "samples": n, "seeds": seeds, **{key: float(np.mean([row[key] for row in rows])) for key in rows[0]}}
        print(name, rows[0])


def _figures(known: Known, archs: Sequence[Arch], n: int) -> Row:
    of_all = shares(archs, n, known.space, known.every)
    return {
        **shares(archs, n, known.space, known.trained), "novel_all": of_all["novel"], "valid_unique_novel_all": of_all["valid_unique_novel"],
        "nodes": float(np.mean([len(arch.ops) for arch in archs])), **wasserstein(archs, known.held_out, known.space),
    }  # fmt: skip


def likelihood(known: Known) -> Iterator[Row]:
    """Rows of the part `likelihood`."""
    for half, archs in (("training half", known.training), ("held-out half", known.held_out)):
        nats = -known.generator.log_prob(archs).nats
        yield {"row": half, "networks": len(archs), "mean": float(nats.mean()), "median": float(np.median(nats))}
        print(half, nats.mean(), np.median(nats))


def networks(known: Known) -> Iterator[Row]:
    """Rows of the part `networks`."""
    for kind in known.kinds:
        archs = known.draw(kind, BUILT, SEEDS)
        found = [outcome(known.space, arch) for arch in archs]
        counts = {key: sum(row[key] for row in found) / BUILT for key in ("runs", "differentiable", "lowers_loss")}
        with tempfile.TemporaryDirectory() as folder:
            off = [_exported(known.space, arch, Path(folder) / "network.onnx") for arch in archs[:EXPORTED]]
        yield {
            "row": kind, "samples": BUILT, "valid": len(archs) / BUILT, **counts, "channels": CHANNELS, "image_size": SIDE,
            "exported": len(off), "largest_onnx_difference": max(off),
        }  # fmt: skip
        print(kind, counts, off)


def outcome(space: Any, arch: Arch) -> dict[str, bool]:
    """Whether a network is built and `runs`, is `differentiable`, that is all gradients are finite, and a step of SGD `lowers_loss`."""
    import torch

    from diffnag.networks.build import seeded

    with seeded(0):
        network = space.build(arch, channels=CHANNELS, num_classes=CLASSES)
    generator = torch.Generator().manual_seed(0)
    images = torch.randn(IMAGES, 3, SIDE, SIDE, generator=generator)
    labels = torch.randint(CLASSES, (IMAGES,), generator=generator)
    logits = network(images)
    runs = logits.shape == (IMAGES, CLASSES) and bool(logits.isfinite().all())
    loss = torch.nn.functional.cross_entropy(logits, labels)
    gradients = torch.autograd.grad(loss, list(network.parameters()), allow_unused=True)
    differentiable = all(gradient is not None and bool(gradient.isfinite().all()) for gradient in gradients)
    return {"runs": runs, "differentiable": differentiable, "lowers_loss": differentiable and _lowers(network, gradients, images, labels)}


def _lowers(network: nn.Module, gradients: Sequence[Tensor], images: Tensor, labels: Tensor) -> bool:
    """Whether a step of SGD with one of `RATES` lowers the loss of this batch."""
    import torch

    def loss() -> float:
        return torch.nn.functional.cross_entropy(network(images), labels).item()

    weights = list(network.parameters())
    norm = torch.nn.utils.get_total_norm(gradients).clamp_min(1)
    with torch.no_grad():
        before, kept = loss(), [weight.clone() for weight in weights]
        for rate in RATES:
            for weight, old, gradient in zip(weights, kept, gradients, strict=True):
                weight.copy_(old - rate * gradient / norm)
            if loss() < before:
                return True
    return False


def _exported(space: Any, arch: Arch, path: Path) -> float:
    """Largest difference between the logits of torch and of ONNX."""
    from diffnag.networks.classifier_file import export_onnx
    from diffnag.networks.untrained import untrained

    return export_onnx(path, untrained(SPACE, space.to_str(arch), num_classes=CLASSES, image_size=SIDE, channels=CHANNELS, cells=1))


def seconds(known: Known) -> Iterator[Row]:
    """Rows of the part `time`."""
    for kind in known.kinds:
        spent = []
        for seed in range(REPEATS):
            start = time.perf_counter()
            known.draw(kind, BATCH, seed)
            spent.append(time.perf_counter() - start)
        yield {"row": kind, "samples": BATCH, "seconds": min(spent) / BATCH}
        print(kind, spent)


PARTS: dict[str, Callable[[Known], Iterator[Row]]] = {"graphs": graphs, "likelihood": likelihood, "networks": networks, "time": seconds}


if __name__ == "__main__":
    main()
