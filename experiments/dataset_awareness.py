"""Does the predictor use what it knows of the dataset? It ranks architectures on tasks with new classes and new sources.

    python -m experiments.dataset_awareness [--only losses|awareness|clip]

`losses`: five-fold cross-validation over the training tasks. The figure is Kendall tau within a task of nine architectures, for networks
trained with each loss and for the Gaussian process, with each kind of task input. `predictors/meta` uses the best of these.
`awareness`: the Gaussian process ranks the same 40 architectures on each of the crossed tasks. Each of five seeds trains on a random
nine tenths of the training tasks and draws the labels for the search of hyper-parameters. Rows:
  (a)  no task input
  (b)  descriptors of the task
  (c)  descriptors and images
  (d)  the processes of (c), which are given tasks of other sources instead; figures are means over those tasks
`clip`: the contrastive predictor on the same crossed tasks, each seed a training: Kendall tau with the images and with the images of
other sources, and how often its first choice is among the best tenth.
Regret is the accuracy lost by the choice, in points. Intervals are 95 % bootstrap intervals of the mean over seeds, over sources and
over tasks within sources.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from experiments.shared.common import begin, one_thread, parser
from experiments.shared.results import read_result, record, write_result
from experiments.shared.statistics import interval_over_groups, kendall_tau

SEEDS, FOLDS = 5, 5
KNOWS = {"a": "nothing", "b": "descriptors", "c": "images"}


def main() -> None:
    options = parser(__doc__)
    options.add_argument("--only", choices=("losses", "awareness", "clip"))
    args = options.parse_args()
    begin()
    one_thread()
    content = read_result("dataset_awareness")
    if args.only in (None, "losses"):
        content["losses"] = [record(row) for row in losses()]
    if args.only in (None, "awareness"):
        content["awareness"] = record(awareness())
    if args.only in (None, "clip"):
        content["clip"] = record(clip())
    write_result("dataset_awareness", content)


def losses() -> list[dict[str, Any]]:
    """Rows of networks trained on the labels with each loss, and of the process, on the tasks left out."""
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
                    taus[i] = kendall_tau(score(sources[i].task, features(sources[i].archs)), sources[i].values)
            rows.append({"model": model, "knows": knows, "tau": float(np.nanmean(taus)), "stderr": float(np.nanstd(taus) / len(taus) ** 0.5)})
            print(rows[-1], flush=True)
    return rows


def awareness() -> dict[str, Any]:
    """Figures of (a) to (d) on the crossed tasks, and the gains of (c) over the others."""
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
            {"name": name, **{m: interval_over_groups(values[:, :, k].mean(0), groups) for k, m in enumerate(measures)}}
            for name, values in figures.items()
        ],
        "differences": [
            {
                "pair": f"c - {name}",
                **{m: interval_over_groups((figures["c"] - figures[name])[:, :, k].mean(0), groups) for k, m in enumerate(measures)},
            } for name in "abd"
        ],
        "tau_c_minus_per_source": {
            name: {
                source: round(float((figures["c"] - figures[name])[:, np.array(groups) == source, 0].mean()), 4)
                for source in sorted(set(groups))
            } for name in "abd"
        },
    }  # fmt: skip


def _bound(predictor: Any, task: Any, archs: Any) -> np.ndarray:
    """Scores `(m,)` of a contrastive predictor for a task, without any label."""
    predictor.bind(task)
    return np.asarray(predictor.predict(archs)[0])


TOP = 0.1
"""Share of the architectures that count as the best."""


def clip() -> dict[str, Any]:
    """Figures of the contrastive predictor: Kendall tau, and the share of tasks whose first choice is among the best tenth."""
    from diffnag import load_space
    from diffnag.datasets.sources import OWN_IMAGES, own_measurements
    from diffnag.predictors.clip import ClipPredictor

    space, tasks = load_space("nasbench201"), _crossed()
    sources = own_measurements(space, OWN_IMAGES)
    taus = {name: np.zeros((SEEDS, len(tasks))) for name in ("images", "images of others")}
    found = np.zeros((SEEDS, len(tasks)))
    for seed in range(SEEDS):
        predictor = ClipPredictor()
        predictor.meta_fit(sources, space=space, target=OWN_IMAGES, seed=seed, report=lambda *_: None)
        for i, task in enumerate(tasks):
            accuracy = task["accuracy"]
            own = _bound(predictor, task["task"], task["archs"])
            taus["images"][seed, i] = kendall_tau(own, accuracy)
            others = [other["task"] for other in tasks if other["source"] != task["source"]]
            taus["images of others"][seed, i] = np.mean([kendall_tau(_bound(predictor, other, task["archs"]), accuracy) for other in others])
            found[seed, i] = (accuracy > accuracy[own.argmax()]).sum() < TOP * len(accuracy)
        print(seed, {name: round(float(values[seed].mean()), 3) for name, values in taus.items()}, found[seed].mean(), flush=True)
    groups = [task["source"] for task in tasks]
    return {
        "seeds": SEEDS, "tasks": len(tasks), "architectures": len(tasks[0]["archs"]), "top": TOP,
        "tau": {name: interval_over_groups(values.mean(0), groups) for name, values in taus.items()},
        "first_choice_among_the_best": interval_over_groups(found.mean(0), groups),
    }


def _training_part() -> tuple[list[Any], Any]:
    """The training tasks with their labels, and the function that computes features of architectures."""
    from diffnag import load_space
    from diffnag.datasets.sources import OWN_IMAGES, own_measurements
    from diffnag.predictors.meta.predictor import architecture_features

    space = load_space("nasbench201")
    return own_measurements(space, OWN_IMAGES), architecture_features(space)


def _crossed() -> list[dict[str, Any]]:
    """The crossed tasks; an accuracy is the mean over all trainings of an architecture."""
    from diffnag import load_space
    from diffnag.datasets.drawn_tasks import task_images
    from diffnag.datasets.meta_dataset import CROSSED, read_together
    from diffnag.datasets.tasks import features_of_images

    space, data = load_space("nasbench201"), read_together(CROSSED["nasbench201"])
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
            "source": spec.source, "spec": spec, "task": features_of_images(images.x_train, images.y_train),
            "archs": [space.from_str(name) for name in names], "accuracy": np.array([np.mean(v) for v in values.values()]),
        })  # fmt: skip
    return tasks


def _trained(sources: list[Any], features: Any, *, knows: str, model: str, seed: int) -> Callable[[Any, Any], np.ndarray]:
    """Train a model and return its function (task, features of architectures) -> scores `(m,)`.

    `model` is `process`, which learns from a random nine tenths of the sources, or the loss of a network.
    """
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
    """Kendall tau, regret of the top choice, and regret of the best of the top 5."""
    order = np.argsort(-scores, kind="stable")
    best = accuracy.max()
    return kendall_tau(scores, accuracy), float(best - accuracy[order[0]]), float(best - accuracy[order[:5]].max())


if __name__ == "__main__":
    main()
