"""Searches on a user's own images as a user runs them, and measures what early stopping saves.

    python -m experiments.own_images [--seeds N]

`digits`: the default command with its final training; seconds of the whole process, and the load of the machine before it.
`stopping`: random architectures are trained to the end on the digits, and on five classes of CIFAR-10 as a folder of PNG and JPEG files, 300
a class; their trainings are then replayed with the early stopping of a search.
Rows that the result file has are kept.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from experiments.shared.common import begin, parser
from experiments.shared.results import read_result, record, write_result
from experiments.shared.statistics import kendall_tau

if TYPE_CHECKING:
    from diffnag.arch import Arch
    from diffnag.search_loop.loop import Search
    from diffnag.search_loop.trial import Trial

CLASSES = {"aeroplane": 0, "car": 1, "bird": 2, "cat": 3, "horse": 7}
A_CLASS = 300
ARCHS, ORDERS = 30, 100


def main() -> None:
    options = parser(__doc__)
    options.add_argument("--seeds", type=int, default=5, help="seeds of the digits; stopping has at most 3 (default: %(default)s)")
    seeds = options.parse_args().seeds
    data = begin()
    rows = Rows()
    with tempfile.TemporaryDirectory() as folder:
        photos = write_photos(Path(folder) / "photos", data / "images" / "cifar10.npz")
        for seed in range(seeds):
            rows.add("digits", {"seed": seed}, lambda seed=seed: searched(seed, Path(folder)))
        for seed in range(min(seeds, 3)):
            for source in ("digits", photos):
                rows.add("stopping", {"dataset": Path(source).name, "seed": seed}, lambda source=source, seed=seed: stopping(source, seed))


class Rows:
    """Rows of the parts of the experiment; every new row is saved at once."""

    def __init__(self) -> None:
        found = read_result("own_images")
        self._rows: dict[str, list[dict[str, Any]]] = {part: found.get(part, []) for part in ("digits", "stopping")}

    def add(self, part: str, key: Mapping[str, Any], measure: Any) -> None:
        """Measure and save the row of this `key`, unless it is there already."""
        if any(key.items() <= row.items() for row in self._rows[part]):
            return
        row = {**key, **measure()}
        print(part, row, flush=True)
        self._rows[part].append(record(row))
        write_result("own_images", self._rows)


def write_photos(folder: Path, source: Path) -> Path:
    """Write one folder per class, with PNG and JPEG files in turn; returns `folder`."""
    from PIL import Image

    arrays = np.load(source)
    for name, label in CLASSES.items():
        (folder / name).mkdir(parents=True)
        for i, image in enumerate(arrays["x_train"][arrays["y_train"] == label][:A_CLASS]):
            Image.fromarray(image).save(folder / name / f"{i:03}.{'jpg' if i % 2 else 'png'}", quality=95)
    return folder


def searched(seed: int, folder: Path) -> dict[str, Any]:
    """Run the command line on the digits; returns seconds of the whole process, and accuracies as fractions."""
    out = folder / f"run-{seed}"
    command = [sys.executable, "-m", "diffnag.search", "--dataset", "digits", "--predictor", "meta", "--seed", str(seed)]
    start, load = time.perf_counter(), os.getloadavg()[0]
    process = subprocess.Popen([*command, "--out", str(out)], stdout=subprocess.DEVNULL)
    _, status, used = os.wait4(process.pid, 0)
    wall = time.perf_counter() - start
    if status:
        sys.exit(f"{command} failed")
    result = json.loads((out / "result.json").read_text())
    final = {key: result["final"][key] for key in ("arch", "params", "validation_accuracy", "epochs", "seconds")}
    row: dict[str, Any] = {"wall_s": round(wall, 1), "cpu_s": round(used.ru_utime + used.ru_stime, 1), "load_average_before": round(load, 1)}
    row |= {key: result[key] for key in ("test_accuracy", "test_interval", "test_images", "labels_target", "epochs_target")}
    return {**row, "final": final, "onnx_max_abs_difference": result["onnx_max_abs_difference"]}


def stopping(source: str | Path, seed: int) -> dict[str, Any]:
    """Train random architectures to the end, then replay them in `ORDERS` orders with early stopping. Means over the orders:

    `seconds_share` is the share of the CPU seconds that remains. `best_lost` is the loss of best validation accuracy, in points.
    `best_gained` is the gain of best accuracy over half as many architectures, trained to the end in the same number of seconds.
    `tau` is Kendall's, between the values that a predictor gets and the accuracies after all epochs; `tau_as_seen` leaves out the
    expected gain of stopped trainings. `best_kept` is the share of orders that find the best architecture.
    """
    from diffnag.search_loop.loop import Search
    from diffnag.search_loop.options import SearchOptions
    from diffnag.search_loop.trial import expected_values

    with Search(SearchOptions(dataset=str(source), method="random", seed=seed)) as search:
        curves = {arch: train_in_steps(search, arch) for arch in drawn(search, seed)}
    rng = np.random.default_rng(seed)
    rows = []
    for _ in range(ORDERS):
        order = [list(curves)[i] for i in rng.permutation(len(curves))]
        values, seconds = (np.array([curves[arch][-1][k] for arch in order]) for k in (1, 2))
        half = len(order) // 2
        trials = replay(search, order, curves)
        spent = np.cumsum([trial.cost_s for trial in trials])
        best = best_curve(trials)
        rows.append({
            "seconds_share": spent[-1] / seconds.sum(), "best_lost": values.max() - best[-1],
            "best_gained": best[np.searchsorted(spent, seconds[:half].sum(), "right") - 1] - values[:half].max(),
            "tau": kendall_tau(np.array(expected_values(trials)), values),
            "tau_as_seen": kendall_tau(np.array([trial.value for trial in trials]), values),
        })  # fmt: skip
    means = {key: float(np.mean([row[key] for row in rows])) for key in rows[0]}
    kept = float(np.mean([row["best_lost"] < 1e-9 for row in rows]))
    return {**means, "best_kept": kept, "architectures": len(curves), "orders": ORDERS, "epochs": search.oracle.epochs}


def drawn(search: Search, seed: int) -> list[Arch]:
    """`ARCHS` random architectures of the search's domain."""
    rng = np.random.default_rng(seed)
    return list(islice(search.domain.random(rng, set()), ARCHS))


