"""Asks how near samples of the family `conditional` can come to a condition, where nobody can tell the value of an architecture never seen.

    python -m experiments.condition_floor [--conditions latency:pixel3 ...]

In nasbench201, whose tables have the value of each architecture, in standard deviations over the training half:
  copies      mean absolute distance of architectures from the mean of their class, which compute the same
  unforeseen  mean absolute residual on the held-out half of a ridge regression on the training half, from all pairs of operators, and from
              all triples: what the rules of the condition leave open
  memory      mean absolute error of the `SAMPLES` architectures of the training half that are nearest to what is asked for
  samples     mean absolute error of samples at weight `WEIGHT` that the network was trained on, and of the others, and the share of the first;
              what is asked for are the requests of `experiments.condition_errors`
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations
from typing import Any

import numpy as np

from experiments.condition_errors import ASKED, SAMPLES, SEED
from experiments.shared.common import begin, one_thread, parser
from experiments.shared.measured_space import MeasuredSpace
from experiments.shared.results import record, write_result

SPACE, RESULT, WEIGHT, RIDGE = "nasbench201", "condition_floor", 2.0, 1.0


def main() -> None:
    options = parser(__doc__)
    options.add_argument("--conditions", nargs="+", default=["latency:pixel3", "params"], help="default: latency:pixel3 params")
    args = options.parse_args()
    begin()
    one_thread()
    measured = MeasuredSpace(SPACE)
    rows = []
    for name in args.conditions:
        rows.append(record({"space": SPACE, "condition": name, **floor(measured, name)}))
        print(rows[-1], flush=True)
    write_result(RESULT, {"samples": SAMPLES, "asked": ASKED, "weight": WEIGHT, "rows": rows})


def floor(measured: MeasuredSpace, name: str) -> dict[str, Any]:
    """All figures of one condition."""
    from diffnag import load_generator
    from diffnag.generators.base import Steer
    from diffnag.generators.conditional.conditions import Measures

    space, archs = measured.space, measured.archs
    classes = [space.canonical(arch) for arch in archs]
    trains = np.array([measured.split.trains(each) for each in classes])
    raw = Measures([name], space)(archs).numpy()[:, 0]
    centre, spread = raw[trains].mean(), raw[trains].std(ddof=1)
    values = (raw - centre) / spread
    rng, place = np.random.default_rng(SEED), {arch: k for k, arch in enumerate(archs)}
    wanted: list[int] = []
    while len(wanted) < ASKED:
        if not trains[k := place[space.random(rng)]]:
            wanted.append(k)
    low, high = values[trains].min(), values[trains].max()
    generator: Any = load_generator(space, "conditional")
    missed: dict[bool, list[float]] = {True: [], False: []}
    memory = []
    for asked in values[wanted].clip(low, high):
        steer = Steer(condition={name: float(asked * spread + centre)}, weight=WEIGHT)
        for k in (place[arch] for arch in generator.sample(SAMPLES, seed=SEED, steer=steer).archs):
            missed[bool(trains[k])].append(abs(values[k] - asked))
        memory.append(np.sort(np.abs(values[trains] - asked))[:SAMPLES].mean())
    return {
        "copies": _apart(values, classes), "unforeseen": {f"{size} operators": unforeseen(measured, values, trains, size) for size in (2, 3)},
        "memory": float(np.mean(memory)), "seen": float(np.mean(missed[True])), "others": float(np.mean(missed[False])),
        "share_seen": len(missed[True]) / (len(missed[True]) + len(missed[False])),
    }  # fmt: skip


def _apart(values: np.ndarray, classes: Sequence[Any]) -> float:
    """Mean absolute distance of values from the mean of their class."""
    number = np.unique([str(each) for each in classes], return_inverse=True)[1]
    means = np.bincount(number, values) / np.bincount(number)
    return float(np.abs(values - means[number]).mean())


def unforeseen(measured: MeasuredSpace, values: np.ndarray, trains: np.ndarray, size: int) -> float:
    """Mean absolute residual on the held-out half of a ridge regression on the operators of each `size` nodes together."""
    ops = np.array([arch.ops for arch in measured.archs])
    varying = [column for column in ops.T if len(set(column.tolist())) > 1]
    coded = [np.unique(column, return_inverse=True)[1] for column in varying]
    kinds = [int(column.max()) + 1 for column in coded]
    parts = []
    for nodes in combinations(range(len(coded)), size):
        code, count = np.zeros(len(ops), dtype=int), 1
        for node in nodes:
            code, count = code * kinds[node] + coded[node], count * kinds[node]
        parts.append(np.eye(count, dtype=np.float32)[code])
    X = np.concatenate(parts, axis=1)
    known = X[trains]
    weights = np.linalg.solve(known.T @ known + RIDGE * np.eye(X.shape[1], dtype=np.float32), known.T @ values[trains].astype(np.float32))
    return float(np.abs(X[~trains] @ weights - values[~trains]).mean())


if __name__ == "__main__":
    main()
