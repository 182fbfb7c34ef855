"""Show that a change of the code changes no figure: `python -m experiments.commit_comparison --against COMMIT`.

The same commands run with the same arguments and seeds in a temporary checkout of the other commit and in this one, by the same
interpreter, and what they make is compared: samples, trials, results, weights, drawings. Seconds and rates are left out. What the other
commit makes is kept, so that a second comparison against it runs the present code alone.
"""

from __future__ import annotations

import argparse
import json
import os
import shlex
import signal
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from fnmatch import fnmatch
from pathlib import Path
from typing import Literal

from experiments.comparison.cases import Case, cases
from experiments.comparison.inputs import make_inputs
from experiments.comparison.outputs import Findings, Made, compare
from experiments.comparison.runs import Checkout, CommandFailed, Kept, git, versions, worktree
from experiments.shared.results import made_by

ROOT = Path(__file__).parents[1]
RESULT = ROOT / "experiments" / "results" / "commit_comparison.json"


@dataclass(frozen=True)
class Row:
    """The outcome of one case."""

    name: str
    commands: tuple[str, ...]
    compared: tuple[str, ...]
    within: float
    outcome: Literal["equal", "differs", "skipped"]
    differences: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    largest_error: float = 0.0

    @classmethod
    def of(cls, case: Case, found: Findings | None) -> Row:
        """A row of `found`; of nothing, where the case is skipped."""
        commands = tuple(f"python -m {' '.join(map(_quoted, command))}" for command in case.commands)
        compared = tuple(f"{output.path} ({output.kind})" for output in case.outputs) or (f"exit code {case.exit_code}",)
        if found is None:
            return cls(case.name, commands, compared, case.within, "skipped", notes=("$DIFFNAG_DATA is not set",))
        outcome: Literal["equal", "differs"] = "differs" if found.differences else "equal"
        return cls(case.name, commands, compared, case.within, outcome, tuple(found.differences), tuple(found.notes), found.largest)

    def line(self) -> str:
        """The row of the table on the screen."""
        error = f"largest error {self.largest_error:.1e}, accepted {self.within:g}" if self.largest_error else ""
        said = [*self.differences, *filter(None, [error]), *(f"({note})" for note in self.notes)]
        return f"{self.outcome:8} {self.name:40} {'; '.join(said)}".rstrip()


def _quoted(word: str) -> str:
    """A word for the shell; variables stay variables."""
    return word if word.startswith(("$", "journal:$")) else shlex.quote(word)


def main() -> None:
    """Parse the command line, run, print the table, write the result; exit 1 where something differs."""
    args = _parser().parse_args()
    known = cases()
    chosen = [case for case in known if any(fnmatch(case.name, pattern) for pattern in args.only)] if args.only else [*known]
    if unknown := [pattern for pattern in args.only if not any(fnmatch(case.name, pattern) for case in known)]:
        sys.exit(f"error: no case is called {unknown[0]!r}; --list names them all")
    chosen = [case for case in chosen if args.slow or not case.slow]
    if args.list:
        print("\n".join(case.name + (" (slow)" if case.slow else "") for case in chosen))
        return
    if args.against is None:
        sys.exit("error: --against COMMIT is missing")
    commit = git("rev-parse", "--verify", f"{args.against}^{{commit}}", root=ROOT)
    rows = run(chosen, commit, keep=args.keep or _default_keep(), jobs=args.jobs, made=args.made)
    counts = Counter(row.outcome for row in rows)
    print(f"against {commit[:12]}: " + ", ".join(f"{count} {outcome}" for outcome, count in sorted(counts.items())))
    if args.out or not args.only:
        _write(args.out or RESULT, rows, commit)
    sys.exit(1 if counts["differs"] else 0)


def _parser() -> argparse.ArgumentParser:
    p = argparse.ArgumentParser(prog="python -m experiments.commit_comparison", description=(__doc__ or "").split("\n")[0])
    p.add_argument("--against", metavar="COMMIT", help="the commit to compare with: a hash, a branch or a tag")
    p.add_argument("--only", nargs="+", default=[], metavar="NAME", help="cases to run, by name or pattern, such as 'search*'")
    p.add_argument("--list", action="store_true", help="print the names of the cases and stop")
    p.add_argument("--slow", action="store_true", help="also run the cases that take minutes, such as train_predictor")
    p.add_argument("--jobs", type=int, default=1, help="commands that run at the same time, one thread each (default: 1)")
    p.add_argument("--keep", type=Path, metavar="FOLDER", help="where the outputs of the other commit are kept (default: in the user cache)")
    p.add_argument("--made", type=Path, metavar="FOLDER", help="new folder for the outputs of this checkout (default: a temporary one)")
    p.add_argument("--out", type=Path, metavar="FILE", help=f"the result (default: {RESULT.relative_to(ROOT)}, or none with --only)")
    return p


def _default_keep() -> Path:
    from platformdirs import user_cache_path

    return user_cache_path("diffnag") / "commit_comparison"


def run(chosen: Sequence[Case], commit: str, *, keep: Path, jobs: int, made: Path | None) -> list[Row]:
    """Run `chosen` on both sides and compare; a row is printed as soon as it is known."""
    data = bool(os.environ.get("DIFFNAG_DATA"))
    runnable = [case for case in chosen if data or not case.needs_data]
    rows = [Row.of(case, None) for case in chosen if case not in runnable]
    for row in rows:
        print(row.line())
    with ExitStack() as stack:
        temporary = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="commit-comparison-")))
        inputs = temporary / "inputs"
        kept = Kept(keep.absolute() / commit, make_inputs(inputs), versions())
        if any(kept.load(case) is None for case in runnable):
            root = stack.enter_context(worktree(commit, root=ROOT, folder=temporary / "other"))
            other = Checkout.prepare(root, work=temporary / "other-work", inputs=inputs)
        here = Checkout.prepare(ROOT, work=temporary / "work", inputs=inputs)
        results = (made or temporary / "made").absolute()

        def old(case: Case) -> Made:
            return kept.load(case) or kept.run(case, other)

        def new(case: Case) -> Made:
            return here.run(case, results / case.name.replace(" ", "-"))

        pool = stack.enter_context(ThreadPoolExecutor(jobs))
        pairs = [(case, pool.submit(old, case), pool.submit(new, case)) for case in runnable]
        try:
            for case, before, now in pairs:
                rows.append(Row.of(case, _found(case, before, now)))
                print(rows[-1].line(), flush=True)
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise
    return rows


def _found(case: Case, before: Future[Made], now: Future[Made]) -> Findings:
    """What the comparison of a case finds; a command that fails, on either side, is a difference."""
    failed = Findings()
    sides: list[Made] = []
    for name, side in (("before", before), ("now", now)):
        try:
            sides.append(side.result())
        except (CommandFailed, subprocess.TimeoutExpired) as failure:
            failed.differences.append(f"{name}: {failure}")
    return failed if failed.differences else compare(case.outputs, *sides, within=case.within)


def _write(path: Path, rows: Sequence[Row], commit: str) -> None:
    content = {
        "made_by": made_by(), "against": commit, "packages": versions(), "rows": [asdict(row) for row in rows],
    }  # fmt: skip
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.part")
    temporary.write_text(json.dumps(content, indent=2) + "\n")
    os.replace(temporary, path)
    print(f"wrote {path}")


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # the temporary checkout is removed then, too
    try:
        main()
    except KeyboardInterrupt:
        sys.exit(130)
