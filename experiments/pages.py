"""Fill the tables of the README, and write `docs/measurements.md`, from the result files and the metadata of the shipped weights.

    python -m experiments.pages
"""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from diffnag.datasets.meta_dataset import CROSSED, TRAINING, read
from diffnag.io.files import PRETRAINED
from experiments.shared import measurements
from experiments.shared.arena_results import OURS
from experiments.shared.common import DATASETS
from experiments.shared.measurements import percent, table, weights
from experiments.shared.results import read_result

ROOT = Path(__file__).parents[1]
README = ROOT / "README.md"


def main() -> None:
    text = README.read_text()
    for name, filled in {"measured": measured(), "shipped": shipped()}.items():
        text, count = re.subn(rf"(<!-- {name} -->\n).*?(<!-- /{name} -->)", lambda m, t=filled: m[1] + t + m[2], text, flags=re.DOTALL)
        assert count == 1, name
    README.write_text(text)
    (ROOT / "docs" / "measurements.md").write_text(measurements.document())


def measured() -> str:
    speed = read_result("speed")
    made_by = speed["made_by"]
    return (
        f"{made_by['cores']} CPU cores, torch {made_by['versions']['torch'].split('+')[0]}; three figures are CIFAR-10 / CIFAR-100 / ImageNet16-120 of "
        "NAS-Bench-201 (v1_0).\n\n"
        + table(("what", "figure", "`python -m ...`, result"), [*_searches(), *_generation(), *_practice(speed)])
        + "\nEverything that is measured, with spreads, baselines, ablations and what does not work: [docs/measurements.md](docs/measurements.md).\n"
    )


def shipped() -> str:
    others = [f"{path.parent.name}/denoiser" for path in sorted(PRETRAINED.glob("*/denoiser.safetensors"))]
    named = (f"nasbench201/{kind}-{target}" for kind in ("sister-tables", "meta-only") for target in (*DATASETS, "own-images"))
    rows = []
    for name in (*others, *named, "nasbench201/surrogate"):
        meta = weights(f"{name}.safetensors")
        size = (PRETRAINED / f"{name}.safetensors").stat().st_size / 1e6
        rows.append((f"`{name}`", f"{size:.2f} MB", f"{meta['train_seconds']:.0f} s", f"`{meta['command']}`"))
    encoder = weights("image_encoder.safetensors")
    return (
        "Weights are safetensors with JSON metadata (seed, command, figures) in `diffnag/pretrained`. Seconds as they were measured, on two "
        "cores, at times with other work beside:\n\n" + table(("file", "size", "trained in", "command"), rows)
        + f"\n`image_encoder.safetensors` comes from `{encoder['command']}` ({encoder['train_core_seconds']:.0f} core-seconds), "
        "`tasks.safetensors`, the image features of the "
        "datasets, from `python -m diffnag.embed_datasets`. Our own measurements are JSON lines whose first line has the command: "
        f"{', '.join(_made(path) for path in (*TRAINING, *CROSSED))}.\n"
    )  # fmt: skip


Row = tuple[str, str, str]


def _searches() -> list[Row]:
    """Labels paid for against what is found."""
    arena = {(row["benchmark"], row["protocol"], row["method"]): row for row in read_result("arena")["rows"]}
    meta = {(row["method"], row["dataset"]): row for row in read_result("meta_search")["rows"]}
    cells, wirings = "nasbench201/cifar10", "nasbench101/cifar10"

    def others(benchmark: str, told: Callable[[str], str]) -> str:
        return "; ".join(f"{method} {told(method)}" for name, protocol, method in arena if (name, protocol) == (benchmark, "T") and method != OURS)

    def labels(method: str) -> str:
        return _three(lambda dataset: arena[f"nasbench201/{dataset}", "T", method]["median_labels_to_optimum"])

    def after_150(method: str) -> str:
        return f"{arena[wirings, 'T', method]['mean_best_at']['150']:.2f}"

    def best_of(method: str) -> str:
        return _three(lambda dataset: f"{meta[method, dataset]['mean_best_at']['10']:.2f}")

    found = _source("arena", "arena.md")
    scratch, wired = arena[cells, "T", OURS], arena[wirings, "T", OURS]
    return [
        (f"labels to the best test accuracy of NAS-Bench-201 from scratch, median of {scratch['seeds']} searches (—: fewer than half find it)",
         f"**{labels(OURS)}**; {others(cells, labels)}", found),
        (f"the same with the tables of the other datasets (`--predictor meta`), {meta['meta', 'cifar10']['runs']} searches",
         f"**{_three(lambda dataset: meta['meta', dataset]['median_labels_to_optimum'])}**", _source("meta_search", "meta_search.json")),
        ("best test accuracy after 10 labels, %, with no table of the space (`--predictor meta-only`), and from scratch",
         f"**{best_of('meta-only')}**; {best_of('gp')}", _source("meta_search", "meta_search.json")),
        (f"best test accuracy on NAS-Bench-101 after 150 labels, %, mean of {wired['seeds']} searches (best cell {wired['optimum']:.2f})",
         f"**{after_150(OURS)}**; {others(wirings, after_150)}", found),
    ]  # fmt: skip


