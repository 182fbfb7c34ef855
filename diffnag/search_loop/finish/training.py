"""The end of a search on one's own images: the best architecture trained on all but the test images, and judged on these once."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from diffnag.errors import UserError, in_a_line
from diffnag.io.device import resolve_device
from diffnag.networks.build import seeded_build
from diffnag.networks.classifier_file import Classifier, Description, export_onnx, read_model, save_model
from diffnag.networks.training import Diverged, Recipe, as_input, channel_statistics, logits, train
from diffnag.protocols import HasResNetLike
from diffnag.search_loop.finish.finished import Finish, Finished, Share
from diffnag.search_loop.loop import Search
from diffnag.search_loop.result import SearchResult
from diffnag.spaces.counting import measured_size

if TYPE_CHECKING:
    from diffnag.datasets.images import Images
    from diffnag.search_loop.trial import Trial

Note = Callable[[str], object]
Progress = Callable[[str, int, int], object]

MODEL, ONNX, CONFUSION, OTHERS = "model.pt", "model.onnx", "confusion.png", "compare"
"""Files of the run's folder; in the last, a folder, lie the models that the best is compared with."""
EXPORT_SECONDS = 10.0
"""Kept of a time limit for writing and checking files."""
TIMED_STEPS = 20
GENTLER = (1.0, 0.3, 0.1)
"""Factors of the learning rate, tried in this order where a training diverges."""


def finish(
    search: Search, result: SearchResult, *, folder: Path, storage: str, compare: bool, on_progress: Progress, on_note: Note
) -> Finish | None:
    """Train the best of `result` fully, judge it on the test images, write its files to `folder`; None where nothing is best.

    What is trained already, by an earlier run of the same search, is not trained again. With `compare`, random search with
    as many evaluations and the space's ResNet-like architecture are finished in the same way. `on_progress(what, done, of)`
    is called as the work goes on.
    """
    from diffnag.search_loop.show.files import confusion_picture

    if result.best is None:
        return None
    assert search.images and search.final_plan
    best = _finish_one(
        result.method, result.best.arch, search, folder / MODEL,
        labels=result.labels_target, value=result.best.value, on_progress=on_progress, on_note=on_note,
    )  # fmt: skip
    difference = _export(folder / ONNX, best.model, on_note)
    confusion_picture(folder / CONFUSION, best.confusion, search.images.classes, title=f"{search.images.name}, test images")
    others = _others(search, result, best, folder=folder, storage=storage, on_progress=on_progress, on_note=on_note) if compare else ()
    return Finish(best, others, difference, search.images, search.final_plan)


def _export(path: Path, model: Classifier, on_note: Note) -> float | None:
    """A network of someone else's space may be none that ONNX can tell: that costs the file, not the run."""
    try:
        return export_onnx(path, model)
    except (RuntimeError, torch.onnx.OnnxExporterError) as failure:
        path.unlink(missing_ok=True)
        on_note(f"{path.name} could not be made: {in_a_line(failure)}")
        return None


def _others(
    search: Search, result: SearchResult, best: Finished, *, folder: Path, storage: str, on_progress: Progress, on_note: Note
) -> tuple[Finished, ...]:
    found: list[Finished] = []

    def add(name: str, arch: str, *, labels: int, value: float | None) -> None:
        if same := next((other for other in (best, *found) if other.arch == arch), None):
            validation = Share.of_percent(value, len(search.images.val.y)) if search.images else None
            found.append(replace(same, name=name, labels=labels, validation=validation))
        else:
            path = folder / OTHERS / f"{name}.pt"
            found.append(_finish_one(name, arch, search, path, labels=labels, value=value, on_progress=on_progress, on_note=on_note))

    if result.method != "random":
        drawn = _random_search(search, result, folder=folder, storage=storage, on_progress=on_progress)
        if drawn.best is not None:
            add("random", drawn.best.arch, labels=drawn.labels_target, value=drawn.best.value)
    if isinstance(search.space, HasResNetLike):
        on_progress("evaluating the ResNet-like architecture", 0, 1)
        arch = search.space.from_str(search.space.resnet_like)
        try:
            value = search.oracle.query(arch, dataset=search.options.dataset, split="val")
        except Exception as failure:  # as in the search, an evaluation may fail in any way
            on_note(f"the evaluation of the ResNet-like architecture failed: {type(failure).__name__}: {failure}")
            value = None
        add("ResNet-like", search.space.resnet_like, labels=1, value=value)
    else:
        on_note(f"space {search.space.name!r} names no ResNet-like architecture to compare with")
    return tuple(found)


def _random_search(search: Search, result: SearchResult, *, folder: Path, storage: str, on_progress: Progress) -> SearchResult:
    """As many evaluations by the same oracle, in the same storage, and at most the same time."""
    options = replace(
        search.options, method="random", budget=result.labels_target,
        predictor=None, acquisition=None, candidates=None, scale=None, checkpoint=None,
    )  # fmt: skip
    name = f"{folder.resolve().name} compare"
    with Search(options, storage=storage, name=name, oracle=search.oracle, images=search.images) as other:

        def tell(trial: Trial) -> None:
            on_progress("random search", trial.number + 1, options.budget)

        return other.run(on_trial=tell)


