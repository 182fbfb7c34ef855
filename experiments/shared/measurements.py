"""The page of all measurements, from the result files and the metadata of the shipped weights; `experiments.pages` writes it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from diffnag.io.files import PRETRAINED
from experiments.shared.arena_results import figure
from experiments.shared.common import DATASETS
from experiments.shared.results import read_result


def document() -> str:
    sections = (
        _generation, _search, _meta_search, _arena, _arena_ablations, _noise, _generators, _few_labels, _scale_features, _awareness, _own_images,
        _spaces, _ablations, _onnx, _accelerator, _surrogate, _proxies,
    )  # fmt: skip
    return (
        "# Measurements\n\nWritten by `python -m experiments.pages` from the result files it names; commands are `python -m ...`. The tables of "
        "NAS-Bench-201 are v1_0 where nothing else is said. Words are those of the [README](../README.md#words).\n"
        + "".join(section() for section in sections)
    )


def source(command: str, name: str, folder: str = "../experiments/results") -> str:
    """What made a figure, and the file it stands in."""
    return f"`experiments.{command}`, [{name}]({folder}/{name})"


def weights(name: str) -> dict[str, Any]:
    """Metadata of shipped weights."""
    from safetensors import safe_open

    with safe_open(PRETRAINED / name, framework="np") as file:
        return json.loads(file.metadata()["diffnag"])


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    return "".join("| " + " | ".join(row) + " |\n" for row in (head, ["---"] * len(head), *rows))


def percent(share: float) -> str:
    return f"{100 * share:.1f}"


def median(row: dict[str, Any]) -> str:
    """Labels to the optimum, in brackets; nothing where fewer than half the searches find it."""
    labels = row["median_labels_to_optimum"]
    return "" if labels is None else f" ({labels:g})"


def _generation() -> str:
    generation, search = read_result("transfer_generation")["rows"], read_result("transfer_search")["rows"]
    return (
        "\n## Generated with no label of the target\n\n256 samples at the default scale 3, accuracies over the *distinct* architectures; "
        "`ranked`: unguided samples made in the same time, ranked by the same predictor, as many kept. "
        f"{source('transfer_generation', 'transfer_generation.json')} has the sweep of S.\n\n"
        + table(
            ("target", "predictor", "source labels", "validity", "distinct", "mean test", "above the space", "max", "ranked mean"),
            [
                (row["dataset"], f"`{row['predictor']}`", _sources(search, row["predictor"], [row["dataset"]]),
                 f"{percent(row['validity'])} %", f"{percent(row['distinct'])} %",
                 *(f"{row[key]:{form}}" for key, form in (("mean", ".2f"), ("gain", "+.2f"), ("max", ".2f"), ("ranked_mean", ".2f"))))
                for row in generation if row["scale"] == 3
            ],
        )
        + _said_of_guidance(generation)
    )  # fmt: skip


def _search() -> str:
    search = read_result("transfer_search")["rows"]
    return (
        "\n## Search with labels of other datasets\n\nTable oracle, protocol T (the reward is mean test accuracy), 30 labels, 20 seeds: mean "
        "best, and in brackets the median number of labels to the optimum where half the seeds find it. `copy-rank` needs no model: all "
        f"cells by their mean rank (test accuracy) in the other datasets' tables. {source('transfer_search', 'transfer_search.json')}.\n\n"
        + table(
            ("method", "source labels", *DATASETS),
            [
                (f"`{method}`", _sources(search, method),
                 *(_best(next(row for row in search if row["method"] == method and row["dataset"] == dataset)) for dataset in DATASETS))
                for method in dict.fromkeys(row["method"] for row in search)
            ],
        )
        + _said_of_copy_rank(search)
    )  # fmt: skip


def _best(row: dict[str, Any]) -> str:
    spread = "" if row["stderr"] is None else f" ± {row['stderr']:.2f}"
    return f"{row['mean_best']:.2f}{spread}" + median(row)


def _sources(search: Sequence[Any], method: str, datasets: Sequence[str] = DATASETS) -> str:
    """Labels of other datasets behind a method, as the target allows."""
    counts = [row["labels_source"] for row in search if row["method"] == method and row["dataset"] in datasets]
    return _span(counts)


def _span(counts: Sequence[int]) -> str:
    """The least to the most, or the one that all are."""
    return " to ".join(f"{count:,}" for count in sorted({min(counts), max(counts)}))


def _said_of_guidance(generation: Sequence[Any]) -> str:
    taus = [row["tau_all_cells"] for row in generation if row["predictor"] == "meta-only" and row["scale"] == 3]
    behind = [f"`{row['predictor']}` on {row['dataset']}" for row in generation if row["scale"] == 3 and row["mean"] < row["ranked_mean"]]
    text = f"\nKendall tau of `meta-only` over all 15,625 cells, with no label of the target: {min(taus):.2f} to {max(taus):.2f}.\n"
    return text + (f"Ranking unguided samples beats guidance, in the same time, for {', '.join(behind)}.\n" if behind else "")


def _said_of_copy_rank(search: Sequence[Any]) -> str:
    best = {(row["method"], row["dataset"]): row["mean_best"] for row in search}
    ahead = [dataset for dataset in DATASETS if best["copy-rank", dataset] > best["meta", dataset] + 0.005]
    return f"\n`copy-rank` stays ahead of `meta` on {', '.join(ahead)}.\n" if ahead else ""


def _meta_search() -> str:
    """Of all training and search seeds."""
    rows = read_result("meta_search")["rows"]
    found = {(row["method"], row["dataset"]): row for row in rows}
    methods = list(dict.fromkeys(row["method"] for row in rows))

    def cell(method: str, dataset: str) -> str:
        row = found[method, dataset]
        return " / ".join(f"{row['mean_best_at'][str(at)]:.2f}" for at in (10, 20, 40)) + median(row)

    return (
        "\nFrom five trainings of each prior, ten searches each (`gp`, from scratch, a hundred; `copy-rank` one): mean best after "
        "10 / 20 / 40 labels, in brackets the median number of labels to the optimum (DiffusionNAG's authors tell 1 and 2 for CIFAR-10 and "
        f"CIFAR-100). {source('meta_search', 'meta_search.json')}.\n\n"
        + table(("method", *DATASETS), [(f"`{method}`", *(cell(method, dataset) for dataset in DATASETS)) for method in methods])
    )


def _arena() -> str:
    """Of each method on each benchmark the mean best, and the labels to the optimum."""
    arena = read_result("arena")
    rows = {(row["benchmark"], row["protocol"], row["method"]): row for row in arena["rows"]}
    places = list(dict.fromkeys((benchmark, protocol) for benchmark, protocol, _ in rows))
    methods = list(dict.fromkeys(method for *_, method in rows))

    def cell(method: str, place: tuple[str, str]) -> str:
        row = rows.get((*place, method))
        if row is None:
            return ""
        best = " / ".join(figure(row["mean_best_at"][at], row["optimum"]) for at in ("64", "192"))
        return best + median(row) + ("" if row["seeds"] == 100 else f", {row['seeds']} seeds")

    return (
        "\n## The arena\n\nEvery method in the same loop from scratch, `diffnag` with predictor `gp` and no source labels. Mean best after "
        "64 / 192 labels, 100 seeds where not said; in brackets the median number of labels to the optimum where half the searches "
        "find it. T rewards mean test accuracy (TransNAS-Bench: test score), V validation. "
        f"{source('arena', 'arena.md')} has the curves, spreads and paired tests. All of it took {arena['core_hours']:.1f} "
        f"core-hours, the variations below {read_result('arena_ablations')['core_hours']:.1f}.\n\n"
        + table(("benchmark", *(f"`{method}`" for method in methods)),
                 [(f"{benchmark}, {protocol}", *(cell(method, (benchmark, protocol)) for method in methods)) for benchmark, protocol in places])
    )  # fmt: skip


def _noise() -> str:
    found = read_result("table_noise")
    at = found["labels"]

    def row(task: dict[str, Any]) -> tuple[str, ...]:
        figures = (figure(task[key], task["best"]) for key in ("std_within", "std_learnt", "best", "ceiling_at_50"))
        return (f"{task['space']}/{task['task']}", *figures, " / ".join(str(rank) for rank in task["rank_of_best"].values()))

    return (
        "\n## What is chance in the tables\n\nMembers of a canonical class compute the same, were trained apart, and a search pays for one of them: "
        "how they differ is the draw of the training. Ceiling: mean best validation value of "
        f"{at} labels of one who knows the means of all classes, or of {found['fitted']:,} where there are more, and asks the process of "
        "`gp` for the best of all; above it is luck. Place: of the class of the table's best value, among the means of all classes, for "
        "validation and test; where it is far down, what is counted as the optimum is a lucky training, and to find it is luck too. "
        f"{source('table_noise', 'table_noise.json')}.\n\n"
        + table(
            ("", "std within classes", "std of all", "best of the table", f"ceiling at {at}", "place of the best"),
            [row(task) for task in found["rows"]],
        )
    )


def _arena_ablations() -> str:
    """Of the arena's variations what is under protocol T."""
    rows = {(row["benchmark"], row["method"]): row for row in read_result("arena_ablations")["rows"] if row["protocol"] == "T"}
    benchmarks, methods = (list(dict.fromkeys(key[k] for key in rows)) for k in (0, 1))

    def cell(row: dict[str, Any] | None) -> str:
        return f"{row['mean_best_at']['25']:.2f} / {row['mean_best_at']['64']:.2f}{median(row)}" if row else ""

    def labels_source(method: str) -> str:
        return _span([rows[benchmark, method]["labels_source"] for benchmark in benchmarks if (benchmark, method) in rows])

    return (
        "\n## Parts of the loop left out or exchanged\n\nVariations of `diffnag` in the arena, each with one part changed, protocol T, "
        f"{_span([row['seeds'] for row in rows.values()])} seeds: mean best after 25 / 64 labels, in brackets the median number "
        "of labels to the optimum where half the searches find it. "
        f"{source('arena --ablations', 'arena_ablations.md')} has the spreads and paired tests.\n\n"
        + table(
            ("variation", *benchmarks, "source labels"),
            [(method, *(cell(rows.get((benchmark, method))) for benchmark in benchmarks), labels_source(method)) for method in methods],
        )
    )


