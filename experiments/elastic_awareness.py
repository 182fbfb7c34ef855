"""What can knowing the images add to a ranking of the parts of a pretrained network that cost as much as each other?

    python -m experiments.elastic_awareness

The measurements are the package's own, of space `efficientnet-lite`: the same parts on many tasks. The figure is Kendall tau within a task,
over pairs of parts whose multiply-adds differ by less than a factor `NEAR`. A Gaussian process over parts and tasks ranks parts that no
label of its training is of (`FOLDS` folds), for a task whose source no training task is of. Rows:
  params   more parameters are better
  nothing  no task input
  descriptors, images  what the predictor `meta` sees of a task: four descriptors, and with the images the separability of their classes
  frozen   what the pretrained network makes of the images before any training: how well the nearest class mean of its features tells the
           classes apart, at three resolutions, with half of the channels, and with every second block left out
  other    the process of `images`, which is given tasks of other sources instead; figures are means over those tasks
  own labels  no input, but labels of the task itself for the parts in training: an estimate of what there is to know of a task
  same parts  mean score of the very same parts on tasks of other sources
`again` is the label itself from an adaptation of another length, on a task that has both.
Each is made with two kinds of features of parts: `paths` of the predictor `meta`, and `blocks`, which say block by block what is left.
Intervals are 95 % bootstrap intervals of the mean over sources, and over tasks within sources.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from experiments.shared.common import begin, one_thread, parser
from experiments.shared.results import made_by, write_result
from experiments.shared.statistics import interval_over_groups, kendall_tau

if TYPE_CHECKING:
    from torch import Tensor

    from diffnag.arch import Arch
    from diffnag.datasets.drawn_tasks import TaskImages, TaskSpec
    from diffnag.search_spaces.efficientnet_lite.space import EfficientNetLite

NEAR = 1.25
FOLDS = 3
SUBSET = 300
"""Labels to which hyper-parameters are fitted."""
SHORT = 1_000
"""Image passes of an adaptation, at most, that counts as short."""
KNOWS = ("nothing", "descriptors", "images", "frozen")
LOOKED_AT = 200
"""Images that the frozen network is shown."""
LOOKS = (
    "160:3-6_3-6:5-6_5-6:3-6_3-6_3-6:5-6_5-6_5-6:5-6_5-6_5-6_5-6:3-6", "96:3-6_3-6:5-6_5-6:3-6_3-6_3-6:5-6_5-6_5-6:5-6_5-6_5-6_5-6:3-6",
    "224:3-6_3-6:5-6_5-6:3-6_3-6_3-6:5-6_5-6_5-6:5-6_5-6_5-6_5-6:3-6", "160:3-3_3-3:5-3_5-3:3-3_3-3_3-3:5-3_5-3_5-3:5-3_5-3_5-3_5-3:3-3",
    "160:3-6_x:5-6_x:3-6_3-6_x:5-6_5-6_x:5-6_5-6_5-6_x:3-6",
)  # fmt: skip
"""The parts of the frozen network, the whole one first."""


@dataclass(frozen=True)
class Measured:
    """A task with the accuracy of each part on it, by the part's string."""

    spec: TaskSpec
    accuracy: Mapping[str, float]
    inputs: Mapping[str, Tensor]
    """What each of `KNOWS` sees of the task, `(p,)`."""
    long: bool
    """Whether the network was adapted for long."""
    held_out: bool

    @property
    def source(self) -> str:
        """Source of the images."""
        return self.spec.source.partition("_")[0]


