"""Figures of one generator family in one space: samples, likelihoods, collisions, steering, candidates of a search."""

from __future__ import annotations

import shlex
from collections import Counter
from collections.abc import Sequence
from dataclasses import fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from experiments.shared.measured_space import MeasuredSpace

if TYPE_CHECKING:
    from diffnag.arch import Arch
    from diffnag.protocols import Generator

EVERYTHING = "canonical-sha256-1.0"
"""The split that holds nothing out."""
SCALES = (1.0, 2.0, 4.0)
STEERED = ("nasbench201", "cifar10")
"""Space and dataset whose table steers: all its architectures can be summed over."""
SEARCHED = {"nasbench201": "nasbench201/ImageNet16-120", "nasbench101": "nasbench101/cifar10"}
"""Space -> benchmark of the searches."""
BUDGET = 150


class Contestant:
    """A family in a space, with the network that is shipped for it; `UserError` if there is none."""

    def __init__(self, measured: MeasuredSpace, family: str) -> None:
        from diffnag.generators.loading import load_family

        self.measured, self.name, self.family = measured, family, load_family(family)
        self.generator: Generator = self.family.load(measured.space, device="cpu")

    def about(self) -> dict[str, Any]:
        """Parameters, seconds of training (of one core, where they were counted) and checksum of the shipped network; 0 and None without one."""
        from diffnag.generators.network import KIND, shipped_network
        from diffnag.io.checkpoint import load_checkpoint, weights_checksum

        path = shipped_network(self.measured.name, self.name)
        if not path.is_file():
            return {"parameters": 0, "train_seconds": 0.0, "checkpoint": None}
        tensors, meta = load_checkpoint(path, kind=KIND)
        size = sum(tensor.numel() for tensor in tensors.values())
        return {"parameters": size, "train_seconds": meta.get("train_core_seconds", meta["train_seconds"]), "checkpoint": weights_checksum(path)}

    def samples(self, n: int) -> dict[str, Any]:
        """Figures of `n` samples by default, and with few steps if the family has the option `steps`; the floor of the distances."""
        rows = {"default": self._sampled(n, None)}
        default = self.generator.sampling if hasattr(self.generator, "sampling") else None
        if default is not None and "steps" in {field.name for field in fields(default)} and default.steps > 1:
            few = max(default.steps // 4, 1)
            rows["few"] = {"steps": few, **self._sampled(n, replace(default, steps=few))}
        return {"n": n, **rows, "floor": self._floor(n)}

    def _sampled(self, n: int, sampling: Any) -> dict[str, Any]:
        made = self.generator.sample(n, seed=0, sampling=sampling)
        valid = [item.arch for item in made.by_threshold if item.arch is not None]
        return {**self.measured.figures(valid, n), "nfe": made.nfe, "archs_per_s": round(n / made.wall_s, 1)}

    def _floor(self, n: int) -> dict[str, float]:
        """Distances of as many random architectures of the held-out half from the whole space."""
        held = [arch for arch in self.measured.archs if not self.measured.split.trains(self.measured.space.canonical(arch))]
        chosen = np.random.default_rng(0).choice(len(held), min(n, len(held)), replace=False)
        found = self.measured.figures([held[k] for k in chosen], len(chosen))
        return {key: float(found[key] or 0.0) for key in ("wasserstein_edges", "wasserstein_depth")}

    def likelihood(self, n: int, networks: Path | None) -> dict[str, Any] | None:
        """Gaps, mean negative log-likelihood minus ln N in nats, of up to `n` architectures each; None for a family without likelihood.

        `half`: the shipped network on the half that it was trained on, and on the held-out half. `all`: a network trained by the same
        recipe on all architectures, None without a folder for it or without a network.
        """
        from diffnag.protocols import HasLikelihood

        if not isinstance(self.generator, HasLikelihood):
            return None
        measured, rng = self.measured, np.random.default_rng(0)
        archs = [measured.archs[k] for k in rng.permutation(len(measured.archs))[: 2 * n]]
        trained = [arch for arch in archs if measured.split.trains(measured.space.canonical(arch))]
        held = sorted(set(archs) - set(trained))
        found = {"n": n, "training_half": measured.gap(self.generator, trained[:n]), "held_out_half": measured.gap(self.generator, held[:n])}
        whole = self._of_all(networks)
        return {**found, "all": None if whole is None else measured.gap(whole, archs[:n])}

    def _of_all(self, networks: Path | None) -> Any:
        """The generator of a network trained on all architectures, from `networks`, where it is trained if it is not there yet."""
        from diffnag.generators.options import Training
        from diffnag.generators.recipes import shipped_recipe
        from diffnag.generators.training import train
        from diffnag.protocols import TrainableFamily

        if not isinstance(self.family, TrainableFamily):
            return self.generator  # nothing is trained
        if networks is None:
            return None
        path = networks / f"{self.measured.name}-{self.name}-all.safetensors"
        if not path.is_file():
            networks.mkdir(parents=True, exist_ok=True)
            recipe = shipped_recipe(self.measured.name, self.name)
            options = Training(**{**recipe["training"], "split": EVERYTHING})
            command = ["python", "-m", "diffnag.train_score", "--generator", self.name, "--space", self.measured.name, "--recipe", "shipped"]
            resume = path.with_name(path.name + ".state").exists()
            train(
                self.family, options, self.family.Config(**recipe["config"]), out=path, resume=resume, device="cpu",
                command=shlex.join([*command, "--split", EVERYTHING]),
            )  # fmt: skip
        return self.family.load(self.measured.space, path)

    def collisions(self, n: int) -> dict[str, float]:
        """`N P(two samples equal) - 1` from `n` samples, of which invalid ones equal none, with its standard error: 0 if they are uniform."""
        counts = np.array(list(Counter(self.generator.sample(n, seed=1).archs).values()), dtype=float)
        equal, size = float((counts * (counts - 1)).sum() / 2), len(self.measured.archs)
        unit = size / (n * (n - 1) / 2)
        return {"n": n, "divergence": equal * unit - 1, "stderr": max(equal, 1.0) ** 0.5 * unit}

    def steering(self, n: int) -> dict[str, Any] | None:
        """Mean z of `n` samples steered by the values of a table, beside the exact mean of `p exp(S z)`, p uniform over the space.

        Steered by test accuracy, whose z is at most 0.5, as a few bad architectures make its spread, and by its normal scores.
        """
        from diffnag import Steer
        from diffnag.guidance.checked import CheckedPredictor

        if self.measured.name != STEERED[0]:
            return None
        rows = []
        for name, values in (("accuracy", table_values(self.measured)), ("normal scores", normal_scores(table_values(self.measured)))):
            plugin = Values(self.measured.archs, values)
            predictor = CheckedPredictor(name, plugin)
            for scale in SCALES:
                steer = Steer.by(predictor, self.measured.space, scale)
                assert steer.tilt is not None
                z = (values - steer.tilt.centre) / steer.tilt.spread
                weights = np.exp(scale * (z - z.max()))
                made = self.generator.sample(n, seed=2, steer=steer)
                own = (plugin.predict(made.archs)[0] - steer.tilt.centre) / steer.tilt.spread
                rows.append({
                    "values": name, "scale": scale, "guidance": made.guidance, "exact_mean_z": float(weights @ z / weights.sum()),
                    "mean_z": float(own.mean()), "exact_distinct": expected_distinct(weights / weights.sum(), len(made.archs)) / n,
                    "distinct": len(set(made.archs)) / n, "validity": len(made.archs) / n, "predictor_nfe": made.predictor_nfe,
                })  # fmt: skip
        return {"n": n, "dataset": STEERED[1], "rows": rows}

    def search(self, seeds: int) -> dict[str, Any] | None:
        """Labels to the optimum of searches in which the family makes the candidates; None for a search that does not find it."""
        from experiments.shared.arena_search import GUIDED, Contender, run

        if (benchmark := SEARCHED.get(self.measured.name)) is None:
            return None
        contender = Contender("diffnag", {**GUIDED, "generator": self.name})
        runs = [run(contender, benchmark=benchmark, protocol="T", seed=seed, budget=BUDGET) for seed in range(seeds)]
        return {"benchmark": benchmark, "seeds": seeds, "budget": BUDGET, "labels_to_optimum": [found["hit"] for found in runs]}


class Values:
    """A predictor that knows the value of every architecture of a space, and nothing but `predict`."""

    labels_source: ClassVar[dict[str, int]] = {}

    def __init__(self, archs: Sequence[Arch], values: np.ndarray) -> None:
        self._places, self._values = {arch: k for k, arch in enumerate(archs)}, values

    def fit(self, archs: Sequence[Arch], y: np.ndarray) -> None:
        """Nothing is left to learn."""

    def predict(self, archs: Sequence[Arch]) -> tuple[np.ndarray, np.ndarray]:
        """Values `(b,)` and no doubt."""
        return self._values[[self._places[arch] for arch in archs]], np.zeros(len(archs))


def table_values(measured: MeasuredSpace) -> np.ndarray:
    """Test accuracies of all architectures of a space, in its order."""
    from experiments.shared.arena_search import space_and_oracle

    _, oracle = space_and_oracle(measured.name)
    return np.array([oracle.query(arch, dataset=STEERED[1], split="test") for arch in measured.archs])


def normal_scores(values: np.ndarray) -> np.ndarray:
    """Values of the same order whose law is standard normal; equal values share one."""
    from scipy.stats import norm, rankdata

    return norm.ppf((rankdata(values) - 0.5) / len(values))


def expected_distinct(probabilities: np.ndarray, n: int) -> float:
    """Expected number of distinct ones among `n` independent draws."""
    return float((1 - (1 - probabilities) ** n).sum())