SEARCHED_FOR = {
    "nasbench101": "`nasbench101`: test accuracy (table oracle, protocol T), 150 labels, predictor `mlp`",
    "mobilenetv3": "`mobilenetv3`: the training-free score `naswot` of networks of at most 5 M parameters, 100 labels, predictor `gp`",
}


def _generators() -> str:
    """Searches by where their candidates come from."""
    found = {(row["space"], row["row"]): row for row in read_result("candidate_sources")["rows"]}
    spaces, names = (list(dict.fromkeys(key[k] for key in found)) for k in (0, 1))

    def cell(space: str, name: str) -> str:
        row = found.get((space, name))
        return f"{row['mean_best']:.2f} ± {row['stderr']:.2f} ({row['seeds']})" if row else ""

    return (
        "\n## Where the candidates come from\n\nOne loop, one predictor; mean best, and in brackets the seeds. "
        f"{'; '.join(SEARCHED_FOR[space] for space in spaces)}. `evolution` and `random` have no predictor. "
        f"{source('candidate_sources', 'candidate_sources.json')}.\n\n"
        + table(("", *spaces), [(f"`{name}`", *(cell(space, name) for space in spaces)) for name in names])
    )


def _few_labels() -> str:
    rows = [row for row in read_result("few_labels")["rows"] if (row["dataset"], row["split"]) == ("cifar10", "test")]
    counts = sorted({row["labels_target"] for row in rows if row["labels_target"]})
    tau = {(row["method"], row["labels_target"]): row["tau"] for row in rows}
    names = {"gp": "none", "gp+proxies": "none", "random-forest": "none", "mlp": "none", "meta+adaptation": "sister-tables",
             "copied-ranks+adaptation": "sister-tables"}  # fmt: skip
    return (
        "\n## From few labels\n\nKendall tau over all cells, CIFAR-10 test accuracy, labels drawn at random. `gp` is a predictor of the "
        "package, `meta+adaptation` the same process on the scores of `meta`. "
        f"{source('few_labels', 'few_labels.json')} has the other datasets and calibration.\n\n"
        + table(
            ("predictor", "sources", *(f"{m} labels" for m in counts)),
            [(f"`{name}`", learned_from, *(f"{tau[name, m]:.3f}" for m in counts)) for name, learned_from in names.items()],
        )
    )


