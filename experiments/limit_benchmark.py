"""The limit benchmark: the best cell of NAS-Bench-201 on CIFAR-100 within a limit on the latency of a device, with many seeds.

    python -m experiments.limit_benchmark [--methods "diffnag, gp" random ...] [--benchmarks pixel3/50 pixel3/50/predicted ...]
        [--seeds 0:50] [--budget 60] [--workers 2] [--out FILE.json] [--anew]

Six devices with three limits each, which 50, 70 and 90 % of the cells meet; protocol T. Latencies are those of the table, or, with
`/predicted`, predicted from ten measured cells of a device whose family the prior has not seen: a chosen cell is then measured (looked
up) before its label is paid, and a cell beyond the limit costs a place and no label. A search ends at the best value within the limit.

Each search is saved in `FILE/<benchmark>-<method>-T.json.gz` as soon as it ends. The same command continues where it was stopped, and
other commands add searches. `FILE.json` holds the rows and tests of all saved searches.
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path

from diffnag.command import arguments
from diffnag.command.running import run_command
from diffnag.errors import UserError
from diffnag.io.files import check_writable, write_json
from experiments.fronts import limit_results, limits
from experiments.fronts.limits import BENCHMARKS, METHODS
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
    places = [(benchmark, method) for benchmark in benchmarks for method in methods if limits.possible(method, benchmark)]
    entries = [
        arena_results.load(folder, method=method, anew=args.anew, identity=limits.identity(METHODS[method], benchmark, budget=args.budget))
        for benchmark, method in places
    ]
    jobs = [(number, seed) for number, entry in enumerate(entries) for seed in args.seeds if seed not in entry.runs]
    jobs.sort(key=lambda job: job[1])  # every row gets its first seeds soon
    asked = [(METHODS[entries[number].method], entries[number].place[0], args.budget, seed) for number, seed in jobs]
    try:
        for job, result in in_pool(limits.run, asked, workers=args.workers):
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
    add("--seeds", type=seeds_argument, metavar="FROM:TO", default=range(50), help="TO is not included (default: 0:50)")
    add("--budget", type=arguments.positive_int, default=60, help="places of a search (default: %(default)s)")
    add("--workers", type=arguments.positive_int, default=2, help="processes, one core each (default: %(default)s)")
    add("--out", type=Path, default=RESULTS / "limit_benchmark.json", help="default: limit_benchmark.json in experiments/results")
    add("--anew", action="store_true", help="discard the saved searches first, for code that searches differently now")
    args = options.parse_args()
    if args.out.suffix != ".json":
        raise UserError(f"--out is {args.out}; a name that ends in .json is accepted")
    return args


def _report(out: Path) -> None:
    """Write the report of all saved searches, and print its means."""
    entries = arena_results.load_all(arena_results.curves_folder(out))
    if not entries:
        return
    benchmarks, methods = list(BENCHMARKS), list(METHODS)
    entries.sort(key=lambda entry: (benchmarks.index(entry.place[0]), methods.index(entry.method)))
    report = limit_results.report(entries, {entry.place[0]: limits.optimum(entry.place[0]).copies for entry in entries})
    write_json(out, report)
    for row in (*report["exact"], *report["predicted"]):
        print({key: value for key, value in row.items() if key != "made_by"})


if __name__ == "__main__":
    run_command(main)
