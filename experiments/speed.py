"""Measures speed: generation, oracles, choice of a label, whole searches, `--help`, and training of the score network.

    python -m experiments.speed [--without-training]

Times are medians after a warm-up. Run it on an idle machine; the result file records its cores and threads.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from experiments.shared.common import DATASETS, begin, parser
from experiments.shared.results import made_by, write_result

if TYPE_CHECKING:
    from diffnag.protocols import SearchSpace

N, RUNS = 1024, 7
SEARCHES, LABELS = 3, 64
GROWN = (100, 250, 500, 1000, 2000)
"""Labels of which a predictor learns, for the growth of its cost."""
CANDIDATES = 400
COMMANDS = ("search", "generate", "train_score", "train_predictor", "train_surrogate", "data", "list", "embed_datasets",
            "build_meta_dataset", "train_image_encoder", "train_supernet", "draw", "export", "device")


def main() -> None:
    options = parser(__doc__)
    options.add_argument("--without-training", action="store_true", help="leave out the training of the score network")
    with_training = not options.parse_args().without_training
    data = begin()
    content: dict[str, Any] = {"made_by": made_by(), "runs": RUNS}
    content |= {"generation": _generation(), "oracles": _oracles(), "choosing": _choosing(), "learning": _learning()}
    with tempfile.TemporaryDirectory() as folder:
        content["search_wall_s"] = {
            oracle: _median(partial(_search, Path(folder), oracle, data), runs=3) for oracle in ("surrogate", "table")
        }
        content["help_s"] = {name: _median(partial(_python, "-m", f"diffnag.{name}", "--help"), runs=5) for name in COMMANDS}
        if with_training:
            content["train_score"] = _train_score(Path(folder))
    print(content)
    write_result("speed", content)


def _generation() -> list[dict[str, Any]]:
    """Architectures per second, unguided and with each kind of guidance."""
    from diffnag import Steer, load_generator, load_predictor, load_space
    from diffnag.generators.diffusion.options import Sampling

    space = load_space("nasbench201")
    generator = load_generator(space)
    predictor = load_predictor("meta", space=space, dataset="cifar10", seed=0)
    rows = []
    for guidance in ("none", "gradient", "particles"):
        steer = Steer() if guidance == "none" else Steer.by(predictor, space)
        sampling = Sampling(guidance="auto" if guidance == "none" else guidance)
        made = [generator.sample(N, seed=seed, steer=steer, sampling=sampling) for seed in range(RUNS + 1)][1:]
        seconds = float(np.median([item.wall_s for item in made]))
        row = {"guidance": guidance, "n": N, "nfe": made[0].nfe, "predictor_nfe": made[0].predictor_nfe}
        rows.append({**row, "median_s": seconds, "archs_per_s": N / seconds})
        print(rows[-1])
    return rows


def _oracles() -> dict[str, float]:
    """Milliseconds to open each oracle, whose compact file exists already, and for one query."""
    from diffnag import load_space, make_oracle

    space = load_space("nasbench201")
    rng = np.random.default_rng(0)
    archs = [space.random(rng) for _ in range(200)]
    found = {}
    for kind in ("table", "surrogate"):
        make_oracle(kind).setup(space=space)  # fills the cache
        found[f"{kind}_setup_ms"] = 1000 * _median(partial(_open, kind, space))
        oracle = make_oracle(kind)
        oracle.setup(space=space)
        start = time.perf_counter()
        for arch in archs:
            oracle.query(arch, dataset="cifar10", split="val")
        found[f"{kind}_query_ms"] = 1000 * (time.perf_counter() - start) / len(archs)
    return found


def _open(kind: str, space: SearchSpace) -> None:
    from diffnag import make_oracle

    make_oracle(kind).setup(space=space)


def _choosing() -> list[dict[str, Any]]:
    """Seconds from label to label in searches that buy one label per round, with the table and a study in memory."""
    cases: list[tuple[str, str, tuple[str, ...]]] = [(predictor, dataset, ()) for predictor, dataset in product(("gp", "meta"), DATASETS)]
    cases += [(predictor, "cifar100", others) for predictor, others in product(("gp", "meta"), (("params",), ("params", "flops")))]
    rows = []
    for predictor, dataset, others in cases:
        seconds = [one for seed in range(SEARCHES) for one in _between_labels(predictor, dataset, others, seed)]
        rows.append({"predictor": predictor, "dataset": dataset, "objectives": 1 + len(others), "labels": LABELS, "searches": SEARCHES,
                     "median_s": float(np.median(seconds)), "mean_s": float(np.mean(seconds))})  # fmt: skip
        print(rows[-1])
    return rows


def _learning() -> list[dict[str, Any]]:
    """Seconds to learn from so many labels and to predict `CANDIDATES` others."""
    from diffnag import load_predictor, load_space, make_oracle
    from diffnag.spaces.draws import random_archs

    space, oracle = load_space("nasbench201"), make_oracle("table")
    oracle.setup(space=space)
    archs = list(dict.fromkeys(random_archs(space, 2 * max(GROWN), seed=0)))
    y = np.array([oracle.query(arch, dataset="cifar100", split="val") for arch in archs[: max(GROWN)]])
    rows = []
    for name, labels in product(("gp", "meta"), GROWN):
        predictor = load_predictor(name, space=space, dataset="cifar100", seed=0)

        def learned(predictor: Any = predictor, labels: int = labels) -> None:
            predictor.fit(archs[:labels], y[:labels])
            predictor.predict(archs[-CANDIDATES:])

        rows.append({"predictor": name, "labels": labels, "candidates": CANDIDATES, "median_s": _median(learned, runs=3)})
        print(rows[-1])
    return rows


def _between_labels(predictor: str, dataset: str, others: tuple[str, ...], seed: int) -> list[float]:
    """Seconds from each label to the next in one search, which minimises the objectives `others` as well."""
    from diffnag import SearchOptions
    from diffnag.search_loop.loop import Search

    asked = SearchOptions(dataset=dataset, predictor=predictor, oracle="table", reward="test", budget=LABELS, seed=seed, minimise=others)
    with Search(asked) as search:
        moments = [time.perf_counter()]
        search.work(on_trial=lambda _: moments.append(time.perf_counter()))
    return np.diff(moments).tolist()


def _search(folder: Path, oracle: str, data: Path) -> None:
    """Run the default search as its own process, into a new folder."""
    environment = {**os.environ, "DIFFNAG_DATA": str(data)}
    out = tempfile.mkdtemp(dir=folder)
    command = ("-m", "diffnag.search", "--dataset", "cifar10", "--predictor", "meta", "--oracle", oracle, "--out", out)
    _python(*command, environment=environment)


def _train_score(folder: Path) -> dict[str, Any]:
    """Seconds of the whole training command, and the figures of its network."""
    from diffnag.io.checkpoint import load_checkpoint

    out = folder / "sde.safetensors"
    start = time.perf_counter()
    _python("-m", "diffnag.train_score", "--space", "nasbench201", "--sde", "ve", "--split", "canonical-sha256-0.5", "--out", str(out))
    wall = time.perf_counter() - start
    _, meta = load_checkpoint(out, kind="generator")
    return {"wall_s": wall, **meta["figures_1024_samples"]}


def _python(*arguments: str, environment: dict[str, str] | None = None) -> None:
    subprocess.run([sys.executable, *arguments], check=True, capture_output=True, env=environment)


def _median(call: Callable[[], object], *, runs: int = RUNS) -> float:
    """Median seconds of `runs` calls, after one call that is not counted."""
    call()
    seconds = []
    for _ in range(runs):
        start = time.perf_counter()
        call()
        seconds.append(time.perf_counter() - start)
    return float(np.median(seconds))


if __name__ == "__main__":
    main()
