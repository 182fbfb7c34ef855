"""Does the predictor know the dataset? Ranking on tasks of classes and sources that it has never seen.

    python -m experiments.dataset_awareness [--only losses|awareness]

`losses`: five-fold cross-validation over the training tasks, Kendall tau within a task of nine architectures, of networks
trained with each loss and of the Gaussian process, by what is seen of a task; `predictors` use what was best. `awareness`:
the process, with five seeds (a random nine tenths of the training tasks each, and the labels that hyper-parameters are
sought on), asked about the crossed tasks (the same 40 architectures each): (a) trained with no task input, (b) with
descriptors, (c) with images too, (d) the processes of (c), told of other sources' tasks instead (the mean of the figures
over them). Regret is the accuracy lost by the pick, in points. Intervals: 95 %, bootstrap over sources and tasks within
them, of the mean over seeds.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import Any

import numpy as np

from experiments.shared.common import read_result, use_reference_data, write_result

SEEDS, FOLDS, BOOTSTRAP = 5, 5, 10_000
KNOWS = {"a": "nothing", "b": "descriptors", "c": "images"}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", choices=("losses", "awareness"))
    args = parser.parse_args()
    use_reference_data()
    import torch

    torch.set_num_threads(1)
    content = read_result("dataset_awareness").get("content", {})
    if args.only != "awareness":
        content["losses"] = losses()
    if args.only != "losses":
        content["awareness"] = awareness()
    write_result("dataset_awareness", content=content)


def losses() -> list[dict[str, Any]]:
    """Networks trained on the labels themselves with each loss, and the process, on tasks left out."""
    from diffnag.predictors.meta.training import LOSSES

    sources, features = _training_part()
    fold = np.random.default_rng(0).permutation(len(sources)) % FOLDS
    rows = []
    for model in ("process", *LOSSES):
        for knows in KNOWS.values():
            taus = np.full(len(sources), np.nan)
            for k in range(FOLDS):
                score = _trained([s for s, f in zip(sources, fold, strict=True) if f != k], features, knows=knows, model=model, seed=k)
                for i in np.flatnonzero(fold == k):
                    taus[i] = _tau(score(sources[i].task, features(sources[i].archs)), sources[i].values)
            rows.append({"model": model, "knows": knows, "tau": float(np.nanmean(taus)), "stderr": float(np.nanstd(taus) / len(taus) ** 0.5)})
            print(rows[-1], flush=True)
    return rows


def awareness() -> dict[str, Any]:
    sources, features = _training_part()
    tasks = _crossed()
    archs = features(tasks[0]["archs"])
    figures: dict[str, np.ndarray] = {name: np.zeros((SEEDS, len(tasks), 3)) for name in "abcd"}
    for seed in range(SEEDS):
        for name, knows in KNOWS.items():
            score = _trained(sources, features, knows=knows, model="process", seed=seed)
            for i, task in enumerate(tasks):
                figures[name][seed, i] = _figures(score(task["task"], archs), task["accuracy"])
                if name == "c":
                    others = [other["task"] for other in tasks if other["source"] != task["source"]]
                    figures["d"][seed, i] = np.mean([_figures(score(t, archs), task["accuracy"]) for t in others], axis=0)
        print(seed, {name: np.round(values[seed].mean(0), 3).tolist() for name, values in figures.items()}, flush=True)
    groups = [task["source"] for task in tasks]
    measures = ("tau", "regret of the top pick", "regret of the best of 5")
    return {
        "training_tasks": len(sources), "training_labels": sum(len(s.values) for s in sources), "seeds": SEEDS,
        "tasks": len(tasks), "architectures": len(archs),
        "rows": [
            {"name": name, **{m: _interval(values[:, :, k].mean(0), groups) for k, m in enumerate(measures)}}
            for name, values in figures.items()
        ],
        "differences": [
            {"pair": f"c - {name}", **{m: _interval((figures["c"] - figures[name])[:, :, k].mean(0), groups) for k, m in enumerate(measures)}}
            for name in "abd"
        ],
        "tau_c_minus_per_source": {
            name: {
                source: round(float((figures["c"] - figures[name])[:, np.array(groups) == source, 0].mean()), 4)
                for source in sorted(set(groups))
            } for name in "abd"
        },
    }  # fmt: skip


def _interval(values: np.ndarray, groups: list[str]) -> dict[str, float]:
    """Mean of `values (tasks,)` and its 95 % interval: sources drawn anew, and tasks within each."""
    rng = np.random.default_rng(0)
    members = [np.flatnonzero(np.array(groups) == group) for group in sorted(set(groups))]
    means = []
    for _ in range(BOOTSTRAP):
        drawn = rng.integers(len(members), size=len(members))
        means.append(np.mean([values[rng.choice(members[k], len(members[k]))].mean() for k in drawn]))
    low, high = np.quantile(means, [0.025, 0.975])
    return {"mean": float(np.mean([values[m].mean() for m in members])), "low": float(low), "high": float(high)}


def _training_part() -> tuple[list[Any], Any]:
    from diffnag import load_space
    from diffnag.datasets.sources import OWN_IMAGES, own_measurements
    from diffnag.predictors.meta.predictor import architecture_features

    space = load_space("nasbench201")
    return own_measurements(space, OWN_IMAGES), architecture_features(space)


def _crossed() -> list[dict[str, Any]]:
    """The crossed tasks: accuracies are means over seeds where there are two."""
    from diffnag import load_space
    from diffnag.datasets.drawn_tasks import task_images
    from diffnag.datasets.meta_dataset import CROSSED, read_together
    from diffnag.datasets.tasks import task_from_images

    space, data = load_space("nasbench201"), read_together(CROSSED)
    names = list(dict.fromkeys(m.arch for m in data.measurements))
    tasks = []
    for number, spec in data.tasks.items():
        values: dict[str, list[float]] = {name: [] for name in names}
        for m in data.measurements:
            if m.task == number and m.accuracy is not None:
                values[m.arch].append(m.accuracy)
        if not all(values.values()):
            continue
        images = task_images(spec)
        tasks.append({
            "source": spec.source, "spec": spec, "task": task_from_images(images.x_train, images.y_train),
            "archs": [space.from_str(name) for name in names], "accuracy": np.array([np.mean(v) for v in values.values()]),
        })  # fmt: skip
    return tasks


def _trained(sources: list[Any], features: Any, *, knows: str, model: str, seed: int) -> Callable[[Any, Any], np.ndarray]:
    """Scores `(m,)` of architectures' features on a task: of the process on a random nine tenths of the sources, or of a network."""
    import torch

    from diffnag.datasets.sources import FIDELITIES
    from diffnag.predictors.meta.network import CleanNetwork, MetaConfig
    from diffnag.predictors.meta.training import Schedule, own_process, train_clean

    torch.manual_seed(seed)
    net = CleanNetwork(features(sources[0].archs[:1]).shape[1], MetaConfig(knows=knows, hidden=64))
    if model == "process":
        kept = np.random.default_rng(seed).permutation(len(sources))[: round(0.9 * len(sources))]
        process = own_process(net, [sources[k] for k in sorted(kept)], features, seed=seed, report=lambda *_: None)
        return lambda task, archs: process.predict(archs, net.task.inputs(task))
    train_clean(net, sources, features, Schedule(300, learning_rate=1e-3), loss=model, seed=seed, report=lambda *_: None)

    def score(task: Any, archs: Any) -> np.ndarray:
        with torch.no_grad():
            embedding = net.task(net.task.inputs(task)[None], torch.tensor([FIDELITIES.index("small")]))
            return net.value(net(archs, embedding.expand(len(archs), -1)))[:, 0].numpy()

    return score


def _figures(scores: np.ndarray, accuracy: np.ndarray) -> tuple[float, float, float]:
    order = np.argsort(-scores, kind="stable")
    best = accuracy.max()
    return _tau(scores, accuracy), float(best - accuracy[order[0]]), float(best - accuracy[order[:5]].max())


def _tau(scores: np.ndarray, values: np.ndarray) -> float:
    from scipy.stats import kendalltau

    return float(kendalltau(scores, values)[0])


if __name__ == "__main__":
    main()
