"""The arena: every search method on every benchmark, in the same loop, with the same account of labels, and many seeds.

    python -m experiments.arena [--methods random tpe ...] [--benchmarks nasbench201/cifar10 ...] [--protocol T V]
        [--seeds 0:100] [--budget 200] [--workers 2] [--out FILE.json] [--anew] [--ablations]

Under protocol T the reward is mean test accuracy, under protocol V it is validation accuracy. A search ends when it finds the best
value of the table. `diffnag` starts from scratch, with predictor `gp` and no source labels. Every method buys one label per round;
only `bananas` buys 10, as in its paper. With `--ablations` the contenders are variations of `diffnag`; the default is then 30 seeds
under protocol T.

Each search is saved in `FILE/<benchmark>-<method>-<protocol>.json.gz` as soon as it ends. The same command continues where it was
stopped, and other commands add searches. `FILE.json` holds the rows and paired tests of all saved searches, `FILE.md` their tables,
`FILE-T.png` and `FILE-V.png` their curves.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from diffnag.command import arguments
from diffnag.command.running import run_command
from diffnag.errors import UserError
from diffnag.io.files import check_writable, write_json, written_whole
from experiments.shared import arena_plots, arena_results, arena_search
from experiments.shared.arena_results import OURS, REFERENCE, Entry
from experiments.shared.arena_search import BENCHMARKS, METHODS, VARIATIONS, Contender
from experiments.shared.common import begin, parser
from experiments.shared.pool import known_names, seeds_argument
from experiments.shared.results import RESULTS

ABLATED = ("nasbench201/cifar10", "nasbench201/ImageNet16-120")


def main() -> None:
    args = _options()
    contenders = VARIATIONS if args.ablations else METHODS
    out: Path = args.out or RESULTS / ("arena_ablations.json" if args.ablations else "arena.json")
    if out.suffix != ".json":
        raise UserError(f"--out is {out}; a name that ends in .json is accepted")
    check_writable(out)
    begin()
    chosen = {name: contenders[name] for name in known_names("method", args.methods, contenders)}
    benchmarks = known_names("benchmark", args.benchmarks, ABLATED if args.ablations and not args.benchmarks else BENCHMARKS)
    protocols = tuple(args.protocol or ("T" if args.ablations else ("T", "V")))
    seeds = args.seeds or range(30 if args.ablations else 100)
    folder = arena_results.curves_folder(out)
    entries = list(_entries(chosen, benchmarks, protocols, budget=args.budget, folder=folder, anew=args.anew))
    try:
        for entry in _searched(entries, chosen, seeds, workers=args.workers, folder=folder):
            print(_line(entry), flush=True)
    finally:
        _report(out, (*METHODS, *VARIATIONS))


def _options() -> argparse.Namespace:
    options = parser(__doc__)
    add = options.add_argument
    add("--methods", nargs="+", metavar="NAME", help=f"of {', '.join(METHODS)}; with --ablations names of variations (default: all)")
    add("--benchmarks", nargs="+", metavar="NAME", help=f"of {', '.join(BENCHMARKS)} (default: all)")
    add("--protocol", nargs="+", choices=("T", "V"), help="default: both")
    add("--seeds", type=seeds_argument, metavar="FROM:TO", help="TO is not included (default: 0:100)")
    add("--budget", type=arguments.positive_int, default=200, help="labels of a search (default: %(default)s)")
    add("--workers", type=arguments.positive_int, default=2, help="processes, one core each (default: %(default)s)")
    add("--out", type=Path, help="default: arena.json in experiments/results, or arena_ablations.json")
    add("--anew", action="store_true", help="discard the saved searches first, for code that searches differently now")
    add("--ablations", action="store_true", help="compare variations of diffnag instead of the methods")
    return options.parse_args()


def _entries(
    chosen: dict[str, Contender], benchmarks: tuple[str, ...], protocols: tuple[str, ...], *, budget: int, folder: Path, anew: bool
) -> Iterator[Entry]:
    """Every combination that is asked for and possible, with its saved searches."""
    for benchmark in benchmarks:
        for protocol in protocols:
            for name, contender in chosen.items():
                if protocol in BENCHMARKS[benchmark] and (contender.method != "gp-enumerate" or arena_search.enumerable(benchmark)):
                    identity = arena_search.identity(contender, benchmark=benchmark, protocol=protocol, budget=budget)
                    yield arena_results.load(folder, method=name, identity=identity, anew=anew)


def _searched(entries: list[Entry], chosen: dict[str, Contender], seeds: range, *, workers: int, folder: Path) -> Iterator[Entry]:
    """Yield each entry as soon as all its seeds are done; save each search as soon as it ends."""
    yield from (entry for entry in entries if not arena_results.missing([entry], seeds))
    jobs = arena_results.missing(entries, seeds)
    for entry in arena_results.search_missing(
        entries, _run, jobs, arguments=lambda entry: (chosen[entry.method], entry.identity), folder=folder, workers=workers
    ):
        if not arena_results.missing([entry], seeds):
            yield entry


def _run(contender: Contender, identity: Mapping[str, Any], seed: int) -> dict[str, Any]:
    about = {key: identity[key] for key in ("benchmark", "protocol", "budget")}
    return arena_search.run(contender, seed=seed, **about)


def _report(out: Path, order: tuple[str, ...]) -> None:
    """Write rows, tests, tables and pictures of all saved searches."""
    benchmarks = list(BENCHMARKS)
    entries = arena_results.load_all(arena_results.curves_folder(out))
    entries.sort(key=lambda entry: (entry.place[2], benchmarks.index(entry.place[0]), order.index(entry.place[1])))
    if not entries:
        return
    start = time.perf_counter()
    ours = REFERENCE if any(entry.method == REFERENCE for entry in entries) else OURS
    rows = [entry.row() for entry in entries]
    tests = arena_results.paired_tests(entries, ours=ours)
    hours = sum(run["seconds"] for entry in entries for run in entry.runs.values()) / 3600
    write_json(out, {"core_hours": round(hours, 2), "rows": rows, "tests": tests})
    drawn = (arena_plots.draw(entries, protocol, out.with_name(f"{out.stem}-{protocol}.png")) for protocol in ("T", "V"))
    pictures = [path for path in drawn if path]
    with written_whole(out.with_suffix(".md")) as temporary:
        temporary.write_text(arena_results.page(rows, tests, ours=ours, pictures=[path.name for path in pictures]))
    written = ", ".join(map(str, (out, out.with_suffix(".md"), *pictures)))
    print(f"wrote {written}; {hours:.2f} core-hours of searches, {time.perf_counter() - start:.0f} s for the report")


def _line(entry: Entry) -> str:
    """One line about a finished entry."""
    row = entry.row()
    at = list(row["mean_best_at"])
    best = ", ".join(f"{row['mean_best_at'][m]:g} after {m}" for m in at[:: max(1, len(at) - 1)])
    return (
        f"{row['benchmark']} {row['method']} {row['protocol']}: {row['seeds']} seeds, mean best {best}; optimum found by "
        f"{100 * row['hit_rate']:.0f} %, median {row['median_labels_to_optimum']}; {row['seconds_per_label']:.3f} s per label"
    )


if __name__ == "__main__":
    run_command(main)
