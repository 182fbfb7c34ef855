"""The command of the benchmarks of fronts and limits: its options, and the searches that it runs and saves."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from diffnag.command import arguments
from diffnag.errors import UserError
from diffnag.io.files import check_writable
from experiments.shared import arena_results
from experiments.shared.arena_results import Entry
from experiments.shared.arena_search import Contender
from experiments.shared.common import begin, parser
from experiments.shared.pool import known_names, seeds_argument
from experiments.shared.results import RESULTS


@dataclass(frozen=True)
class Benchmark:
    """Everything that tells one benchmark from the other."""

    name: str
    """Name of its result file."""
    methods: Mapping[str, Contender]
    benchmarks: Mapping[str, Any]
    run: Callable[[Contender, str, int, int], dict[str, Any]]
    """Contender, benchmark, budget and seed of a search -> its result."""
    possible: Callable[[str, str], bool]
    """Whether there is a row of a method and a benchmark."""
    identity: Callable[..., dict[str, Any]]
    """Contender, benchmark and `budget` -> what the searches of a row have in common."""
    report: Callable[[Path, list[Entry]], None]
    """Writes the report of all saved searches."""
    seeds: range
    budget: int

    def main(self, text: str | None) -> None:
        """Run the searches that are missing, every row's first seeds before all others, then report all saved ones.

        `text` describes the script.
        """
        args = self._options(text)
        check_writable(args.out)
        begin()
        folder = arena_results.curves_folder(args.out)
        methods, benchmarks = known_names("method", args.methods, self.methods), known_names("benchmark", args.benchmarks, self.benchmarks)
        places = [(benchmark, method) for benchmark in benchmarks for method in methods if self.possible(method, benchmark)]
        entries = [
            arena_results.load(
                folder, method=method, anew=args.anew, identity=self.identity(self.methods[method], benchmark, budget=args.budget)
            )
            for benchmark, method in places
        ]
        jobs = sorted(arena_results.missing(entries, args.seeds), key=lambda job: job[1])
        try:
            for _ in arena_results.search_missing(
                entries, self.run, jobs, folder=folder, workers=args.workers,
                arguments=lambda entry: (self.methods[entry.method], entry.place[0], args.budget),
            ):  # fmt: skip
                pass
        finally:
            order = list(self.benchmarks), list(self.methods)
            if saved := arena_results.load_all(folder):
                self.report(args.out, sorted(saved, key=lambda entry: (order[0].index(entry.place[0]), order[1].index(entry.method))))

    def _options(self, text: str | None) -> argparse.Namespace:
        options = parser(text)
        add, seeds, name = options.add_argument, self.seeds, f"{self.name}.json"
        add("--methods", nargs="+", metavar="NAME", help=f"of {', '.join(self.methods)} (default: all)")
        add("--benchmarks", nargs="+", metavar="NAME", help=f"of {', '.join(self.benchmarks)} (default: all)")
        add("--seeds", type=seeds_argument, metavar="FROM:TO", default=seeds, help=f"TO is not included (default: {seeds.start}:{seeds.stop})")
        add("--budget", type=arguments.positive_int, default=self.budget, help="evaluations of a search (default: %(default)s)")
        add("--workers", type=arguments.positive_int, default=2, help="processes, one core each (default: %(default)s)")
        add("--out", type=Path, default=RESULTS / name, help=f"default: {name} in experiments/results")
        add("--anew", action="store_true", help="discard the saved searches first, for code that searches differently now")
        args = options.parse_args()
        if args.out.suffix != ".json":
            raise UserError(f"--out is {args.out}; a name that ends in .json is accepted")
        return args
