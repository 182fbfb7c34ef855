"""Search on one's own images as a user runs it, and what stopping trainings early saves.

    python -m experiments.own_images [--seeds N]

`digits`: the default command, final training included; seconds of the whole process, and how busy the machine was before
it. `photos`: five classes of CIFAR-10 as a folder of PNG and JPEG files, 300 a class, with `--compare`. `stopping`: random
architectures trained to the end on both, and what would have come of it had the unpromising been stopped as a search does.
Rows that are in the result file are kept.
"""

from __future__ import annotations

import argparse
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

from experiments.shared.common import read_result, use_reference_data, write_result

if TYPE_CHECKING:
    from diffnag.arch import Arch
    from diffnag.search_loop.loop import Search
    from diffnag.search_loop.trial import Trial

CLASSES = {"aeroplane": 0, "car": 1, "bird": 2, "cat": 3, "horse": 7}
A_CLASS = 300
ARCHS, ORDERS = 30, 100


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=5, help="of the digits; photos and stopping have 3 at most (default: %(default)s)")
    seeds = parser.parse_args().seeds
    data = use_reference_data()
    rows = Rows()
    with tempfile.TemporaryDirectory() as folder:
        photos = write_photos(Path(folder) / "photos", data / "images" / "cifar10.npz")
        for seed in range(seeds):
            rows.add("digits", {"seed": seed}, lambda seed=seed: searched("digits", seed, Path(folder)))
        for seed in range(min(seeds, 3)):
            for source in ("digits", photos):
                rows.add("stopping", {"dataset": Path(source).name, "seed": seed}, lambda source=source, seed=seed: stopping(source, seed))
            rows.add("photos", {"seed": seed}, lambda seed=seed: searched(photos, seed, Path(folder), "--compare"))


class Rows:
    """Rows by the part of the experiment, kept in the result file from the first on."""

    def __init__(self) -> None:
        found = read_result("own_images")
        self._rows: dict[str, list[dict[str, Any]]] = {part: found.get(part, []) for part in ("digits", "photos", "stopping")}

    def add(self, part: str, key: Mapping[str, Any], measure: Any) -> None:
        """The row that `measure` gives, unless one of this `key` is there."""
        if any(key.items() <= row.items() for row in self._rows[part]):
            return
        row = {**key, **measure()}
        print(part, row, flush=True)
        self._rows[part].append(row)
        write_result("own_images", **self._rows)


def write_photos(folder: Path, source: Path) -> Path:
    """A folder a class of CIFAR-10, PNG and JPEG files in turn."""
    from PIL import Image

    arrays = np.load(source)
    for name, label in CLASSES.items():
        (folder / name).mkdir(parents=True)
        for i, image in enumerate(arrays["x_train"][arrays["y_train"] == label][:A_CLASS]):
            Image.fromarray(image).save(folder / name / f"{i:03}.{'jpg' if i % 2 else 'png'}", quality=95)
    return folder


def searched(dataset: str | Path, seed: int, folder: Path, *options: str) -> dict[str, Any]:
    """What the command line costs and leaves: seconds of the whole process, and accuracies as fractions."""
    out = folder / f"run-{Path(dataset).name}-{seed}"
    command = [sys.executable, "-m", "diffnag.search", "--dataset", str(dataset), "--predictor", "meta", "--seed", str(seed)]
    begin, load = time.perf_counter(), os.getloadavg()[0]
    process = subprocess.Popen([*command, "--out", str(out), *options], stdout=subprocess.DEVNULL)
    _, status, used = os.wait4(process.pid, 0)
    wall = time.perf_counter() - begin
    if status:
        sys.exit(f"{command} failed")
    result = json.loads((out / "result.json").read_text())
    final = {key: result["final"][key] for key in ("arch", "params", "validation_accuracy", "epochs", "seconds")}
    row: dict[str, Any] = {"wall_s": round(wall, 1), "cpu_s": round(used.ru_utime + used.ru_stime, 1), "load_average_before": round(load, 1)}
    row |= {key: result[key] for key in ("test_accuracy", "test_interval", "test_images", "labels_target", "epochs_target")}
    row |= {"final": final, "onnx_max_abs_difference": result["onnx_max_abs_difference"]}
    return {**row, "compare": result["compare"]} if result["compare"] else row


def stopping(source: str | Path, seed: int) -> dict[str, Any]:
    """Random architectures, all trained to the end, told to the study in `ORDERS` orders: what would stopping have done?

    `seconds_share` of all the CPU seconds are left, `best_lost` points of the best validation accuracy; `best_gained` is that
    of as many seconds, those of half the architectures trained to the end. `tau` is Kendall's, of what a predictor is told of
    the architectures with what they are worth after all epochs, `tau_as_seen` without the expected gain of the stopped.
    """
    from scipy.stats import kendalltau

    from diffnag.search_loop.loop import Search, SearchOptions
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
            "tau": kendalltau(expected_values(trials), values).statistic,
            "tau_as_seen": kendalltau([trial.value for trial in trials], values).statistic,
        })  # fmt: skip
    means = {key: float(np.mean([row[key] for row in rows])) for key in rows[0]}
    kept = float(np.mean([row["best_lost"] < 1e-9 for row in rows]))
    return {**means, "best_kept": kept, "architectures": len(curves), "orders": ORDERS, "epochs": search.oracle.epochs}  # type: ignore[attr-defined]


def drawn(search: Search, seed: int) -> list[Arch]:
    rng = np.random.default_rng(seed)
    return list(islice(search.domain.random(rng, set()), ARCHS))


def train_in_steps(search: Search, arch: Arch) -> list[tuple[int, float, float]]:
    """`(epochs, validation accuracy in %, CPU seconds so far)` at each point where the training might be stopped."""
    begin = time.process_time()
    stages = search.oracle.stages(arch, dataset=search.options.dataset, split="val")  # type: ignore[attr-defined]
    return [(epochs, value, time.process_time() - begin) for epochs, value in stages]


def replay(search: Search, order: Sequence[Arch], curves: Mapping[Arch, list[tuple[int, float, float]]]) -> tuple[Trial, ...]:
    """The trials of a study to which the trainings of `order` are told as they were recorded."""
    from diffnag.search_loop.study.study import Outcome, Study
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
    """Best value of a whole evaluation after each trial."""
    return np.maximum.accumulate([-np.inf if trial.pruned or trial.value is None else trial.value for trial in trials])


if __name__ == "__main__":
    main()
