"""Fill the README's tables from the result files and from the metadata of the shipped weights.

    python -m experiments.readme
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from diffnag.meta_dataset import CROSSED, TRAINING, read
from experiments.common import DATASETS, RESULTS

README = Path(__file__).parents[1] / "README.md"


def main() -> None:
    text = README.read_text()
    for name, table in {"measured": measured(), "surrogate": surrogate(), "shipped": shipped()}.items():
        text, count = re.subn(rf"(<!-- {name} -->\n).*?(<!-- /{name} -->)", lambda m, t=table: m[1] + t + m[2], text, flags=re.DOTALL)
        assert count == 1, name
    README.write_text(text)


def measured() -> str:
    speed, quality = _result("speed"), _result("generation_quality")
    generation, search = _result("transfer_generation")["rows"], _result("transfer_search")["rows"]
    rate = {row["guidance"]: row["archs_per_s"] for row in speed["generation"]}
    unguided = quality["spaces"]["nasbench201"]
    samples = unguided["samples"]
    ours, uniform = samples["dpmpp, 20 evaluations"], samples["random draws"]
    law = [row for row in quality["law"] if row["scale"] <= 4]
    off = {
        kind: max(abs(row[f"{kind}_mean_z"] - row["exact_mean_z"]) for row in law if row["scale"] <= most)
        for kind, most in (("gradient", 1), ("particles", 4))
    }
    trained = speed["train_score"]
    speed_command = "`experiments.speed`, [speed.json](experiments/results/speed.json)"
    quality_command = "`experiments.generation_quality`, [generation_quality.json](experiments/results/generation_quality.json)"
    rows = [
        ("train the score network, whole command", f"{trained['wall_s']:.0f} s", speed_command),
        ("raw validity / uniqueness / novelty, 1,024 samples, 20 evaluations",
         f"{_pct(ours['validity'])} / {_pct(ours['uniqueness'])} / {_pct(ours['novelty'])} %", quality_command),
        ("the same for independent uniform draws (share held out from training: "
         f"{_pct(unguided['held_out_share'])} %)", f"100 / {_pct(uniform['uniqueness'])} / {_pct(uniform['novelty'])} %", quality_command),
        ("architectures a second: unguided / guided by gradient / by particles",
         f"{rate['none']:,.0f} / {rate['gradient']:,.0f} / {rate['particles']:,.0f}", speed_command),
        ("largest error of mean z against the exact tilted law: gradient, S <= 1 / particles, S <= 4",
         f"{off['gradient']:.2f} / {off['particles']:.2f}", quality_command),
        ("default search for CIFAR-10, whole command, surrogate / table oracle",
         f"{speed['search_wall_s']['surrogate']:.1f} / {speed['search_wall_s']['table']:.1f} s", speed_command),
        ("`search --help`", f"{speed['help_s']['search']:.2f} s", speed_command),
        *_workers(),
    ]
    parts = [
        f"NAS-Bench-201, table v1_0, {speed['cores']} CPU cores, torch {speed['torch'].split('+')[0]}; commands are `python -m ...`.\n\n",
        _table(("what", "figure", "command, result file"), rows),
        "\n**Generated with no label of the target** (256 samples at the default scale 3, accuracies over the *distinct* architectures; "
        "`ranked`: unguided samples made in the same time, ranked by the same predictor, as many kept). "
        "`experiments.transfer`, [transfer_generation.json](experiments/results/transfer_generation.json) has the sweep of S.\n\n",
        _table(
            ("target", "predictor", "source labels", "validity", "distinct", "mean test", "above the space", "max", "ranked mean"),
            [
                (row["dataset"], f"`{row['predictor']}`", _sources(search, row["predictor"], [row["dataset"]]),
                 f"{_pct(row['validity'])} %", f"{_pct(row['distinct'])} %",
                 *(f"{row[key]:{form}}" for key, form in (("mean", ".2f"), ("gain", "+.2f"), ("max", ".2f"), ("ranked_mean", ".2f"))))
                for row in generation if row["scale"] == 3
            ],
        ),
        "\n**Search**, table oracle, protocol T (the reward is mean test accuracy), 30 labels, 20 seeds: mean best, and in brackets the median "
        "number of labels to the optimum where half the seeds find it. `copy-rank` needs no model: all cells by their mean rank "
        "(test accuracy) in the other datasets' tables. `experiments.transfer`, "
        "[transfer_search.json](experiments/results/transfer_search.json).\n\n",
        _table(
            ("method", "source labels", *DATASETS),
            [
                (f"`{method}`", _sources(search, method),
                 *(_best(next(row for row in search if row["method"] == method and row["dataset"] == dataset)) for dataset in DATASETS))
                for method in dict.fromkeys(row["method"] for row in search)
            ],
        ),
        _said_of_copy_rank(search),
        _said_of_guidance(generation),
        _meta_search(),
        _few_labels(),
        _awareness(),
        _own_images(),
        _arena(),
        _spaces(),
        _proxies(),
    ]
    return "".join(parts)


def surrogate() -> str:
    meta = _meta("nasbench201/surrogate.safetensors")
    heads = {"strings": "strings", "canonical_classes": "canonical classes"}
    rows = []
    for held_out, name in heads.items():
        figures = meta["held_out"][held_out]
        for kind, key in (("Kendall tau", "kendall_tau"), ("R²", "r2")):
            cells = [f"{figures['outputs'][f'{d}/val/200'][key]:.3f} / {figures['outputs'][f'{d}/test/200'][key]:.3f}" for d in DATASETS]
            rows.append((f"{kind}, held-out {name} ({figures['architectures']:,} architectures)", *cells))
    return (
        f"Six small networks on features of the graph, learned from {meta['labels']:,} values of the table {meta['table_version']}. "
        "Held out, 200 epochs, validation / test:\n\n"
        + _table(("", *DATASETS), rows)
        + "\nOf the strings held out some share their canonical class with a trained one, of the classes none does. The 12-epoch "
        "figures are in the file's metadata.\n"
    )


def shipped() -> str:
    others = [f"{path.parent.name}/denoiser" for path in sorted(_pretrained().glob("*/denoiser.safetensors"))]
    named = (f"nasbench201/{kind}-{target}" for kind in ("sister-tables", "meta-only") for target in (*DATASETS, "own-images"))
    rows = []
    for name in (*others, *named, "nasbench201/surrogate"):
        meta = _meta(f"{name}.safetensors")
        size = (_pretrained() / f"{name}.safetensors").stat().st_size / 1e6
        rows.append((f"`{name}`", f"{size:.2f} MB", f"{meta['train_seconds']:.0f} s", f"`{meta['command']}`"))
    return (
        "Weights are safetensors with JSON metadata (seed, command, figures) in `diffnag/pretrained`. Seconds as they were measured, on two "
        "cores, at times with other work beside:\n\n" + _table(("file", "size", "trained in", "command"), rows)
        + f"\n`image_encoder.safetensors` comes from `{_meta('image_encoder.safetensors')['command']}` "
        f"({_meta('image_encoder.safetensors')['train_core_seconds']:.0f} core-seconds), `tasks.safetensors`, the image features of the "
        "datasets, from `python -m diffnag.embed_datasets`. Our own measurements are JSON lines whose first line has the command: "
        f"{', '.join(_measured(path) for path in (*TRAINING, *CROSSED))}.\n"
    )


def _measured(path: Path) -> str:
    data = read(path)
    return f"`{path.name}` ({len(data.tasks)} tasks x {len({(m.task, m.arch) for m in data.measurements}) // len(data.tasks)} architectures)"


def _result(name: str) -> dict[str, Any]:
    return json.loads((RESULTS / f"{name}.json").read_text())


def _pretrained() -> Path:
    from diffnag.files import PRETRAINED

    return PRETRAINED


def _meta(name: str) -> dict[str, Any]:
    from safetensors import safe_open

    with safe_open(_pretrained() / name, framework="np") as file:
        return json.loads(file.metadata()["diffnag"])


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    return "".join("| " + " | ".join(row) + " |\n" for row in (head, ["---"] * len(head), *rows))


def _pct(share: float) -> str:
    return f"{100 * share:.1f}"


def _best(row: dict[str, Any]) -> str:
    spread = "" if row["stderr"] is None else f" ± {row['stderr']:.2f}"
    return f"{row['mean_best']:.2f}{spread}" + _median(row)


def _median(row: dict[str, Any]) -> str:
    """Labels to the optimum, in brackets; nothing where fewer than half the searches find it."""
    median = row["median_labels_to_optimum"]
    return "" if median is None else f" ({median:g})"


def _sources(search: Sequence[Any], method: str, datasets: Sequence[str] = DATASETS) -> str:
    """Labels of other datasets behind a method, as the target allows."""
    counts = [row["labels_source"] for row in search if row["method"] == method and row["dataset"] in datasets]
    return f"{min(counts):,}" + (f" to {max(counts):,}" if max(counts) > min(counts) else "")


def _workers() -> list[tuple[str, str, str]]:
    """The time of the most workers as a share of that of one, each method with each storage."""
    found = _result("workers")
    most = max(row["workers"] for row in found["rows"])
    rows = [row for row in found["rows"] if row["workers"] == most]
    told = (f"{row['share_of_one_worker']:.2f} ({row['method']}, {row['storage']})" for row in rows)
    head = f"wall time of {most} workers against one, {found['labels']} labels of an oracle of {found['oracle_seconds']:g} s"
    return [(head, ", ".join(told), "`experiments.workers`, [workers.json](experiments/results/workers.json)")]


def _meta_search() -> str:
    """Of all training and search seeds."""
    rows = _result("meta_search")["rows"]
    found = {(row["method"], row["dataset"]): row for row in rows}
    methods = list(dict.fromkeys(row["method"] for row in rows))

    def cell(method: str, dataset: str) -> str:
        row = found[method, dataset]
        return " / ".join(f"{row['mean_best_at'][str(at)]:.2f}" for at in (10, 20, 40)) + _median(row)

    return (
        "\n**The same from five trainings of each prior**, ten searches each (`gp`, from scratch, a hundred; `copy-rank` one): mean best after "
        "10 / 20 / 40 labels, in brackets the median number of labels to the optimum (DiffusionNAG's authors tell 1 and 2 for CIFAR-10 and "
        "CIFAR-100). `experiments.meta_search`, "
        "[meta_search.json](experiments/results/meta_search.json).\n\n"
        + _table(("method", *DATASETS), [(f"`{method}`", *(cell(method, dataset) for dataset in DATASETS)) for method in methods])
    )


def _said_of_copy_rank(search: Sequence[Any]) -> str:
    best = {(row["method"], row["dataset"]): row["mean_best"] for row in search}
    ahead = [dataset for dataset in DATASETS if best["copy-rank", dataset] > best["meta", dataset] + 0.005]
    return f"\n`copy-rank` stays ahead of `meta` on {', '.join(ahead)}.\n" if ahead else ""


def _said_of_guidance(generation: Sequence[Any]) -> str:
    taus = [row["tau_all_cells"] for row in generation if row["predictor"] == "meta-only" and row["scale"] == 3]
    behind = [f"`{row['predictor']}` on {row['dataset']}" for row in generation if row["scale"] == 3 and row["mean"] < row["ranked_mean"]]
    text = f"\nKendall tau of `meta-only` over all 15,625 cells, with no label of the target: {min(taus):.2f} to {max(taus):.2f}.\n"
    return text + (f"Ranking unguided samples beats guidance, in the same time, for {', '.join(behind)}.\n" if behind else "")


def _few_labels() -> str:
    rows = [row for row in _result("few_labels")["rows"] if (row["dataset"], row["split"]) == ("cifar10", "test")]
    counts = sorted({row["labels_target"] for row in rows if row["labels_target"]})
    tau = {(row["method"], row["labels_target"]): row["tau"] for row in rows}
    names = {"gp": "none", "gp+proxies": "none", "random-forest": "none", "mlp": "none", "meta+adaptation": "sister-tables",
             "copied-ranks+adaptation": "sister-tables"}  # fmt: skip
    return (
        "\n**From few labels**: Kendall tau over all cells, CIFAR-10 test accuracy, labels drawn at random. `gp` is a predictor of the "
        "package, `meta+adaptation` the same process on the scores of `meta`. `experiments.few_labels`, "
        "[few_labels.json](experiments/results/few_labels.json) has the other datasets and calibration.\n\n"
        + _table(
            ("predictor", "sources", *(f"{m} labels" for m in counts)),
            [(f"`{name}`", source, *(f"{tau[name, m]:.3f}" for m in counts)) for name, source in names.items() if (name, counts[0]) in tau],
        )
    )


def _awareness() -> str:
    analysis, result = _result("meta_dataset_analysis"), _result("dataset_awareness")["content"]["awareness"]
    share = analysis["variance_share"]
    meaning = {"a": "no task input", "b": "descriptors", "c": "and images", "d": "another task's"}

    def interval(found: Any) -> str:
        return f"{found['mean']:+.3f} ({found['low']:+.3f} to {found['high']:+.3f})"

    return (
        f"\n**Does it know the dataset?** Trained on {result['training_labels']:,} measurements of {result['training_tasks']} tasks, asked to rank "
        f"{result['architectures']} architectures on {result['tasks']} tasks of classes and sources never seen, five training seeds. Of the variance "
        f"within a task {100 * share['architecture']:.0f} % is the architecture's, {100 * share['interaction']:.0f} % that of architecture "
        f"and task together, {100 * share['seed']:.0f} % the seed's (a label is the mean of {analysis['seeds_per_label']} "
        f"trainings, {analysis['core_seconds_per_label']:.1f} core-seconds; median tau of two labels {analysis['seed_tau_median']:.2f}). "
        "`experiments.dataset_awareness`, "
        "[dataset_awareness.json](experiments/results/dataset_awareness.json).\n\n"
        + _table(
            ("told of the task", "Kendall tau", "regret of the top pick", "of the best of 5", "tau of (c) above it, 95 % interval"),
            [
                (f"({row['name']}) {meaning[row['name']]}", f"{row['tau']['mean']:.3f}", f"{row['regret of the top pick']['mean']:.2f}",
                 f"{row['regret of the best of 5']['mean']:.2f}",
                 next((interval(d["tau"]) for d in result["differences"] if d["pair"] == f"c - {row['name']}"), ""))
                for row in result["rows"]
            ],
        )
        + "".join(
            f"\nThe interval of {difference['pair']} includes 0: on these tasks that gain is not established.\n"
            for difference in result["differences"] if difference["tau"]["low"] <= 0
        )
    )


def _own_images() -> str:
    found = _result("own_images")
    digits, photos = found["digits"], found["photos"]
    accuracy, wall, cpu = ([row[key] for row in digits] for key in ("test_accuracy", "wall_s", "cpu_s"))
    text = (
        f"\n**One's own images**: `search --dataset digits --predictor meta`, final training included, {len(digits)} seeds: test accuracy "
        f"{_pct(min(accuracy))} to {_pct(max(accuracy))} %, {min(cpu):.0f} to {max(cpu):.0f} core-seconds ({min(wall):.0f} to {max(wall):.0f} s "
        "beside other work). "
    )
    if photos:
        names = {"diffnag": "the search", "random": "random search of equal cost", "ResNet-like": "the ResNet-like cell"}
        told = ", ".join(f"{names[name]} {_pct(_mean(photos, name))}" for name in names)
        seeds = "one seed" if len(photos) == 1 else f"mean of {len(photos)} seeds"
        text += f"Five classes of CIFAR-10 as a folder of photos, 300 a class, `--compare`, test accuracy in %, {seeds}: {told}. "
    return text + "`experiments.own_images`, [own_images.json](experiments/results/own_images.json).\n"


def _mean(photos: Sequence[Any], name: str) -> float:
    rows = [row for photo in photos for row in photo["compare"] if row["name"] == name]
    return float(sum(row["test_accuracy"] for row in rows) / len(rows))


def _arena() -> str:
    """Of the arena what is under protocol T with the labels to the optimum, and under V after the most labels."""
    rows = {(row["benchmark"], row["protocol"], row["method"]): row for row in _result("bo_benchmark")["rows"]}
    places = list(dict.fromkeys((benchmark, protocol) for benchmark, protocol, _ in rows))
    methods = list(dict.fromkeys(method for *_, method in rows))

    def cell(method: str, place: tuple[str, str]) -> str:
        row = rows.get((*place, method))
        if row is None:
            return ""
        best = f"{row['mean_best_at']['64']:.2f} / {row['mean_best_at']['192']:.2f}"
        return best + _median(row) + ("" if row["seeds"] == 100 else f", {row['seeds']} seeds")

    return (
        "\n**The arena**: every method in the same loop from scratch, `diffnag` with predictor `gp` and no source labels. Mean best after "
        "64 / 192 labels, 100 seeds where not said; in brackets the median number of labels to the optimum where half the searches "
        "find it. T rewards mean test accuracy (TransNAS-Bench: test score), V validation. `experiments.bo_benchmark`, "
        "[bo_benchmark.md](experiments/results/bo_benchmark.md) has the curves, spreads and paired tests.\n\n"
        + _table(("benchmark", *(f"`{method}`" for method in methods)),
                 [(f"{benchmark}, {protocol}", *(cell(method, (benchmark, protocol)) for method in methods)) for benchmark, protocol in places])
    )  # fmt: skip


def _spaces() -> str:
    rows = []
    for path in sorted(_pretrained().glob("*/denoiser.safetensors")):
        meta = _meta(f"{path.parent.name}/{path.name}")
        if figures := next((value for key, value in meta.items() if key.startswith("figures_1024")), None):
            shares = [f"{_pct(figures[key])} %" for key in ("validity", "uniqueness", "novelty")]
            rows.append((f"`{path.parent.name}`", f"{path.stat().st_size / 1e6:.2f} MB", *shares))
    return (
        "\n**The shipped score networks**, 1,024 samples of 20 evaluations, as their training told at its end:\n\n"
        + _table(("space", "size", "raw validity", "uniqueness", "novelty"), rows)
    ) + _wiring() + _generators() + _ablations() + _onnx()


def _wiring() -> str:
    """Samples of the space whose wiring varies."""
    samples = _result("generation_quality")["spaces"]["nasbench101"]["samples"]
    ours, floor, alone = (samples[name] for name in ("dpmpp, 20 evaluations", "random draws", "independent entries"))
    return (
        f"\n**Where the wiring varies**: of NAS-Bench-101 {_pct(ours['validity'])} % of 1,024 samples are valid, {_pct(ours['uniqueness'])} % "
        f"unique, {_pct(ours['novelty'])} % novel ({_pct(floor['novelty'])} % of random draws would be); the distance from the space "
        f"(Wasserstein) is {ours['wasserstein_edges']:.3f} in edges and {ours['wasserstein_depth']:.3f} in depth, of as many random draws "
        f"{floor['wasserstein_edges']:.3f} and {floor['wasserstein_depth']:.3f}; of entries drawn independently {_pct(alone['validity'])} % "
        "are valid. `experiments.generation_quality` has all spaces, samplers and ablations.\n"
    )


SEARCHED_FOR = {
    "nasbench101": "`nasbench101`: test accuracy (table oracle, protocol T), 150 labels, predictor `mlp`",
    "mobilenetv3": "`mobilenetv3`: the training-free score `naswot` of networks of at most 5 M parameters, 100 labels, predictor `gp`",
}


def _generators() -> str:
    """Searches by where their candidates come from."""
    found = {(row["space"], row["row"]): row for row in _result("generators")["rows"]}
    spaces, sources = (list(dict.fromkeys(key[k] for key in found)) for k in (0, 1))

    def cell(space: str, source: str) -> str:
        row = found.get((space, source))
        return f"{row['mean_best']:.2f} ± {row['stderr']:.2f} ({row['seeds']})" if row else ""

    return (
        "\n**Where the candidates come from**: one loop, one predictor; mean best, and in brackets the seeds. "
        f"{'; '.join(SEARCHED_FOR[space] for space in spaces)}. `evolution` and `random` have no predictor. `experiments.generators`, "
        "[generators.json](experiments/results/generators.json).\n\n"
        + _table(("", *spaces), [(f"`{source}`", *(cell(space, source) for space in spaces)) for source in sources])
    )


def _ablations() -> str:
    """Of all spaces for which they are measured."""
    found = {name: space["ablations"] for name, space in _result("generation_quality")["spaces"].items() if space.get("ablations")}
    names = list(dict.fromkeys(name for rows in found.values() for name in rows))
    return (
        "\n**Parts left out**: raw validity in %, mean of three trainings of 1,500 steps, otherwise as the shipped networks were trained.\n\n"
        + _table(("", *found), [(name, *(_pct(rows[name]["validity"]) if name in rows else "" for rows in found.values())) for name in names])
    )


def _onnx() -> str:
    found = _result("onnx_export")["largest"]
    worst = max(found, key=lambda name: found[name]["difference"])
    (count,) = {row["architectures"] for row in found.values()}
    return (
        f"\nExported to ONNX, {count} random architectures of each of the {len(found)} spaces at full width and depth: logits differ from "
        f"torch's by at most {found[worst]['difference']:.0e} (`{worst}`). `experiments.onnx_export`, "
        "[onnx_export.json](experiments/results/onnx_export.json).\n"
    )


def _proxies() -> str:
    found = {(row["predictor"], row["space"], row["dataset"]): row for row in _result("proxies")["ranking"]}
    names = list(dict.fromkeys(name for name, *_ in found))
    trans = (("transnasbench101-micro", "class_scene"), ("transnasbench101-macro", "class_scene"))
    places = (("nasbench201", "cifar10"), ("nasbench101", "cifar10"), *trans)
    rows = []
    for name in names:
        published = found[name, *places[0]].get("spearman_with_published")
        ranks = (f"{found[name, *place]['spearman_with_test']:.2f}" for place in places)
        rows.append((f"`{name}`", f"{found[name, *places[0]]['ms']:.2g} ms", *ranks, "" if published is None else f"{published:.2f}"))
    return (
        "\n**Training-free proxies** are predictors too (`--predictor zen`), and the scores oracles (`--oracle zen`), in every space: "
        "computed on the untrained network, no label "
        "needed. Time for one architecture on NAS-Bench-201, Spearman correlation with test accuracy over random architectures, and with the "
        "column of the same name in the NAS-Bench-201 table. `experiments.proxies`, [proxies.json](experiments/results/proxies.json) has the "
        "other tasks.\n\n"
        + _table(("predictor", "time", *(f"{space}, {dataset}" for space, dataset in places), "published column"), rows)
    )


if __name__ == "__main__":
    main()
