"""Unconditional generation on NAS-Bench-201, and whether guidance samples the law that it claims.

    python -m experiments.generation_quality [--only samples|law]

Rows of `samples`: every sampler at several numbers of steps, and 1,024 independent uniform draws, each the mean of
`SEEDS` seeds; validity also of V and of E alone (the other taken as right). Rows of `law`: mean z of samples guided by
`meta` against the exact mean of `p exp(S z)`, p uniform over all 15,625 architectures.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from typing import Any

import numpy as np

from experiments.common import DATASETS, RESULTS, use_reference_data, write_result

N, SEEDS = 1024, 5
SCALES = (0.0, 1.0, 2.0, 4.0)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", choices=("samples", "law"), help="the other part stays as it is in the result file")
    only = parser.parse_args().only
    use_reference_data()
    from diffnag import load_denoiser, load_space

    space = load_space("nasbench201")
    denoiser = load_denoiser(space)
    archs = list(space.enumerate() or ())
    path = RESULTS / "generation_quality.json"
    before = json.loads(path.read_text()) if only else {}
    found = {key: before[key] for key in ("held_out_share", "samples", "law") if key in before}
    if only != "law":
        found |= _samples(space, denoiser, archs)
    if only != "samples":
        found["law"] = _law(space, denoiser, archs)
    write_result("generation_quality", n=N, seeds=SEEDS, **found)


def _samples(space: Any, denoiser: Any, archs: Sequence[Any]) -> dict[str, Any]:
    from diffnag import Generator
    from diffnag.metrics import generation_metrics
    from diffnag.sampling import SAMPLERS
    from diffnag.split import CanonicalSplit

    split = CanonicalSplit.named(denoiser.split)
    held_out = float(np.mean([not split.trains(space.canonical(arch)) for arch in archs]))

    rng = np.random.default_rng(0)
    draws = [generation_metrics([space.random(rng) for _ in range(N)], N, space, split) for _ in range(SEEDS)]
    rows: list[dict[str, Any]] = [{"source": "uniform draws", "nfe": 0, **_mean(draws)}]
    for sampler in SAMPLERS:
        for steps in (10, 20, 40):
            generator = Generator(space, denoiser, sampler=sampler, steps=steps)
            made = [generator.generate(N, seed=seed) for seed in range(SEEDS)]
            metrics = _mean([generation_metrics(item.archs, N, space, split) for item in made])
            reasons = [decoded.reason or "" for item in made for decoded in item.decoded]
            apart = {f"validity_{part}": 1 - sum(r.startswith(word) for r in reasons) / len(reasons) for part, word in (("V", "node"), ("E", "edge"))}
            rows.append({"source": sampler, "steps": steps, "nfe": made[0].nfe, **metrics, **apart})
            print(rows[-1])
    return {"held_out_share": held_out, "samples": rows}


def _law(space: Any, denoiser: Any, archs: Sequence[Any]) -> list[dict[str, Any]]:
    from diffnag import Generator, load_predictor

    index = {arch: i for i, arch in enumerate(archs)}
    generator = Generator(space, denoiser)
    rows = []
    for dataset in DATASETS:
        predictor = load_predictor("meta", space=space, dataset=dataset, seed=0)
        mean, _ = predictor.predict(archs)
        z = (mean - mean.mean()) / mean.std()
        for scale in SCALES:
            weights = np.exp(scale * (z - z.max()))
            row: dict[str, Any] = {"dataset": dataset, "scale": scale, "exact_mean_z": float(weights @ z / weights.sum())}
            for guidance in ("gradient", "particles"):
                made = [generator.generate(N, seed=seed, predictor=predictor, scale=scale, guidance=guidance) for seed in range(SEEDS)]
                means = [float(z[[index[arch] for arch in item.archs]].mean()) for item in made]
                row |= {
                    f"{guidance}_mean_z": float(np.mean(means)),
                    f"{guidance}_stderr": float(np.std(means, ddof=1) / len(means) ** 0.5),
                    f"{guidance}_validity": float(np.mean([len(item.archs) / N for item in made])),
                    f"{guidance}_nfe": made[0].nfe,
                    f"{guidance}_predictor_nfe": made[0].predictor_nfe,
                }
            rows.append(row)
            print(row)
    return rows


def _mean(rows: Sequence[Any]) -> dict[str, float]:
    return {key: float(np.mean([row[key] for row in rows])) for key in rows[0]}


if __name__ == "__main__":
    main()