def _scale_features() -> str:
    found = read_result("scale_features")
    rows = {(row["task"], row["groups"]): row["tau"] for row in found["rows"]}
    tasks, groups = (list(dict.fromkeys(key[k] for key in rows)) for k in (0, 1))
    labels = list(found["rows"][0]["tau"])
    return (
        "\n## Features of how wide and how small\n\nNetworks of `transnasbench101-macro` choose where channels double and maps halve, and "
        "the process of `gp` sees it in the group `scale` of its features, which spaces of cells do not have. Kendall tau by validation "
        f"value over the best {100 * (1 - found['good']):.0f} % of the networks, after {' / '.join(labels)} labels drawn uniformly, "
        f"{found['seeds']} seeds. {source('scale_features', 'scale_features.json')}.\n\n"
        + table(("groups", *tasks), [(name, *(" / ".join(f"{tau:.2f}" for tau in rows[task, name].values()) for task in tasks)) for name in groups])
    )


def _awareness() -> str:
    analysis, found = read_result("meta_dataset_analysis"), read_result("dataset_awareness")["awareness"]
    share = analysis["variance_share"]
    meaning = {"a": "no task input", "b": "descriptors", "c": "and images", "d": "another task's"}

    def interval(gain: Any) -> str:
        return f"{gain['mean']:+.3f} ({gain['low']:+.3f} to {gain['high']:+.3f})"

    return (
        f"\n## Does it know the dataset?\n\nTrained on {found['training_labels']:,} measurements of {found['training_tasks']} tasks, asked to rank "
        f"{found['architectures']} architectures on {found['tasks']} tasks of classes and sources never seen, five training seeds. Of the variance "
        f"within a task {100 * share['architecture']:.0f} % is the architecture's, {100 * share['interaction']:.0f} % that of architecture "
        f"and task together, {100 * share['seed']:.0f} % the seed's (a label is the mean of {analysis['seeds_per_label']} "
        f"trainings, {analysis['core_seconds_per_label']:.1f} core-seconds; median tau of two labels {analysis['seed_tau_median']:.2f}). "
        f"{source('dataset_awareness', 'dataset_awareness.json')}.\n\n"
        + table(
            ("told of the task", "Kendall tau", "regret of the top pick", "of the best of 5", "tau of (c) above it, 95 % interval"),
            [
                (f"({row['name']}) {meaning[row['name']]}", f"{row['tau']['mean']:.3f}", f"{row['regret of the top pick']['mean']:.2f}",
                 f"{row['regret of the best of 5']['mean']:.2f}",
                 next((interval(d["tau"]) for d in found["differences"] if d["pair"] == f"c - {row['name']}"), ""))
                for row in found["rows"]
            ],
        )
        + "".join(
            f"\nThe interval of {difference['pair']} includes 0: on these tasks that gain is not established.\n"
            for difference in found["differences"] if difference["tau"]["low"] <= 0
        )
    )


