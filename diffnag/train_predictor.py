"""Train a meta-predictor for a target dataset, from labels of others: `python -m diffnag.train_predictor`."""

from __future__ import annotations

import argparse
import shlex
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol, cast, runtime_checkable

from diffnag.command import arguments
from diffnag.command.running import run_command
from diffnag.errors import UserError

Report = Callable[[str, int, int, float], None]


@runtime_checkable
class MetaLearns(Protocol):
    """A predictor that learns from other datasets: what this command asks of one.

    Its files are called after the transfer protocol, or after `kept_as` where it has that.
    """

    transfer: str

    def meta_fit(self, sources: Any, *, space: Any, target: str, seed: int, report: Report) -> None: ...

    def save(self, path: Path, *, target: str, meta: dict[str, Any]) -> None: ...


def parser() -> argparse.ArgumentParser:
    formatter = argparse.ArgumentDefaultsHelpFormatter
    p = argparse.ArgumentParser("python -m diffnag.train_predictor", description=__doc__, formatter_class=formatter)
    p.add_argument("--predictor", default="meta", help="a predictor with meta_fit: meta or package.module:Class")
    p.add_argument("--target", required=True, help="the dataset whose labels are not read")
    p.add_argument("--sources", help="transfer protocol: sister-tables or meta-only; by default the predictor's own")
    p.add_argument("--space", default="nasbench201", help="search space, a name or package.module:Class")
    p.add_argument("--out", type=Path, help="where the weights go; by default where the package keeps its own")
    p.add_argument("--seed", type=arguments.seed, default=0)
    return p


def main() -> None:
    args = parser().parse_args()

    from diffnag.datasets.sources import labels_by_origin, load_sources
    from diffnag.io.files import PRETRAINED, check_weights_place
    from diffnag.plugins import make_predictor
    from diffnag.spaces.loading import load_space

    space, predictor = load_space(args.space), make_predictor(args.predictor)
    if not isinstance(predictor, MetaLearns):
        raise UserError(f"predictor {args.predictor!r} is not meta-learned: it has no meta_fit, save and transfer")
    transfer = args.sources or predictor.transfer
    sources = load_sources(transfer, space, args.target)
    kept_as = getattr(predictor, "kept_as", None) or transfer
    out = args.out or PRETRAINED / space.name / f"{kept_as}-{args.target}.safetensors"
    check_weights_place(out)
    print(f"target {args.target}, sources: " + ", ".join(f"{origin} ({labels:,} labels)" for origin, labels in labels_by_origin(sources).items()))

    begin = time.monotonic()
    with _progress() as report:
        predictor.meta_fit(sources, space=space, target=args.target, seed=args.seed, report=report)
    meta = {
        "transfer": transfer,
        "seed": args.seed,
        "train_seconds": round(time.monotonic() - begin, 1),
        "command": shlex.join(["python", "-m", "diffnag.train_predictor", *sys.argv[1:]]),
    }
    cast(MetaLearns, predictor).save(out, target=args.target, meta=meta)
    print(f"wrote {out} after {meta['train_seconds']} s")


@contextmanager
def _progress() -> Iterator[Report]:
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    columns = [TextColumn("{task.description}"), BarColumn(), TextColumn("{task.completed}/{task.total}"), TimeRemainingColumn()]
    with Progress(*columns, console=Console(stderr=True)) as progress:
        stages: dict[str, Any] = {}

        def report(stage: str, step: int, steps: int, loss: float) -> None:
            if not progress.console.is_terminal and (step * 5 // steps) > ((step - 20) * 5 // steps):
                print(f"{stage} {step}/{steps}  loss {loss:.3f}", file=sys.stderr, flush=True)
            if stage not in stages:
                stages[stage] = progress.add_task(stage, total=steps)
            progress.update(stages[stage], completed=step, description=f"{stage}  loss {loss:.3f}")

        yield report


if __name__ == "__main__":
    run_command(main)
