"""Fronts of accuracy and multiply-adds among the parts of a pretrained network: the search against random parts with as many labels.

    python -m experiments.elastic_fronts [--seeds A:B] [--labels N] [--minutes M]

Photos of five classes, as in `experiments.photos`. The network is adapted once for each seed, as a search with the time limit does it, and
all arms judge parts with the weights that these inherit. `search` is the method diffnag with `--minimise flops`; `random` draws uniformly,
as random search does; `random parts` changes a random share of the whole network's choices at a random resolution. The front of an arm is
that of its validation accuracies; its members are then judged on 1,000 test images, which no arm has seen, with the same weights. The
volume is the share that the front covers of the rectangle from chance to 100 % and from no multiply-adds to those of the whole network at
224 pixels. Rows that the result file has are kept.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from diffnag.datasets.images import ImageDataset
from diffnag.networks.adapted import pixel_statistics
from diffnag.networks.elastic import Resized
from diffnag.networks.training import accuracy, as_input
from diffnag.oracles.inherit import InheritOracle
from diffnag.spaces.loading import load_space
from experiments.photos import write_photos
from experiments.shared.common import begin, parser
from experiments.shared.pool import seeds_argument
from experiments.shared.results import add_row, measured

if TYPE_CHECKING:
    from diffnag.arch import Arch

NAME, SPACE, CLASSES = "elastic_fronts", "efficientnet-lite", 5


def main() -> None:
    options = parser(__doc__)
    options.add_argument("--seeds", type=seeds_argument, default=range(5), help="A:B, B excluded (default: 0:5)")
    options.add_argument("--labels", type=int, default=30, help="labels of an arm (default: %(default)s)")
    options.add_argument("--minutes", type=float, default=8.0, help="time limit from which the adaptation follows (default: %(default)s)")
    args = options.parse_args()
    data = begin()
    for seed in args.seeds:
        key = {"seed": seed, "labels": args.labels, "minutes": args.minutes}
        if measured(NAME, key):
            continue
        with tempfile.TemporaryDirectory() as folder:
            photos = write_photos(Path(folder) / "photos", data / "images" / "cifar10.npz", seed)
            found = compared(photos, seed, args.labels, 60 * args.minutes)
        add_row(NAME, key, {"arms": found})


def compared(photos: Path, seed: int, labels: int, seconds: float) -> dict[str, Any]:
    """The front of each arm: its members, and its volume by validation and by test images."""
    import torch

    from diffnag.search_loop.loop import Search
    from diffnag.search_loop.options import INHERITING_SHARE, USUAL_BUDGET, SearchOptions
    from diffnag.search_loop.oracle import own_images
    from diffnag.spaces.draws import random_part

    torch.set_num_threads(1)
    space: Any = load_space(SPACE)
    images = own_images(SearchOptions(dataset=str(photos), space=SPACE), space)
    oracle = InheritOracle()
    oracle.setup(space=space)
    a_label = INHERITING_SHARE * seconds / USUAL_BUDGET
    oracle.set_images(images, dataset=str(photos), seconds=a_label, epochs=None, seed=seed, device="cpu")

    def searched(method: str, predictor: str | None) -> list[tuple[Arch, float]]:
        options = SearchOptions(
            dataset=str(photos), space=SPACE, method=method, predictor=predictor, minimise=("flops",), budget=labels, seed=seed
        )  # fmt: skip
        with Search(options, oracle=oracle, images=images) as search:
            search.work()
            return [(trial.arch, trial.value) for trial in search.study.history if trial.value is not None]

    rng = np.random.default_rng(seed)
    parts = {random_part(space, rng): None for _ in range(2 * labels)}  # a dictionary, so that none is there twice
    found = {
        "search": searched("diffnag", "gp"), "random": searched("random", None),
        "random parts": [(arch, oracle.query(arch, dataset=str(photos), split="val")) for arch in list(parts)[:labels]],
    }  # fmt: skip
    judge = _Judge(oracle, space, images)
    return {arm: judge.front(labelled) for arm, labelled in found.items()}


class _Judge:
    """Judges fronts of parts on the test images, with the weights that they inherit."""

    def __init__(self, oracle: InheritOracle, space: Any, images: ImageDataset) -> None:
        import torch

        self._oracle, self._space = oracle, space
        self._x, self._y = as_input(images.test.x, statistics=pixel_statistics(space)), torch.from_numpy(images.test.y)

    def front(self, labelled: Sequence[tuple[Arch, float]]) -> dict[str, Any]:
        """The members of the front of `(architecture, validation accuracy in %)`, and the volumes."""
        whole = self._cost(self._space.largest)
        members = list(_undominated([(value, self._cost(arch), arch) for arch, value in labelled]))
        rows = [{"flops": cost, "validation_accuracy": value / 100, "test_accuracy": self._tested(arch) / 100} for value, cost, arch in members]
        points = {part: [(row[f"{part}_accuracy"], row["flops"] / whole) for row in rows] for part in ("validation", "test")}
        return {"labels": len(labelled), "members": rows, **{f"{part}_volume": _volume(found) for part, found in points.items()}}

    def _cost(self, arch: Arch) -> float:
        return float(self._space.size(arch, num_classes=CLASSES).flops)

    def _tested(self, arch: Arch) -> float:
        side = self._space.resolution(arch)
        return accuracy(Resized(self._oracle.network(arch), side), self._x, self._y, side=side)


def _undominated(points: Sequence[tuple[float, float, Arch]]) -> Iterator[tuple[float, float, Arch]]:
    """Points `(value, cost, ...)` that no other is better than in both, the cheapest first."""
    best = -np.inf
    for point in sorted(points, key=lambda point: (point[1], -point[0])):
        if point[0] > best:
            best = point[0]
            yield point


def _volume(points: Sequence[tuple[float, float]]) -> float:
    """Share that `(accuracy, share of the cost)` cover of the rectangle above chance."""
    from diffnag.objectives.hypervolume import hypervolume

    chance = 1 / CLASSES
    values = np.array([((accuracy - chance) / (1 - chance), -share) for accuracy, share in points])
    return float(hypervolume(values, np.array([0.0, -1.0])))


if __name__ == "__main__":
    main()