def _own_images() -> str:
    found = read_result("own_images")
    digits, photos = found["digits"], found["photos"]
    accuracy, wall, cpu = ([row[key] for row in digits] for key in ("test_accuracy", "wall_s", "cpu_s"))
    text = (
        f"\n## One's own images\n\n`search --dataset digits --predictor meta`, final training included, {len(digits)} seeds: test accuracy "
        f"{percent(min(accuracy))} to {percent(max(accuracy))} %, {min(cpu):.0f} to {max(cpu):.0f} core-seconds "
        f"({min(wall):.0f} to {max(wall):.0f} s beside other work). "
    )
    if photos:
        names = {"diffnag": "the search", "random": "random search of equal cost", "ResNet-like": "the ResNet-like cell"}
        told = ", ".join(f"{names[name]} {percent(_mean(photos, name))}" for name in names)
        seeds = "one seed" if len(photos) == 1 else f"mean of {len(photos)} seeds"
        text += f"Five classes of CIFAR-10 as a folder of photos, 300 a class, `--compare`, test accuracy in %, {seeds}: {told}. "
    return text + f"{source('own_images', 'own_images.json')}.\n"


def _mean(photos: Sequence[Any], name: str) -> float:
    rows = [row for photo in photos for row in photo["compare"] if row["name"] == name]
    return float(sum(row["test_accuracy"] for row in rows) / len(rows))