def main() -> None:
    parser(__doc__).parse_args()
    begin()
    one_thread()
    from diffnag.datasets.meta_dataset import CROSSED, TRAINING
    from diffnag.search_spaces.efficientnet_lite.space import EfficientNetLite

    space = EfficientNetLite()
    tasks = [*_read(TRAINING[space.name], space, held_out=False), *_read(CROSSED[space.name], space, held_out=True)]
    parts = {text: space.from_str(text) for task in tasks for text in task.accuracy}
    costs = {text: _size(space, arch) for text, arch in parts.items()}
    tested = [task for task in tasks if task.held_out]
    content: dict[str, Any] = {
        "made_by": made_by(), "near": NEAR, "training_tasks": len(tasks) - len(tested), "labels": sum(len(task.accuracy) for task in tasks),
        "tasks": [{"source": task.spec.source, "long": task.long, "parts": len(task.accuracy)} for task in tested],
        "agreement_of_efforts": [
            {"source": task.source, "parts": len(again), "tau": kendall_tau(*_in_common(again, task.accuracy))}
            for task in tested if task.long and (again := _again(task, tested))
        ],
        "features": {},
    }  # fmt: skip
    for name, features in (("blocks", _blocks(space, parts, costs)), ("paths", _paths(space, parts))):
        taus = _ranked(tasks, tested, features, costs)
        content["features"][name] = _summary(taus, [task.source for task in tested])
        print(name, {row: round(float(np.nanmean(values)), 3) for row, values in taus.items()}, flush=True)
        write_result("elastic_awareness", content)


# -- measurements


def _read(paths: Sequence[Path], space: EfficientNetLite, *, held_out: bool) -> list[Measured]:
    """The measured tasks of some files."""
    from diffnag.datasets.drawn_tasks import task_images
    from diffnag.datasets.meta_dataset import read
    from diffnag.datasets.tasks import features_of_images
    from diffnag.predictors.meta.network import CleanNetwork, MetaConfig

    encoder = CleanNetwork(1, MetaConfig()).task
    found = []
    for data in map(read, paths):
        for number, spec in data.tasks.items():
            if accuracy := {m.arch: m.accuracy for m in data.measurements if m.task == number and m.accuracy is not None}:
                images = task_images(spec)
                seen = encoder.inputs(features_of_images(images.x_train, images.y_train))
                inputs = {"nothing": seen[:0], "descriptors": seen[:4], "images": seen, "frozen": _frozen(images, space)}
                found.append(Measured(spec, accuracy, inputs, data.about["effort"]["image_passes"] > SHORT, held_out))
    return found


def _frozen(images: TaskImages, space: Any) -> Tensor:
    """Log odds that the nearest class mean gives the right class, for features of the whole network and the differences of the others to it."""
    import torch

    from diffnag.networks.adapted import as_part, pixel_statistics, pretrained
    from diffnag.networks.elastic import features, rebase, recalibrate, resized

    x, y = as_part(images.x_train, images.y_train, pixel_statistics(space), device="cpu", most=LOOKED_AT)
    network = pretrained(space, classes=2, device="cpu")
    some = resized(x[:64], space.side)
    rebase(network, some)
    space.sort_channels(network, some)
    odds = []
    for text in LOOKS:
        arch = space.from_str(text)
        part = space.inherit(network.eval(), arch).eval()
        if space.resolution(arch) == space.side and text != LOOKS[0]:
            recalibrate(part, some)
        seen = torch.from_numpy(features(part, x, side=space.resolution(arch)))
        odds.append(_odds((seen - seen.mean(0)) / (seen.std(0) + 1e-3), y))
    whole, *others = odds
    return torch.tensor([whole, *(one - whole for one in others)])


def _odds(x: Tensor, y: Tensor) -> float:
    """Log odds that the nearest class mean gives the right class of an image that is left out of its own mean; features `x (n, d)`."""
    import torch

    right = total = 0
    members = [x[y == label] for label in y.unique()]
    means = torch.stack([mine.mean(0) for mine in members])
    for k, mine in enumerate(members):
        if len(mine) > 1:
            apart = torch.cdist(mine, means)
            apart[:, k] = (mine - (len(mine) * means[k] - mine) / (len(mine) - 1)).norm(dim=1)
            right, total = right + int((apart.argmin(1) == k).sum()), total + len(mine)
    return float(np.log((right + 0.5) / (total - right + 0.5)))


def _size(space: EfficientNetLite, arch: Arch) -> tuple[float, float]:
    """Logarithms of parameters and multiply-adds."""
    size = space.size(arch, num_classes=10, image_size=space.resolution(arch))
    return float(np.log(size.params)), float(np.log(size.flops))


