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

from pathlib import Path

from diffnag.command.running import run_command
from diffnag.io.files import write_json
from experiments.fronts import limit_results, limits
from experiments.fronts.command import Benchmark
from experiments.fronts.limits import BENCHMARKS, METHODS
from experiments.shared.arena_results import Entry


def main() -> None:
    """Run the searches that are missing, then write the report of all saved ones."""
    Benchmark(
        "limit_benchmark", METHODS, BENCHMARKS, limits.run, limits.possible, limits.identity, _report, seeds=range(50), budget=60
    ).main(__doc__)


def _report(out: Path, entries: list[Entry]) -> None:
    """Write the report of all saved searches, and print its means."""
    report = limit_results.report(entries, {entry.place[0]: limits.optimum(entry.place[0]).copies for entry in entries})
    write_json(out, report)
    for row in (*report["exact"], *report["predicted"]):
        print({key: value for key, value in row.items() if key != "made_by"})


if __name__ == "__main__":
    run_command(main)