def _generation() -> list[Row]:
    """Samples and guidance, before any search."""
    generation, quality = read_result("transfer_generation")["rows"], read_result("generation_quality")
    gain = {(row["predictor"], row["dataset"]): row["gain"] for row in generation if row["scale"] == 3}
    valid = {name: space["samples"]["dpmpp, 20 evaluations"]["validity"] for name, space in quality["spaces"].items()}
    law = [row for row in quality["law"] if row["scale"] <= 4]
    off = {
        kind: max(abs(row[f"{kind}_mean_z"] - row["exact_mean_z"]) for row in law if row["scale"] <= most)
        for kind, most in (("gradient", 1), ("particles", 4))
    }
    awareness = next(d for d in read_result("dataset_awareness")["awareness"]["differences"] if d["pair"] == "c - a")["tau"]
    return [
        ("test accuracy of generated architectures above the mean of the space, points, with no label of the target: `meta`; `meta-only`",
         "; ".join(_three(lambda dataset, name=name: f"{gain[name, dataset]:+.2f}") for name in ("meta", "meta-only")),
         _source("transfer_generation", "transfer_generation.json")),
        ("what knowing the dataset adds to Kendall tau on tasks never seen (95 % interval)",
         f"{awareness['mean']:+.3f} ({awareness['low']:+.3f} to {awareness['high']:+.3f})",
         _source("dataset_awareness", "dataset_awareness.json")),
        ("raw validity of 1,024 samples, %, nothing repaired", ", ".join(f"{name} {percent(share)}" for name, share in valid.items()),
         _source("generation_quality", "generation_quality.json")),
        ("largest error of mean z against the exact tilted law: gradient, S <= 1; particles, S <= 4",
         f"{off['gradient']:.2f}; {off['particles']:.2f}", _source("generation_quality", "generation_quality.json")),
    ]  # fmt: skip


def _practice(speed: dict[str, Any]) -> list[Row]:
    """Own images, and how long things take."""
    accuracy = [row["test_accuracy"] for row in read_result("own_images")["digits"]]
    rate = {row["guidance"]: row["archs_per_s"] for row in speed["generation"]}
    workers = read_result("workers")
    most = max(row["workers"] for row in workers["rows"])
    shares = (f"{row['share_of_one_worker']:.2f} ({row['method']}, {row['storage']})" for row in workers["rows"] if row["workers"] == most)
    timed = _source("speed", "speed.json")
    slowest: dict[str, float] = {}
    for row in speed["choosing"]:
        slowest[row["predictor"]] = max(slowest.get(row["predictor"], 0), row["median_s"])
    return [
        ("`search --dataset digits --predictor meta`, test accuracy of the trained network, 5 seeds",
         f"{percent(min(accuracy))} to {percent(max(accuracy))} %", _source("own_images", "own_images.json")),
        (f"wall time of {most} workers against one, {workers['labels']} labels of an oracle of {workers['oracle_seconds']:g} s",
         ", ".join(shares), _source("workers", "workers.json")),
        ("choosing one label of a search on NAS-Bench-201, median, the slowest of three datasets",
         "; ".join(f"`{name}` {seconds:.2f} s" for name, seconds in slowest.items()), timed),
        ("architectures a second: unguided; guided by gradient; by particles",
         f"{rate['none']:,.0f}; {rate['gradient']:,.0f}; {rate['particles']:,.0f}", timed),
        ("default search for CIFAR-10, whole command, surrogate; table oracle",
         f"{speed['search_wall_s']['surrogate']:.1f}; {speed['search_wall_s']['table']:.1f} s", timed),
        ("train the score network of NAS-Bench-201, whole command", f"{speed['train_score']['wall_s']:.0f} s", timed),
    ]  # fmt: skip


def _three(cell: Callable[[str], Any]) -> str:
    """A figure of each dataset of NAS-Bench-201; — for none."""
    cells = (cell(dataset) for dataset in DATASETS)
    return " / ".join("—" if value is None else value if isinstance(value, str) else f"{value:g}" for value in cells)


def _source(command: str, name: str) -> str:
    return measurements.source(command, name, folder="experiments/results")


def _made(path: Path) -> str:
    data = read(path)
    return f"`{path.name}` ({len(data.tasks)} tasks x {len({(m.task, m.arch) for m in data.measurements}) // len(data.tasks)} architectures)"


if __name__ == "__main__":
    main()