def _blocks(space: EfficientNetLite, parts: Mapping[str, Arch], costs: Mapping[str, tuple[float, float]]) -> dict[str, Tensor]:
    """For each part: its resolution in octaves, the share of channels and the kernel of each block, and logarithms of its costs."""
    import torch

    whole = space.member(space.largest)
    found = {}
    for text, arch in parts.items():
        pairs = [(mine, block) for mine, block in zip(space.member(arch), whole, strict=True) if block is not None]
        shares = [0.0 if mine is None else mine.middle / block.middle for mine, block in pairs[1:]]
        kernels = [0.5 * (mine is not None and mine.kernel == 5) for mine, block in pairs if block.kernel == 5]
        found[text] = [2 * np.log2(space.resolution(arch) / space.side), *shares, *kernels, *costs[text]]
    rows = torch.tensor(list(found.values()), dtype=torch.float32)
    return dict(zip(found, rows - rows.mean(0), strict=True))


def _paths(space: EfficientNetLite, parts: Mapping[str, Arch]) -> dict[str, Tensor]:
    """Features of the predictor `meta`."""
    from diffnag.predictors.meta.predictor import architecture_features

    return dict(zip(parts, architecture_features(space)(list(parts.values())), strict=True))


# -- rankings


def _ranked(
    tasks: Sequence[Measured], tested: Sequence[Measured], features: Mapping[str, Tensor], costs: Mapping[str, tuple[float, float]]
) -> dict[str, np.ndarray]:
    """Kendall tau of each kind of ranking on each of the `tested` tasks, `(tasks,)`; NaN where a task has no second adaptation."""
    order = sorted({text for task in tested for text in task.accuracy})
    fold = {text: k % FOLDS for k, text in enumerate(np.random.default_rng(0).permutation(order))}
    scores: dict[str, list[dict[str, float]]] = {name: [{} for _ in tested] for name in (*KNOWS, "own labels")}
    of_others: list[list[dict[str, float]]] = [[{} for other in tested if other.source != task.source] for task in tested]
    for source in sorted({task.source for task in tested}):
        mine = [i for i, task in enumerate(tested) if task.source == source]
        rest = [task for task in tasks if task.source != source]
        strangers = [task for task in tested if task.source != source]
        for k in range(FOLDS):
            for name in KNOWS:
                predict = _process(rest, features, fold, k, knows=name)
                for i in mine:
                    left = [text for text in tested[i].accuracy if fold[text] == k]
                    scores[name][i] |= predict(left, tested[i])
                    if name == "images":
                        for row, other in zip(of_others[i], strangers, strict=True):
                            row |= predict(left, other)
            for i in mine:
                left = [text for text in tested[i].accuracy if fold[text] == k]
                scores["own labels"][i] |= _process([*rest, tested[i]], features, fold, k, knows="task")(left, tested[i])
        print(source, flush=True)

    def taus(rankings: Sequence[Mapping[str, float]]) -> np.ndarray:
        return np.array([_tau(row, task, costs) for row, task in zip(rankings, tested, strict=True)])

    return {
        "params": taus([{text: costs[text][0] for text in task.accuracy} for task in tested]),
        **{name: taus(rows) for name, rows in scores.items()},
        "other": np.array([np.mean([_tau(row, task, costs) for row in rows]) for rows, task in zip(of_others, tested, strict=True)]),
        "same parts": taus([_same_parts(task, tested) for task in tested]),
        "again": np.array([_tau(again, task, costs) if (again := _again(task, tested)) else np.nan for task in tested]),
    }


