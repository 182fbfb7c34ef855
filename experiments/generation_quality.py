"""Measures unguided samples in every space, the parts of the score network, and the law that guided samples follow.

    python -m experiments.generation_quality [--only samples|ablations|law] [--spaces nasbench101 ...] [--rows ROW ...] [--anew]

`samples`: figures of 1,024 samples for each of `SEEDS` seeds, as means. The rows of a space are
  random draws             random architectures of the space, whose distances are the smallest to expect
  independent entries      every operator and every edge drawn by itself, with its frequency in the training set
  SAMPLER, N evaluations   the shipped score network with each sampler and several numbers of evaluations
  dpmpp, 20 evaluations, invalid samples replaced
  flow-map, N evaluations  the shipped flow map; if it has exclusions, also without them, each entry decided by itself
Validity is raw, with nothing repaired, except in the last row. Wasserstein distances compare the valid samples with the whole space, or
with 20,000 random draws if the space is too large.
`ablations`: see `experiments/shared/score_ablations.py`.
`law`: mean z of samples guided by `meta` on NAS-Bench-201, beside the exact mean of `p exp(S z)` with p uniform over all 15,625
architectures.

Rows that the result file has are kept; `--anew` measures the selected rows again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np

from diffnag.command.running import run_command
from experiments.shared.common import DATASETS, begin, parser
from experiments.shared.measured_space import MeasuredSpace, N, mean_over_seeds
from experiments.shared.pool import known_names
from experiments.shared.results import read_result, record, write_result
from experiments.shared.score_ablations import ablation_rows

SEEDS = 5
SCALES = (0.0, 1.0, 2.0, 4.0)
EVALUATIONS = (10, 20, 40)
A_STEP = {"pc": 2, "heun": 2, "annealed-langevin": 5}
"""Sampler -> evaluations per step, if it is not 1; annealed Langevin dynamics denoises once more at the end."""
LONGER = {"annealed-langevin": (100, 200)}
"""Sampler -> more evaluations, for one that needs them."""
Row = Callable[[], dict[str, Any]]


def main() -> None:
    from diffnag.plugins import names

    spaces = names("space")
    options = parser(__doc__)
    options.add_argument("--only", choices=("samples", "ablations", "law"), help="the other parts of the result file stay")
    options.add_argument("--spaces", nargs="+", choices=spaces, default=spaces, help="for samples and ablations (default: all)")
    options.add_argument("--rows", nargs="+", metavar="ROW", help="rows that every space in question has (default: all)")
    options.add_argument("--anew", action="store_true", help="measure rows again that the result file has")
    args = options.parse_args()
    begin()
    parts = {"samples": sample_rows, "ablations": ablation_rows}
    for part in parts if args.only is None else [args.only] if args.only in parts else []:
        for name in args.spaces:
            measured = MeasuredSpace(name)
            rows = dict(parts[part](measured))
            for row_name in known_names("row", args.rows, rows):
                if args.anew or row_name not in _found()["spaces"].get(name, {}).get(part, {}):
                    figures = rows[row_name]()
                    print(f"{name}, {row_name}: {figures}", flush=True)
                    results = _found()  # again: other processes may have measured other spaces meanwhile
                    content = results["spaces"].setdefault(name, {"held_out_share": measured.held_out_share})
                    content.setdefault(part, {})[row_name] = record(figures)
                    write_result("generation_quality", {"n": N, "seeds": SEEDS, **results})
    if args.only in (None, "law") and (args.anew or not _found()["law"]):
        law = [record(row) for row in _law()]
        write_result("generation_quality", {"n": N, "seeds": SEEDS, **_found(), "law": law})


def _found() -> dict[str, Any]:
    """Content of the result file."""
    found = read_result("generation_quality")
    return {"spaces": found.get("spaces", {}), "law": found.get("law", [])}


def sample_rows(measured: MeasuredSpace) -> Iterator[tuple[str, Row]]:
    """Yield name and measurement of each row of one space. `nfe` is the counted number of evaluations of the score network per sample."""
    from diffnag import load_denoiser
    from diffnag.generators.diffusion.samplers import SAMPLERS
    from diffnag.generators.network import shipped_network

    space = measured.space

    def draws(seed: int) -> dict[str, Any]:
        rng = np.random.default_rng(seed)
        return measured.figures([space.random(rng) for _ in range(N)])

    yield "random draws", lambda: {"nfe": 0, **mean_over_seeds(draws, SEEDS)}
    yield "independent entries", lambda: {"nfe": 0, **mean_over_seeds(_independent(measured), SEEDS)}
    if not shipped_network(measured.name, "sde").is_file():
        return
    denoiser = load_denoiser(space)
    for sampler in SAMPLERS:
        for nfe in (*EVALUATIONS, *LONGER.get(sampler, ())):
            yield f"{sampler}, {nfe} evaluations", partial(_sampled, measured, denoiser, sampler, nfe)
    yield "dpmpp, 20 evaluations, invalid samples replaced", lambda: mean_over_seeds(_rejected(measured, denoiser), SEEDS)
    yield from _flow_map_rows(measured)


def _flow_map_rows(measured: MeasuredSpace) -> Iterator[tuple[str, Row]]:
    """Rows of the shipped flow map, if there is one."""
    from diffnag import load_generator
    from diffnag.generators.network import shipped_network

    if not shipped_network(measured.name, "flow-map").is_file():
        return
    generator: Any = load_generator(measured.space, "flow-map")
    exclusions = generator.network.config.exclusions
    for evaluations in (1, 2):
        name = f"flow-map, {evaluations} evaluation{'s' if evaluations > 1 else ''}"
        yield name, partial(_mapped, measured, evaluations, exclusions)
        if exclusions:
            yield f"{name}, each entry by itself", partial(_mapped, measured, evaluations, False)


def _independent(measured: MeasuredSpace) -> Callable[[int], dict[str, Any]]:
    """Draw the operator of every node, and every edge, independently, with their frequencies in the training set."""
    from diffnag.arch import ArchBatch

    batch = ArchBatch.of(measured.split.training_archs(measured.space), measured.space)
    upto, edge = batch.V.double().mean(0).cumsum(1).numpy(), batch.E.double().mean(0).numpy()
    nodes, operators = upto.shape

    def draws(seed: int) -> dict[str, Any]:
        rng = np.random.default_rng(seed)
        chosen = (rng.random((N, nodes, 1)) > upto[:, :-1]).sum(2)
        return measured.figures_of_matrices(np.eye(operators, dtype=np.uint8)[chosen], (rng.random((N, nodes, nodes)) < edge).astype(np.uint8))

    return draws


def _sampled(measured: MeasuredSpace, denoiser: Any, sampler: str, nfe: int) -> dict[str, Any]:
    """Figures of a sampler with so many evaluations."""
    from diffnag import Generator
    from diffnag.generators.diffusion.options import Sampling

    spent: set[int] = set()
    sampling = Sampling(sampler=sampler, steps=nfe // A_STEP.get(sampler, 1))

    def figures(seed: int) -> dict[str, Any]:
        def generate(space: Any) -> None:
            spent.add(Generator(space, denoiser, sampling).sample(N, seed=seed).nfe)

        return measured.figures_of_matrices(*measured.matrices(generate))

    found = mean_over_seeds(figures, SEEDS)
    (counted,) = spent
    return {"nfe": counted, **found}


def _mapped(measured: MeasuredSpace, evaluations: int, exclusions: bool) -> dict[str, Any]:
    """Figures of the shipped flow map with so many evaluations."""
    from diffnag import load_generator
    from diffnag.generators.flow_map.options import Sampling

    def figures(seed: int) -> dict[str, Any]:
        def generate(space: Any) -> None:
            generator: Any = load_generator(space, "flow-map")
            generator.network.config = replace(generator.network.config, exclusions=exclusions)
            generator.sample(N, seed=seed, sampling=Sampling(evaluations=evaluations))

        return measured.figures_of_matrices(*measured.matrices(generate))

    return {"nfe": evaluations, **mean_over_seeds(figures, SEEDS)}


def _rejected(measured: MeasuredSpace, denoiser: Any) -> Callable[[int], dict[str, Any]]:
    """Draw until there are `N` valid samples. `nfe` counts all evaluations per valid sample, and `validity` is 1."""
    from diffnag import Generator

    generator = Generator(measured.space, denoiser)

    def figures(seed: int) -> dict[str, Any]:
        archs: list[Any] = []
        spent, rounds = 0, 0
        while len(archs) < N:
            missing = N - len(archs)
            made = generator.sample(missing, seed=seed + SEEDS * rounds)
            archs, spent, rounds = archs + made.archs, spent + missing * made.nfe, rounds + 1
        return {"nfe": spent / N, **measured.figures(archs)}

    return figures


def _law() -> list[dict[str, Any]]:
    """A row for each dataset and scale."""
    from diffnag import Steer, load_generator, load_predictor, load_space
    from diffnag.generators.diffusion.options import Sampling

    space = load_space("nasbench201")
    archs = list(space.enumerate() or ())
    index = {arch: i for i, arch in enumerate(archs)}
    generator = load_generator(space)
    rows = []
    for dataset in DATASETS:
        predictor = load_predictor("meta", space=space, dataset=dataset, seed=0)
        mean, _ = predictor.predict(archs)
        z = (mean - mean.mean()) / mean.std()
        for scale in SCALES:
            weights = np.exp(scale * (z - z.max()))
            row: dict[str, Any] = {"dataset": dataset, "scale": scale, "exact_mean_z": float(weights @ z / weights.sum())}
            for guidance in ("gradient", "particles"):
                asked = Sampling(guidance=guidance)
                made = [generator.sample(N, seed=seed, steer=Steer.by(predictor, space, scale), sampling=asked) for seed in range(SEEDS)]
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


if __name__ == "__main__":
    run_command(main)