def _spaces() -> str:
    rows = []
    for path in sorted(PRETRAINED.glob("*/denoiser.safetensors")):
        meta = weights(f"{path.parent.name}/{path.name}")
        if figures := next((value for key, value in meta.items() if key.startswith("figures_1024")), None):
            shares = [f"{percent(figures[key])} %" for key in ("validity", "uniqueness", "novelty")]
            rows.append((f"`{path.parent.name}`", f"{path.stat().st_size / 1e6:.2f} MB", *shares))
    return (
        "\n## The shipped score networks\n\n1,024 samples of 20 evaluations, as their training told at its end:\n\n"
        + table(("space", "size", "raw validity", "uniqueness", "novelty"), rows)
    ) + _wiring()


def _wiring() -> str:
    """Samples of the space whose wiring varies."""
    samples = read_result("generation_quality")["spaces"]["nasbench101"]["samples"]
    ours, floor, alone = (samples[name] for name in ("dpmpp, 20 evaluations", "random draws", "independent entries"))
    return (
        f"\nWhere the wiring varies: of NAS-Bench-101 {percent(ours['validity'])} % of 1,024 samples are valid, {percent(ours['uniqueness'])} % "
        f"unique, {percent(ours['novelty'])} % novel ({percent(floor['novelty'])} % of random draws would be); the distance from the space "
        f"(Wasserstein) is {ours['wasserstein_edges']:.3f} in edges and {ours['wasserstein_depth']:.3f} in depth, of as many random draws "
        f"{floor['wasserstein_edges']:.3f} and {floor['wasserstein_depth']:.3f}; of entries drawn independently {percent(alone['validity'])} % "
        "are valid. `experiments.generation_quality` has all spaces, samplers and ablations.\n"
    )


def _ablations() -> str:
    """Of all spaces for which they are measured."""
    found = {name: space["ablations"] for name, space in read_result("generation_quality")["spaces"].items() if space.get("ablations")}
    names = list(dict.fromkeys(name for rows in found.values() for name in rows))
    return (
        "\n## Parts left out\n\nRaw validity in %, mean of three trainings of 1,500 steps, otherwise as the shipped networks were trained.\n\n"
        + table(("", *found), [(name, *(percent(rows[name]["validity"]) if name in rows else "" for rows in found.values())) for name in names])
    )


def _onnx() -> str:
    found = read_result("onnx_differences")["largest"]
    worst = max(found, key=lambda name: found[name]["difference"])
    (count,) = {row["architectures"] for row in found.values()}
    return (
        f"\n## Export\n\nTo ONNX, {count} random architectures of each of the {len(found)} spaces at full width and depth: logits differ from "
        f"torch's by at most {found[worst]['difference']:.0e} (`{worst}`). {source('onnx_differences', 'onnx_differences.json')}.\n"
    )


