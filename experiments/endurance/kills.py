"""SIGKILLs at random moments of searches and trainings: `python -m experiments.endurance kills`.

A campaign is one search, or one training, that is killed again and again until it has ended. Before each signal the storage is read. What
is finished by then must be there afterwards, with the same value, and must not be evaluated again. In the end the result is compared with
that of an unbroken run, where one worker makes it repeatable.
"""

from __future__ import annotations

import argparse
import itertools
import os
import random
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from experiments.endurance.forked import preload
from experiments.endurance.killing.killed_searches import SearchCampaign
from experiments.endurance.killing.killed_trainings import TrainingCampaign
from experiments.endurance.killing.logged import known_oracle
from experiments.endurance.killing.outcomes import Tally
from experiments.endurance.postgresql import NoServer, new_database, running_server
from experiments.shared.common import REFERENCE
from experiments.shared.results import made_by, read_result, write_result

RESULT = "endurance_kills"
STORAGES = ("sqlite", "journal", "postgresql")
WORKERS = (1, 4)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the sub-command."""
    parser.add_argument("--kills", type=int, default=1000, help="signals in all, over all kinds (default: 1000)")
    parser.add_argument("--seed", type=int, default=0, help="seed of the first campaign of each kind (default: 0)")
    parser.add_argument("--only", default="", metavar="TEXT", help="the kinds whose name contains this")
    parser.add_argument("--dry", action="store_true", help="write no result file")


def main(args: argparse.Namespace) -> int:
    """Run campaigns of all kinds in turn until there are enough kills; returns the number of faults."""
    if (REFERENCE / "nas_bench_201.csv.gz").is_file():
        os.environ.setdefault("DIFFNAG_DATA", str(REFERENCE))
    preload()
    known_oracle()
    about, before = made_by(), {} if args.dry else read_result(RESULT)
    commits = sorted({*before.get("commits", ()), about["commit"]})
    with ExitStack() as stack:
        place = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="endurance-")))
        kinds = {name: begin for name, begin in _kinds(stack, place) if args.only in name}
        rows: dict[str, dict[str, Any]] = {} if args.dry else {row["kind"]: row for row in before.get("rows", ())}
        for name in itertools.cycle(kinds):
            if sum(row["kills"] for row in rows.values()) >= args.kills:
                break
            row = rows.setdefault(name, Tally(name).row())
            found = kinds[name](args.seed + row["campaigns"])
            rows[name] = (tally := Tally.of(row).with_campaign(found)).row()
            print(tally, *(f"\n  FELL {fault}" for fault in found.faults), flush=True)
            if not args.dry:
                write_result(RESULT, {"made_by": about, "commits": commits, "rows": [rows[key] for key in sorted(rows)]})
    print(f"{sum(row['kills'] for row in rows.values())} kills, {sum(row['faults'] for row in rows.values())} faults")
    return sum(row["faults"] for row in rows.values())


def _kinds(stack: ExitStack, place: Path) -> Iterator[tuple[str, Callable[[int], Any]]]:
    """Name of each kind of campaign, and the function that runs one by its seed."""
    addresses: Mapping[str, Callable[[Path, str], str]] = {
        "sqlite": lambda folder, _: f"sqlite:///{folder}/study.db", "journal": lambda folder, _: f"journal:{folder}/study.log",
    }  # fmt: skip
    try:
        server = stack.enter_context(running_server())
        addresses = {**addresses, "postgresql": lambda _, name: new_database(server, name)}
    except (ImportError, NoServer) as reason:
        print(f"without PostgreSQL: {reason}", flush=True)

    def searching(storage: str, workers: int, trains: bool) -> Callable[[int], Any]:
        def run(seed: int) -> Any:
            name = f"study_{storage}_{workers}_{int(trains)}_{seed}_{os.getpid()}"
            folder = place / name
            folder.mkdir()
            campaign = SearchCampaign(folder, addresses[storage](folder, name), workers=workers, trains=trains, moments=random.Random(seed))
            return campaign.run()

        return run

    for storage, workers, trains in itertools.product(addresses, WORKERS, (False, True)):
        yield f"{storage}, {workers} worker{'s' if workers > 1 else ''}, {'training' if trains else 'table'}", searching(storage, workers, trains)

    def training(seed: int) -> Any:
        folder = place / f"training_{seed}"
        folder.mkdir()
        return TrainingCampaign(folder, moments=random.Random(seed)).run()

    yield "score training", training
