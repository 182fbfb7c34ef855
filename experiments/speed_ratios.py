"""Measures generation and the default search beside those of another commit, in turns, so that ratios hold on a noisy machine.

    python -m experiments.speed_ratios [--against REVISION] [--rounds 5]

Rates count from the first noise to the strings of the decoded samples, after a warm-up. Each round is a process in a checkout of the
other commit and one in this; ratios are medians over the rounds. The search is also timed beside a process that keeps one core busy.
`by_n` is the rate of this commit for other numbers of samples.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).resolve().parents[1]
SAMPLES = 8192
COUNTS = (64, 256, 1024, 4096, 16_384)
CASES = (
    ("nasbench201", "sde", "none"), ("nasbench201", "flow-map", "none"), ("nasbench101", "flow-map", "none"), ("darts", "flow-map", "none"),
    ("mobilenetv3", "flow-map", "none"), ("nasbench201", "flow-map", "pool"), ("nasbench201", "sde", "gradient"),
)  # fmt: skip
SCALE = 1.0
"""S of the guided draws, by `meta` on CIFAR-10."""


def main() -> None:
    from diffnag.command import arguments
    from experiments.comparison.runs import git, register_entry_points, worktree
    from experiments.shared.common import begin, parser
    from experiments.shared.results import made_by, write_result

    options = parser(__doc__)
    options.add_argument("--against", default="HEAD~1", metavar="REVISION", help="the other commit (default: HEAD~1)")
    options.add_argument("--rounds", type=arguments.positive_int, default=5, help="default: 5")
    args = options.parse_args()
    begin()
    about = made_by()
    with tempfile.TemporaryDirectory() as folder, worktree(args.against, root=ROOT, folder=Path(folder) / "other") as other:
        register_entry_points(other)
        rows = [_compared(case, other, args.rounds) for case in CASES]
        search = [[_search_seconds(tree, Path(folder)) for tree in (other, ROOT)] for _ in range(args.rounds + 1)][1:]
        with _busy():
            beside = [[_search_seconds(tree, Path(folder)) for tree in (other, ROOT)] for _ in range(args.rounds)]
    content: dict[str, Any] = {
        "made_by": about, "against": git("rev-parse", args.against, root=ROOT), "rounds": args.rounds, "samples": SAMPLES, "generation": rows,
        "search_s": _turns(search), "search_beside_a_busy_process_s": _turns(beside),
        "by_n": {family: {n: _rate(ROOT, "nasbench201", family, "none", n) for n in COUNTS} for family in ("sde", "flow-map")},
    }  # fmt: skip
    print(content)
    write_result("speed_ratios", content)


def _compared(case: tuple[str, str, str], other: Path, rounds: int) -> dict[str, Any]:
    """The rates of a case before and now, and their ratio; what the other commit cannot do has none."""
    there = (other / "diffnag" / "pretrained" / case[0] / f"{case[1]}.safetensors").is_file()
    pairs = [(_rate(other, *case, SAMPLES) if there else None, _rate(ROOT, *case, SAMPLES)) for _ in range(rounds)]
    row: dict[str, Any] = {"space": case[0], "family": case[1], "guidance": case[2], "archs_per_s": _median(now for _, now in pairs)}
    if there:
        row |= {"before": _median(before or 0 for before, _ in pairs), "ratio": _median(now / (before or 1) for before, now in pairs)}
    print(row, flush=True)
    return row


def _rate(tree: Path, space: str, family: str, guidance: str, n: int) -> float:
    """Architectures a second of the code in `tree`, measured by this file in a process of its own."""
    return float(json.loads(_python(tree, str(Path(__file__).resolve()), "measure", space, family, guidance, str(n)).splitlines()[-1]))


def measure(space_name: str, family: str, guidance: str, n: int) -> float:
    """Architectures a second of the package that is imported, decoded strings included; nothing else of this project is needed."""
    from dataclasses import replace

    from diffnag import Steer, load_generator, load_predictor, load_space

    space = load_space(space_name)
    generator: Any = load_generator(space, family)
    steer, sampling = Steer(), generator.sampling
    if guidance != "none":
        steer = Steer.by(load_predictor("meta", space=space, dataset="cifar10", seed=0), space, SCALE)
        sampling = replace(sampling, guidance=guidance)
    generator.sample(min(n, 1024), seed=1, steer=steer, sampling=sampling)
    start = time.perf_counter()
    made = generator.sample(n, seed=0, steer=steer, sampling=sampling)
    strings = [space.to_str(arch) for arch in made.archs]
    return len(strings) / (time.perf_counter() - start)


def _search_seconds(tree: Path, folder: Path) -> float:
    """Seconds of the default search as a command, into a new folder."""
    start = time.perf_counter()
    _python(tree, "-m", "diffnag.search", "--dataset", "cifar10", "--predictor", "meta", "--out", tempfile.mkdtemp(dir=folder))
    return time.perf_counter() - start


@contextmanager
def _busy() -> Iterator[None]:
    """Another process keeps one core busy."""
    process = subprocess.Popen([sys.executable, "-c", "while True: pass"])
    try:
        yield
    finally:
        process.kill()
        process.wait()


def _turns(seconds: Sequence[Sequence[float]]) -> dict[str, float]:
    """Medians of both commits, and of their ratio."""
    return {"before": _median(a for a, _ in seconds), "now": _median(b for _, b in seconds), "ratio": _median(a / b for a, b in seconds)}


def _python(tree: Path, *given: str) -> str:
    environment = {**os.environ, "PYTHONPATH": str(tree)}
    return subprocess.run([sys.executable, *given], cwd=tree, env=environment, check=True, capture_output=True, text=True).stdout


def _median(values: Any) -> float:
    return round(float(np.median(list(values))), 4)


if __name__ == "__main__":
    if sys.argv[1:2] == ["measure"]:
        print(measure(sys.argv[2], sys.argv[3], sys.argv[4], int(sys.argv[5])))
    else:
        main()