def _accelerator() -> str:
    found = read_result("accelerator")
    trained = [
        (f"one epoch of {row['images']:,} images, `{row['space']}`, {row['channels']} channels, {row['cells']} cells a stage; test accuracy "
         f"after {row['epochs']}", *(f"{row[f'{where}_epoch_s']:.2f} s; {row[f'{where}_test']:.1f} %" for where in ("cpu", "accelerator")))
        for row in found["evaluation"]
    ]  # fmt: skip
    steps = [
        (f"one step of a score network, `{row['space']}`, batch {row['batch_size']}",
         *(f"{1000 * row[f'{where}_step_s']:.0f} ms" for where in ("cpu", "accelerator"))) for row in found["training"]
    ]  # fmt: skip
    made = [
        (f"architectures a second, `{row['space']}`, {'unguided' if row['guidance'] == 'none' else 'guided by ' + row['guidance']}",
         *(f"{row[f'{where}_archs_per_s']:,.0f}" for where in ("cpu", "accelerator"))) for row in found["generation"]
    ]  # fmt: skip
    same = min(row["same"] for row in found["generation"])
    return (
        f"\n## On an accelerator\n\n`--device auto` takes one where there is one. From one seed both generate the same: {percent(same)} % of "
        "the samples are equal to the last entry. The networks are small, so what a step costs there is mostly its launch, and predictors "
        "stay on the CPU: it pays where networks are wide or images large. "
        f"{source('accelerator', 'accelerator.json')}.\n\n"
        + table(("", f"{found['made_by']['cores']} CPU cores", found["accelerator"]), [*made, *steps, *trained])
    )


def _surrogate() -> str:
    meta = weights("nasbench201/surrogate.safetensors")
    heads = {"strings": "strings", "canonical_classes": "canonical classes"}
    rows = []
    for held_out, name in heads.items():
        figures = meta["held_out"][held_out]
        for kind, key in (("Kendall tau", "kendall_tau"), ("R²", "r2")):
            cells = [f"{figures['outputs'][f'{d}/val/200'][key]:.3f} / {figures['outputs'][f'{d}/test/200'][key]:.3f}" for d in DATASETS]
            rows.append((f"{kind}, held-out {name} ({figures['architectures']:,} architectures)", *cells))
    return (
        "\n## The surrogate\n\nA model of measured accuracies, never a benchmark result: six small networks on features of the graph, "
        f"learned from {meta['labels']:,} values of the table {meta['table_version']}. Held out, 200 epochs, validation / test:\n\n"
        + table(("", *DATASETS), rows)
        + "\nOf the strings held out some share their canonical class with a trained one, of the classes none does. The 12-epoch "
        "figures are in the file's metadata.\n"
    )


def _proxies() -> str:
    found = {(row["predictor"], row["space"], row["dataset"]): row for row in read_result("proxy_quality")["ranking"]}
    names = list(dict.fromkeys(name for name, *_ in found))
    trans = (("transnasbench101-micro", "class_scene"), ("transnasbench101-macro", "class_scene"))
    places = (("nasbench201", "cifar10"), ("nasbench101", "cifar10"), *trans)
    rows = []
    for name in names:
        published = found[name, *places[0]].get("spearman_with_published")
        ranks = (f"{found[name, *place]['spearman_with_test']:.2f}" for place in places)
        rows.append((f"`{name}`", f"{found[name, *places[0]]['ms']:.2g} ms", *ranks, "" if published is None else f"{published:.2f}"))
    return (
        "\n## Training-free proxies\n\nThey are predictors (`--predictor zen`), and the scores oracles (`--oracle zen`), in every space: "
        "computed on the untrained network, no label needed. Time for one architecture on NAS-Bench-201, Spearman correlation with test "
        "accuracy over random architectures, and with the column of the same name in the NAS-Bench-201 table. "
        f"{source('proxy_quality', 'proxy_quality.json')} has the other tasks.\n\n"
        + table(("predictor", "time", *(f"{space}, {dataset}" for space, dataset in places), "published column"), rows)
    )
