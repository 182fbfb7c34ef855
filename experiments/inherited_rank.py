"""Inherited accuracies against those of architectures that are fine-tuned by themselves: is the label of the search worth its cost?

    python -m experiments.inherited_rank [--archs N] [--device D] [--workers W]

Parts of the pretrained network are drawn at random (`random_part`). The network is adapted to photos of five classes once. The label of a
part is its validation accuracy with inherited weights, as the oracle `inherit` gives it. Then each part is fine-tuned alone by the recipe
of the final training on the training images, and judged on the test images. Rows that the result file has are kept.
"""

from __future__ import annotations

import multiprocessing
from concurrent.futures import ProcessPoolExecutor
from typing import Any

import numpy as np

from experiments.own_images import CLASSES
from experiments.shared.common import begin, parser
from experiments.shared.results import read_result, record, write_result

NAME, SPACE, A_CLASS, VALIDATION = "inherited_rank", "efficientnet-lite", 300, 60
"""Images a class for training and validation, and those of them for validation."""


def main() -> None:
    options = parser(__doc__)
    options.add_argument("--archs", type=int, default=20, help="number of architectures (default: %(default)s)")
    options.add_argument("--device", default="cpu", help="cpu, cuda, ... (default: %(default)s)")
    options.add_argument("--workers", type=int, default=1, help="processes (default: %(default)s)")
    args = options.parse_args()
    begin()
    rows: list[dict[str, Any]] = list(read_result(NAME).get("rows", []))
    left = [number for number in range(args.archs) if not any(row["number"] == number for row in rows)]
    parts = [left[worker :: args.workers] for worker in range(args.workers)]
    with ProcessPoolExecutor(args.workers, mp_context=multiprocessing.get_context("spawn")) as pool:
        for found in pool.map(judged, [part for part in parts if part], [args.device] * args.workers):
            rows += map(record, found)
            write_result(NAME, {"rows": sorted(rows, key=lambda row: row["number"]), **agreement(rows)})
    print(agreement(rows))


def agreement(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Kendall tau of inherited and of fine-tuned accuracies; with the label of the search, and on the test images."""
    from scipy.stats import kendalltau

    tuned = [row["fine_tuned_test"] for row in rows]
    taus = {name: round(float(kendalltau([row[name] for row in rows], tuned).statistic), 3) for name in ("inherited_val", "inherited_test")}
    return {"architectures": len(rows), "kendall_tau": taus}


def judged(numbers: list[int], device: str) -> list[dict[str, Any]]:
    """Adapt once, then judge the architectures with these numbers; accuracies in %."""
    import torch

    from diffnag.io.memory import keep_freed_memory
    from diffnag.networks.adapted import adapted
    from diffnag.networks.elastic import Adaptation, Resized
    from diffnag.networks.training import Recipe, accuracy, train
    from diffnag.spaces.draws import random_part
    from diffnag.spaces.loading import load_space

    keep_freed_memory()
    space: Any = load_space(SPACE)
    training, validation, test = photos(space, device)
    network = adapted(space, training, validation, Adaptation(shift=4), classes=len(CLASSES), seed=0)
    recipe = Recipe(epochs=10, batch_size=32, learning_rate=3e-3, weight_decay=1e-4, shift=4, keep_statistics=True)
    rows = []
    for number in numbers:
        arch = random_part(space, np.random.default_rng(number))
        side = space.resolution(arch)
        part = Resized(network.inherited(arch, space, training), side)
        row = {f"inherited_{name}": accuracy(part, *images, side=side) for name, images in (("val", validation), ("test", test))}
        generator = torch.Generator().manual_seed(number)
        tuned = train(part, training[0], training[1], recipe, generator=generator)
        rows.append({"number": number, "arch": space.to_str(arch), **row, "fine_tuned_test": accuracy(tuned, *test, side=side)})
    return rows


def photos(space: Any, device: str) -> tuple[Any, Any, Any]:
    """Standardised images and labels for training, validation and test."""
    import torch

    from diffnag.io.files import data_folder
    from diffnag.networks.adapted import pixel_statistics
    from diffnag.networks.training import as_input

    folder = data_folder()
    assert folder
    arrays, rng = np.load(folder / "images" / "cifar10.npz"), np.random.default_rng(0)
    parts: list[tuple[str, slice]] = [("train", slice(VALIDATION, A_CLASS)), ("train", slice(VALIDATION)), ("test", slice(None))]
    orders = {name: [rng.permutation(np.nonzero(arrays[f"y_{name}"] == label)[0]) for label in CLASSES.values()] for name in ("train", "test")}
    found = []
    for name, share in parts:
        chosen = rng.permutation(np.concatenate([order[share] for order in orders[name]]))
        y = np.searchsorted(sorted(CLASSES.values()), arrays[f"y_{name}"][chosen])
        x = as_input(arrays[f"x_{name}"][chosen], device=device, statistics=pixel_statistics(space))
        found.append((x, torch.from_numpy(y).to(device)))
    return found[0], found[1], found[2]


if __name__ == "__main__":
    main()