def _process(
    tasks: Sequence[Measured], features: Mapping[str, Tensor], fold: Mapping[str, int], k: int, *, knows: str
) -> Callable[[Sequence[str], Measured], dict[str, float]]:
    """A process that has learned from the parts of `tasks` outside of fold `k`; returns its function (parts, task) -> scores.

    With `knows="task"` it knows which of its labels are of the same task, and nothing else of it.
    """
    import torch

    from diffnag.datasets.sources import normal_scores
    from diffnag.predictors.meta.task_process import TaskProcess

    def inputs(task: Measured) -> Tensor:
        if knows == "task":
            return torch.eye(len(tasks))[tasks.index(task)]
        return task.inputs[knows]

    labelled = [[text for text in task.accuracy if fold.get(text) != k] for task in tasks]
    process = TaskProcess(subset=SUBSET)
    process.fit(
        torch.stack([features[text] for texts in labelled for text in texts]), torch.stack([inputs(task) for task in tasks]),
        torch.cat([torch.full((len(texts),), i) for i, texts in enumerate(labelled)]),
        torch.cat([
            torch.as_tensor(normal_scores(np.array([task.accuracy[text] for text in texts]))) for task, texts in zip(tasks, labelled, strict=True)
        ]),
        seed=0, report=lambda *_: None,
    )  # fmt: skip

    def predict(parts: Sequence[str], task: Measured) -> dict[str, float]:
        if not parts:
            return {}
        mean = process.predict(torch.stack([features[text] for text in parts]), inputs(task))
        return dict(zip(parts, mean.tolist(), strict=True))

    return predict


def _same_parts(task: Measured, tested: Sequence[Measured]) -> dict[str, float]:
    """Mean normal score of each part of `task` over those tasks of other sources that it was measured on."""
    from diffnag.datasets.sources import normal_scores

    rows: dict[str, list[float]] = {text: [] for text in task.accuracy}
    for other in tested:
        texts = [text for text in other.accuracy if text in rows]
        if other.source != task.source:
            for text, score in zip(texts, normal_scores(np.array([other.accuracy[text] for text in texts])), strict=True):
                rows[text].append(float(score))
    return {text: float(np.mean(values)) for text, values in rows.items() if values}


def _again(task: Measured, tested: Sequence[Measured]) -> Mapping[str, float]:
    """Accuracies on the same task after an adaptation of the other length; empty if there was none."""
    return next((other.accuracy for other in tested if other.spec == task.spec and other.long != task.long), {})


def _in_common(one: Mapping[str, float], other: Mapping[str, float]) -> tuple[np.ndarray, np.ndarray]:
    """Values of the parts that both have, `(parts,)` each."""
    texts = [text for text in one if text in other]
    return np.array([one[text] for text in texts]), np.array([other[text] for text in texts])


def _tau(ranking: Mapping[str, float], task: Measured, costs: Mapping[str, tuple[float, float]]) -> float:
    """Kendall tau b over the pairs of parts whose multiply-adds differ by less than a factor `NEAR`."""
    texts = [text for text in task.accuracy if text in ranking]
    i, j = np.triu_indices(len(texts), 1)
    flops, said, true = (np.array([values[text] for text in texts]) for values in ({t: costs[t][1] for t in texts}, ranking, task.accuracy))
    near = np.abs(flops[i] - flops[j]) < np.log(NEAR)
    a, b = (np.sign(values[i] - values[j])[near] for values in (said, true))
    return float((a * b).sum() / np.sqrt((a != 0).sum() * (b != 0).sum()))


def _summary(taus: Mapping[str, np.ndarray], groups: Sequence[str]) -> dict[str, Any]:
    """Means and intervals of each ranking, and of gains over `nothing` and of `images` over the others."""
    def interval(values: np.ndarray) -> dict[str, float]:
        known = np.isfinite(values)
        return {**interval_over_groups(values[known], [group for group, good in zip(groups, known, strict=True) if good]), "tasks": int(known.sum())}

    pairs = [("images", name) for name in ("nothing", "descriptors", "other", "params")]
    pairs += [("frozen", "nothing"), ("own labels", "nothing"), ("same parts", "nothing"), ("nothing", "params")]
    return {
        "rows": {
            name: {**interval(values), "by_task": [round(float(value), 4) for value in values if np.isfinite(value)]}
            for name, values in taus.items() if np.isfinite(values).any()
        },
        "gains": {f"{one} - {other}": interval(taus[one] - taus[other]) for one, other in pairs},
    }  # fmt: skip


if __name__ == "__main__":
    main()