def train_in_steps(search: Search, arch: Arch) -> list[tuple[int, float, float]]:
    """`(epochs, validation accuracy in %, CPU seconds so far)` at each point where a search might stop the training."""
    start = time.process_time()
    stages = search.oracle.stages(arch, dataset=search.options.dataset, split="val")
    return [(epochs, value, time.process_time() - start) for epochs, value in stages]


def replay(search: Search, order: Sequence[Arch], curves: Mapping[Arch, list[tuple[int, float, float]]]) -> tuple[Trial, ...]:
    """Trials of a study that gets the recorded trainings in this order and stops them as a search does."""
    from diffnag.search_loop.study.records import Outcome
    from diffnag.search_loop.study.study import Study
    from diffnag.search_loop.trial import Batch, Proposal

    study = Study.open(storage=None, name="replay", space=search.space, options={})
    study.begin_round()
    claim = study.plan(Batch(tuple(map(Proposal, order))))
    while claim:
        curve = curves[claim.planned.proposal.arch]
        for step in curve:
            poor = study.report(claim, epochs=step[0], value=step[1]) and step is not curve[-1]
            if poor:
                break
        epochs, value, seconds = step
        study.tell(claim, Outcome(value, None, seconds, epochs, pruned=poor))
        study.refresh()
        claim = study.take()
    return study.history


def best_curve(trials: Sequence[Trial]) -> np.ndarray:
    """Best value of a complete evaluation after each trial."""
    return np.maximum.accumulate([-np.inf if trial.pruned or trial.value is None else trial.value for trial in trials])


if __name__ == "__main__":
    main()
