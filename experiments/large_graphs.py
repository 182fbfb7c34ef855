"""Measures generators of large graphs: `tpu-tiles`, programs of up to 160 nodes.

    python -m experiments.large_graphs [--parts graphs ...] [--family pointers] [--anew]

A row has one of these parts:
  graphs     samples, as many as the training half has graphs, for each of `SEEDS` seeds (means): the share that is valid, distinct and
             none of the training graphs, and distances from the held-out half. The training half itself has the distances to expect;
             random graphs with the right numbers of inputs stand beside
  runtime    Pearson correlation of predicted and measured runtimes of the held-out half: of a forest that learned from the training half,
             and of forests that learned from generated graphs, which the first forest labelled (the protocol of LayerDAG), of
             the same number and of ten times as many
  guided     samples of `SIZES` nodes steered to low runtimes, and how many are below a limit, the lower quartile of unguided samples of
             as many nodes; the judge is a forest that learned from the held-out half, and that the guidance never sees
  time       seconds for `BATCH` samples in which every graph has so many nodes, the least of `REPEATS` draws
Parts that the result file has are kept; `--anew` measures them again. Times are noisy unless the machine is idle.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from experiments.large.figures import RuntimeForest, shares, wasserstein
from experiments.large.parts import Row, measure_parts

if TYPE_CHECKING:
    from diffnag.arch import Arch

RESULT, SPACE, COLUMN = "large_graphs", "tpu-tiles", "tpu/val/0"
SEEDS, FORESTS = 5, 3
SIZES = range(30, 51)
SCALES = (1.0, 2.0, 4.0)
GUIDED = 512
NODES = (10, 20, 40, 80, 100, 160)
BATCH, REPEATS = 64, 3


class Known:
    """The space, its halves with their runtimes, and a generator."""

    def __init__(self, family: str) -> None:
        from diffnag import load_generator, load_space
        from diffnag.io.tables import load_table
        from diffnag.spaces.split import CanonicalSplit

        self.space, self.family = load_space(SPACE), family
        generator: Any = load_generator(self.space, family)
        self.generator = generator
        table, split = load_table(self.space), CanonicalSplit.named(generator.network.split)
        archs = [self.space.from_str(text) for text in table.archs]
        trains = np.array([split.trains(self.space.canonical(arch)) for arch in archs])
        self.training, self.held_out = ([arch for arch, one in zip(archs, trains, strict=True) if one == side] for side in (True, False))
        self.runtimes, self.held_runtimes = table.values[COLUMN][trains].astype(float), table.values[COLUMN][~trains].astype(float)
        self.trained = {self.space.canonical(arch) for arch in self.training}

    @cached_property
    def forest(self) -> RuntimeForest:
        """What the training half says of runtimes."""
        return self.grown(self.training, self.runtimes)

    def grown(self, archs: Sequence[Arch], y: np.ndarray, seed: int = 0) -> RuntimeForest:
        """A forest that learned from these."""
        forest = RuntimeForest(self.space, seed)
        forest.fit(archs, y)
        return forest


def main() -> None:
    measure_parts(__doc__, Known, PARTS, result=RESULT, space=SPACE)


def graphs(known: Known) -> Iterator[Row]:
    """Rows of the part `graphs`."""
    n = len(known.training)

    def generated(seed: int) -> Sequence[Arch]:
        return list(known.generator.sample(n, seed=seed).archs)

    def uniform(seed: int) -> Sequence[Arch]:
        rng = np.random.default_rng(seed)
        return [known.space.random(rng) for _ in range(n)]

    def copied(seed: int) -> Sequence[Arch]:
        return known.training

    for name, draw, seeds in (("training half", copied, 1), (known.family, generated, SEEDS), ("random graphs", uniform, SEEDS)):
        rows = [_figures(known, draw(seed), n) for seed in range(seeds)]
        yield {"row": name, "samples": n, "seeds": seeds, **{key: float(np.mean([row[key] for row in rows])) for key in rows[0]}}
        print(name, rows[0])


def _figures(known: Known, archs: Sequence[Arch], n: int) -> Row:
    return {**shares(archs, n, known.space, known.trained), **wasserstein(archs, known.held_out, known.space)}


def runtime(known: Known) -> Iterator[Row]:
    """Rows of the part `runtime`."""
    n = len(known.training)
    rng = np.random.default_rng(0)
    labelled: dict[str, Sequence[Arch]] = {f"{times * n} generated graphs": known.generator.sample(times * n, seed=100).archs for times in (1, 10)}
    labelled[f"{10 * n} random graphs"] = [known.space.random(rng) for _ in range(10 * n)]
    sets = {"training half": (known.training, known.runtimes), **{name: (archs, known.forest.runtimes(archs)) for name, archs in labelled.items()}}
    for name, (archs, y) in sets.items():
        found = [known.grown(archs, y, seed).runtimes(known.held_out) for seed in range(FORESTS)]
        plain, logs = (
            [float(np.corrcoef(of(one), of(known.held_runtimes))[0, 1]) for one in found] for of in (np.asarray, np.log)
        )
        yield {"row": name, "pearson": float(np.mean(plain)), "pearson_of_logarithms": float(np.mean(logs)), "forests": FORESTS}
        print(name, np.mean(plain), np.mean(logs))


def guided(known: Known) -> Iterator[Row]:
    """Rows of the part `guided`."""
    from diffnag.generators.base import Steer
    from diffnag.guidance.checked import CheckedPredictor
    from diffnag.guidance.tilt import Tilt

    judge = known.grown(known.held_out, known.held_runtimes)

    def wanted(arch: Arch) -> bool:
        return len(arch.ops) in SIZES

    free = [arch for arch in known.generator.sample(8 * GUIDED, seed=0).archs if wanted(arch)]
    limit = float(np.quantile(judge.runtimes(free), 0.25))

    def figures(archs: Sequence[Arch]) -> Row:
        times = judge.runtimes(archs)
        classes = {known.space.canonical(arch) for arch in archs}
        return {
            "below_limit": float((times < limit).mean()), "mean_runtime": float(times.mean()), "limit": limit,
            "mean_nodes": float(np.mean([len(arch.ops) for arch in archs])), "samples": len(archs),
            "distinct": len(classes) / len(archs), "novel": len(classes - known.trained) / len(classes),
        }  # fmt: skip

    yield {"row": "unguided", "scale": 0.0, **figures(free)}
    for guidance in ("pool", "particles"):
        for scale in SCALES:
            tilt = Tilt(CheckedPredictor("low-runtime", Low(known.forest)), known.space, scale)
            start = time.perf_counter()
            made = known.generator.sample(
                GUIDED, seed=1, steer=Steer(tilt=tilt, wanted=wanted), sampling=known.generator.Sampling(guidance=guidance)
            )
            row = {"row": guidance, "scale": scale, **figures([arch for arch in made.archs if wanted(arch)])}
            yield {**row, "seconds": time.perf_counter() - start}
            print(row)


class Low:
    """A predictor that wants low runtimes."""

    labels_source = RuntimeForest.labels_source

    def __init__(self, forest: RuntimeForest) -> None:
        self._forest = forest

    def fit(self, archs: Sequence[Arch], y: np.ndarray) -> None:
        raise NotImplementedError

    def predict(self, archs: Sequence[Arch]) -> tuple[np.ndarray, np.ndarray]:
        mean, std = self._forest.predict(archs)
        return -mean, std


def seconds(known: Known) -> Iterator[Row]:
    """Rows of the part `time`: a network of as many slots, in which no graph ends before the last."""
    import torch

    from diffnag.generators.loading import load_family

    family: Any = load_family(known.family)
    trained = known.generator.network
    for nodes in NODES:
        space = type("Sized", (type(known.space),), {"nodes": nodes})()
        net = family.build(space, trained.config, seed=0).eval().requires_grad_(False)
        net.load_state_dict(trained.state_dict())
        net.operator.bias[net.absent] = -torch.inf
        generator, spent = family.generator(space, net), []
        for seed in range(REPEATS):
            start = time.perf_counter()
            generator.sample(BATCH, seed=seed)
            spent.append(time.perf_counter() - start)
        yield {"row": f"{nodes} nodes", "nodes": nodes, "samples": BATCH, "seconds": min(spent)}
        print(nodes, min(spent))


PARTS: dict[str, Callable[[Known], Iterator[Row]]] = {"graphs": graphs, "runtime": runtime, "guided": guided, "time": seconds}


if __name__ == "__main__":
    main()
