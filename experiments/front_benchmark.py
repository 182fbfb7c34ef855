"""The front benchmark: methods for several objectives on tables and surrogates, in the same loop, with many seeds.

    python -m experiments.front_benchmark [--methods diffnag nsga2 ...] [--benchmarks nasbench201/cifar100/pixel3 ...]
        [--seeds 0:10] [--budget 100] [--workers 2] [--out FILE.json] [--anew]

The figure is the front regret: the share of the true front's hypervolume that a search has not found. The reference point is the label
at the median of the space, every other objective at its worst on the true front and a tenth of its range there beyond. In the `gpt`
spaces the best front that is known of all methods together stands for the true one. `out_of_reach` is what a search that buys one
architecture of each canonical class can never find: the members of a class differ by chance.

Each search is saved in `FILE/<benchmark>-<method>-T.json.gz` as soon as it ends. The same command continues where it was stopped, and
other commands add searches. `FILE.json` holds the rows and paired tests of all saved searches, `FILE.png` their curves.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from diffnag.command.running import run_command
from diffnag.io.files import write_json
from experiments.fronts import plots as front_plots
from experiments.fronts import results as front_results
from experiments.fronts import search as front_search
from experiments.fronts.command import Benchmark
from experiments.fronts.search import BENCHMARKS, DEVICES, METHODS
from experiments.shared.arena_results import Entry


def main() -> None:
    """Run the searches that are missing, then write the report of all saved ones."""
    Benchmark(
        "front_benchmark", METHODS, BENCHMARKS, front_search.run, front_search.possible, front_search.identity, _report, seeds=range(10), budget=100
    ).main(__doc__)


def _report(out: Path, entries: list[Entry]) -> None:
    """Write rows and tests of all saved searches, and print the rows."""
    true = front_results.truths(entries)
    curves = {entry.place: front_results.front_curves(entry, true[entry.place[0]]) for entry in entries}
    floors = {benchmark: front_results.out_of_reach(benchmark, one) for benchmark, one in true.items()}
    rows: list[Mapping[str, Any]] = [
        {**front_results.row_of(entry, curves[entry.place]), "out_of_reach": floors[entry.place[0]]} for entry in entries
    ]
    means = front_results.means_over_devices(rows, DEVICES)
    hours = sum(run["seconds"] for entry in entries for run in entry.runs.values()) / 3600
    tests = front_results.tests_of(entries, curves)
    front_plots.draw(entries, curves, out.with_suffix(".png"))
    write_json(out, {"core_hours": round(hours, 2), "device_means": means, "rows": rows, "tests": tests})
    for row in rows:
        print(row["benchmark"], row["method"], row["seeds"], row["regret_at"])
    for method, regret in means.items():
        print("mean of the devices", method, regret)


if __name__ == "__main__":
    run_command(main)
