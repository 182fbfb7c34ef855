"""Compares kinds of noise and encoders of numbers in the family `conditional`: networks of a short training, all else equal.

    python -m experiments.conditional_ablations [--variants NAME ...] [--anew]

The space is nasbench101, the recipe the shipped one with fewer steps. `validity` is that of samples of which nothing is asked, `error` the
mean absolute error, in standard deviations, of samples that are asked for the values of held-out architectures, all conditions together,
`gap` the bound on the negative log-likelihood of held-out architectures less ln N, in nats. Rows that the result file has are kept.
"""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from experiments.shared.common import begin, one_thread, parser
from experiments.shared.results import measured, read_result, record, write_result

SPACE, STEPS, SAMPLES, ASKED, LIKELIHOODS, SEED = "nasbench101", 2_000, 2048, 20, 256, 0
VARIANTS: dict[str, dict[str, Any]] = {
    "absorbing": {"noise": "absorbing"}, "marginal": {"noise": "marginal"}, "graph": {"noise": "graph"},
    "clusters": {"encoder": "clusters"}, "intervals": {"encoder": "intervals"},
}  # fmt: skip
"""What differs from the shipped recipe, whose noise is absorbing and whose encoder is plain."""
RESULT = "conditional_ablations"


def main() -> None:
    options = parser(__doc__)
    options.add_argument("--variants", nargs="+", choices=list(VARIANTS), default=list(VARIANTS), help="default: all")
    options.add_argument("--anew", action="store_true", help="measure rows again that the result file has")
    args = options.parse_args()
    begin()
    one_thread()
    for name in args.variants:
        if not args.anew and measured(RESULT, {"variant": name}):
            continue
        row = record({"variant": name, **measure(name)})
        print(row, flush=True)
        others = [other for other in read_result(RESULT).get("rows", []) if other["variant"] != name]
        write_result(RESULT, {"space": SPACE, "steps": STEPS, "rows": sorted([*others, row], key=lambda row: list(VARIANTS).index(row["variant"]))})


def measure(name: str) -> dict[str, Any]:
    """Train a variant and measure its samples."""
    from diffnag.generators.conditional.conditions import Measures
    from diffnag.generators.conditional.family import ConditionalFamily
    from diffnag.generators.conditional.options import Config
    from diffnag.generators.recipes import shipped_recipe
    from diffnag.generators.training import Training, train
    from experiments.condition_errors import conditioned, errors
    from experiments.shared.measured_space import MeasuredSpace

    about, family, recipe = MeasuredSpace(SPACE), ConditionalFamily(), shipped_recipe(SPACE, "conditional")
    space, begun = about.space, time.process_time()
    with TemporaryDirectory() as folder:
        out = Path(folder) / "network.safetensors"
        config = replace(Config(**recipe["config"]), **VARIANTS[name])
        train(family, replace(Training(**recipe["training"]), steps=STEPS), config, out=out, device="cpu", command="")
        generator: Any = family.load(space, out)
    took = time.process_time() - begun
    held_out = [arch for arch in about.archs[:: len(about.archs) // 2000] if not about.split.trains(space.canonical(arch))]
    measures, spread = Measures(generator.conditions, space), generator.network.spread.numpy()
    low, high = generator.network.quantiles[:, [0, -1]].T.numpy()
    asked = measures(held_out[:: len(held_out) // ASKED][:ASKED]).numpy().clip(low, high)

    found = errors(generator, asked, lambda archs: measures(archs).numpy(), spread, conditioned(generator.conditions, 0.0), None)
    gap = about.gap(generator, held_out[:: len(held_out) // LIKELIHOODS][:LIKELIHOODS])
    free = about.figures(generator.sample(SAMPLES, seed=SEED).archs, SAMPLES)
    return {
        **VARIANTS[name], "train_core_seconds": round(took), "validity": free["validity"], "wasserstein_edges": free["wasserstein_edges"],
        "wasserstein_depth": free["wasserstein_depth"], "error": found["error"], "asked_validity": round(found["validity"], 4),
        "gap": gap["gap"], "gap_stderr": round(gap["stderr"], 4),
    }  # fmt: skip


if __name__ == "__main__":
    main()
