"""The front benchmark: methods for several objectives on tables and surrogates, in the same loop, with many seeds.

    python -m experiments.front_benchmark [--methods diffnag nsga2 ...] [--benchmarks nasbench201/cifar100/pixel3 ...]
        [--seeds 0:10] [--budget 100] [--workers 2] [--out FILE.json] [--anew]

The figure is the front regret: the share of the true front's hypervolume that a search has not found. The reference point is the label
at the median of the space, every other objective at its worst on the true front and a tenth of its range there beyond. In the `gpt`
spaces the best front that is known of all methods together stands for the true one.

Each search is saved in `FILE/<benchmark>-<method>-T.json.gz` as soon as it ends. The same command continues where it was stopped, and
other commands add searches. `FILE.json` holds the rows and paired tests of all saved searches, `FILE.png` their curves.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from diffnag.command import arguments
from diffnag.command.running import run_command
from diffnag.errors import UserError
from diffnag.io.files import check_writable, write_json
from experiments.fronts import plots as front_plots
from experiments.fronts import results as front_results
from experiments.fronts import search as front_search
from experiments.fronts.search import BENCHMARKS, DEVICES, METHODS
from experiments.shared import arena_results
from experiments.shared.common import begin, parser
from experiments.shared.pool import in_pool, known_names, seeds_argument
from experiments.shared.results import RESULTS, record


def main() -> None:
    """Run the searches that are missing, then write the report of all saved ones."""
    args = _options()
    out: Path = args.out
    check_writable(out)
    begin()
    folder = arena_results.curves_folder(out)
    methods, benchmarks = known_names("method", args.methods, METHODS), known_names("benchmark", args.benchmarks, BENCHMARKS)
    places = [(benchmark, method) for benchmark in benchmarks for method in methods if front_search.possible(method, benchmark)]
    entries = [
        arena_results.load(
            folder, method=method, anew=args.anew, identity=front_search.identity(METHODS[method], benchmark, budget=args.budget)
        )
        for benchmark, method in places
    ]
    jobs = [(number, seed) for number, entry in enumerate(entries) for seed in args.seeds if seed not in entry.runs]
    jobs.sort(key=lambda job: job[1])  # every row gets its first seeds soon
    asked = [(METHODS[entries[number].method], entries[number].place[0], args.budget, seed) for number, seed in jobs]
    try:
        for job, result in in_pool(front_search.run, asked, workers=args.workers):
            number, seed = jobs[job]
            entries[number] = replace(entries[number], runs={**entries[number].runs, seed: record(result)})
            arena_results.save(folder, entries[number])
    except KeyboardInterrupt as interrupt:
        raise KeyboardInterrupt(f"stopped; finished searches are saved in {folder}, and the same command continues") from interrupt
    finally:
        _report(out)


def _options() -> argparse.Namespace:
    options = parser(__doc__)
    add = options.add_argument
    add("--methods", nargs="+", metavar="NAME", help=f"of {', '.join(METHODS)} (default: all)")
    add("--benchmarks", nargs="+", metavar="NAME", help=f"of {', '.join(BENCHMARKS)} (default: all)")
    add("--seeds", type=seeds_argument, metavar="FROM:TO", default=range(10), help="TO is not included (default: 0:10)")
    add("--budget", type=arguments.positive_int, default=100, help="labels of a search (default: %(default)s)")
    add("--workers", type=arguments.positive_int, default=2, help="processes, one core each (default: %(default)s)")
    add("--out", type=Path, default=RESULTS / "front_benchmark.json", help="default: front_benchmark.json in experiments/results")
    add("--anew", action="store_true", help="discard the saved searches first, for code that searches differently now")
    args = options.parse_args()
    if args.out.suffix != ".json":
        raise UserError(f"--out is {args.out}; a name that ends in .json is accepted")
    return args


def _report(out: Path) -> None:
    """Write rows and tests of all saved searches, and print the rows."""
    entries = arena_results.load_all(arena_results.curves_folder(out))
    if not entries:
        return
    benchmarks, methods = list(BENCHMARKS), list(METHODS)
    entries.sort(key=lambda entry: (benchmarks.index(entry.place[0]), methods.index(entry.method)))
    true = front_results.truths(entries)
    curves = {entry.place: front_results.front_curves(entry, true[entry.place[0]]) for entry in entries}
    rows: list[Mapping[str, Any]] = [front_results.row_of(entry, curves[entry.place]) for entry in entries]
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