def _finish_one(
    name: str, arch: str, search: Search, path: Path, *, labels: int, value: float | None, on_progress: Progress, on_note: Note
) -> Finished:
    images, plan, options = search.images, search.final_plan, search.options
    assert images and plan
    made_with = {"arch": arch, "space": options.space, "sha256": images.sha256, "seed": options.seed, "plan": plan.to_json()}
    left = _left_by_earlier_run(path, made_with, space=options.space)
    if left is None:
        model, about = train_fully(arch, search, on_progress=lambda done, of: on_progress(f"training {name}", done, of), on_note=on_note)
        save_model(path, model, about={"made_with": made_with, **about})
    else:
        model, about = left
    device = resolve_device(options.device)
    return Finished(
        name=name, arch=arch, model=model, size=measured_size(model.network, image_size=images.size), labels=labels,
        validation=Share.of_percent(value, len(images.val.y)), confusion=confusion(model.to(device), images.test),
        epochs=about["epochs"], seconds=about["seconds"],
    )  # fmt: skip


def _left_by_earlier_run(path: Path, made_with: dict[str, Any], *, space: str) -> tuple[Classifier, dict[str, Any]] | None:
    if not path.is_file():
        return None
    try:
        model, about = read_model(path, space=space)
    except UserError:
        return None
    return (model, about) if about.get("made_with") == made_with else None


def train_fully(
    arch: str, search: Search, *, on_progress: Callable[[int, int], object], on_note: Note
) -> tuple[Classifier, dict[str, Any]]:
    """Train `arch` by the search's final plan on its images of training and validation; the classifier and how it was made.

    Where the search has a time limit and the plan does not fit into what is left of it, fewer epochs are trained. A
    training that diverges is repeated with a smaller learning rate; `UserError` where none is small enough.
    """
    images, plan, options = search.images, search.final_plan, search.options
    assert images and plan
    pixels = np.concatenate([images.train.x, images.val.x])
    statistics = channel_statistics(pixels)
    mean, std = ((part / 255).tolist() for part in statistics)
    description = Description(options.space, arch, plan.skeleton, images.classes, images.size, tuple(mean), tuple(std))
    device = resolve_device(options.device)
    x = as_input(pixels, device=device, statistics=statistics)
    y = torch.from_numpy(np.concatenate([images.train.y, images.val.y])).to(device)
    recipe = _within_time(search, lambda: _network(search, arch, device), x, y, on_note=on_note)
    begin = time.perf_counter()
    for factor in GENTLER:
        gentler = replace(recipe, learning_rate=factor * recipe.learning_rate)
        generator = torch.Generator().manual_seed(options.seed)
        try:
            network = train(
                _network(search, arch, device), x, y, gentler, generator=generator,
                on_epoch=lambda done, _: on_progress(done, recipe.epochs),
            )  # fmt: skip
        except Diverged:
            on_note(f"the final training diverged with learning rate {gentler.learning_rate:g}")
            continue
        about = {"epochs": recipe.epochs, "learning_rate": gentler.learning_rate, "seconds": time.perf_counter() - begin}
        return Classifier(network.to(memory_format=torch.contiguous_format), description).eval(), about  # type: ignore[call-overload]
    raise UserError(f"the final training of {arch} diverged with every learning rate down to {gentler.learning_rate:g}")


def _network(search: Search, arch: str, device: torch.device) -> torch.nn.Module:
    images, plan = search.images, search.final_plan
    assert images and plan
    return seeded_build(
        plan.skeleton, search.space.from_str(arch), search.space, num_classes=len(images.classes), image_size=images.size,
        seed=search.options.seed, device=device,
    )  # fmt: skip


def _within_time(
    search: Search, network: Callable[[], torch.nn.Module], x: torch.Tensor, y: torch.Tensor, *, on_note: Note
) -> Recipe:
    """The plan's recipe, or one with as many epochs as fit into the time left, by the time of a few steps after the first."""
    assert search.final_plan
    recipe = search.final_plan.recipe
    if search.options.time_limit is None:
        return recipe
    few = TIMED_STEPS * recipe.batch_size
    ends: list[float] = []
    train(
        network(), x[:few], y[:few], replace(recipe, epochs=2), generator=torch.Generator().manual_seed(0),
        on_epoch=lambda done, _: ends.append(time.perf_counter()),
    )  # fmt: skip
    an_epoch = (ends[1] - ends[0]) * len(x) / len(x[:few])
    fitting = int(np.clip((search.seconds_left - EXPORT_SECONDS) / an_epoch, 1, recipe.epochs))
    if fitting < recipe.epochs:
        on_note(f"{fitting} of {recipe.epochs} epochs of the final training fit into the time that is left")
    return replace(recipe, epochs=fitting)


def confusion(model: Classifier, images: Images) -> np.ndarray:
    """Counts `(classes, classes)` of images by true class and by chosen class."""
    device = model.mean.device
    x = (torch.from_numpy(images.x).to(device).float() / 255).permute(0, 3, 1, 2)
    chosen = logits(model, x).argmax(1).cpu().numpy()
    counts = np.zeros((len(model.classes), len(model.classes)), np.int64)
    np.add.at(counts, (images.y, chosen), 1)
    return counts
