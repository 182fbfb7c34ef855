"""Measures how well few timings predict this machine: ten cells of NAS-Bench-201 are timed, others are predicted, then timed.

    python -m experiments.device_here [--others 30] [--seed 0]

The machine must be idle. The ten are those that `python -m diffnag.device measure` chooses, the others are random.
"""

from __future__ import annotations

import numpy as np

from experiments.shared.common import begin, parser
from experiments.shared.results import made_by, write_result

SAMPLES = 10


def main() -> None:
    options = parser(__doc__)
    options.add_argument("--others", type=int, default=30, help="cells that are predicted and then timed (default: 30)")
    options.add_argument("--seed", type=int, default=0, help="seed of both draws (default: 0)")
    args = options.parse_args()
    begin()
    from scipy.stats import spearmanr

    from diffnag.devices.design import choose
    from diffnag.devices.export import Export
    from diffnag.devices.fewshot import FewShot
    from diffnag.devices.shipped import prior_for
    from diffnag.devices.timing import ROUNDS, runtime_name, time_archs
    from diffnag.search_spaces.nasbench201.space import NASBench201
    from diffnag.spaces.draws import random_archs

    space = NASBench201()
    export = Export.of(space)
    features, prior = prior_for(space, lambda arch: export.size(arch, space))
    chosen = choose(features, prior, SAMPLES, seed=args.seed)
    others = [arch for arch in dict.fromkeys(random_archs(space, 2 * args.others, seed=args.seed + 1)) if arch not in chosen][: args.others]

    *_, timed = time_archs(chosen, space, export)
    model = FewShot(features, prior)
    model.fit(chosen, np.array([timed[space.to_str(arch)] for arch in chosen]))
    mean, std = model.predict(others)
    *_, found = time_archs(others, space, export)
    ms = np.array([found[space.to_str(arch)] for arch in others])
    write_result("device_here", {
        "samples": SAMPLES, "others": len(others), "seed": args.seed, "export": str(export), "runtime": runtime_name(), "rounds": ROUNDS,
        "median_error": round(float(np.median(np.abs(mean / ms - 1))), 4), "spearman": round(float(spearmanr(mean, ms).statistic), 4),
        "within_two_deviations": round(float((np.abs(mean - ms) < 2 * std).mean()), 4),
        "predicted_ms": mean.round(4).tolist(), "std_ms": std.round(4).tolist(), "timed_ms": ms.round(4).tolist(), "made_by": made_by(),
    })  # fmt: skip


if __name__ == "__main__":
    main()
