"""The final training: one architecture in its full network, on all images but the test images, and judged on these."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch

from diffnag.errors import UserError, in_a_line
from diffnag.io.device import resolve_device
from diffnag.networks.adapted import statistics_of
from diffnag.networks.answers import answers
from diffnag.networks.build import seeded_build
from diffnag.networks.classifier_file import Classifier, Description, read_model, save_model
from diffnag.networks.elastic import Resized
from diffnag.networks.plan import mixed_if_long
from diffnag.networks.targets import Target, target_of
from diffnag.networks.training import Diverged, Recipe, accuracy, as_input, channel_statistics, train
from diffnag.protocols import GivesNetworks, Inherits
from diffnag.search_loop.finish.finished import BY_TRAINING, IN_SEARCH, Finished, Score
from diffnag.search_loop.finish.judging import scored
from diffnag.search_loop.loop import Search
from diffnag.spaces.counting import measured_size
from diffnag.spaces.inputs import side_of

if TYPE_CHECKING:
    from diffnag.datasets.images import ImageDataset, Images
    from diffnag.networks.plan import Plan

Note = Callable[[str], object]
Progress = Callable[[str, int, int], object]

EXPORT_SECONDS, QUANTISING_SECONDS = 10.0, 10.0
"""Parts of a time limit that are kept for writing and checking files, and for the network in 8 bits of pretrained ones."""
TIMED_STEPS, FEWER_STEPS = 20, 4
"""Optimiser steps that estimate how long an epoch takes; fewer for a pretrained network, whose steps are long."""
FASTER = 2.5
"""How much faster than estimated a training may be: so many more epochs are planned, which the clock ends. A machine that was busy for the
few steps of the estimate may be idle later."""
MOST_EPOCHS = 200
"""Epochs at most of a network from scratch that has time left; more would be worth little."""
GENTLER = (1.0, 0.3, 0.1)
"""Factors of the learning rate: the next one is tried when a training diverges."""


class Trained(NamedTuple):
    """How a network was trained."""

    epochs: int
    learning_rate: float
    seconds: float
    judged: float | None = None
    """Validation accuracy in % half-way, by the training images alone, of a network that came with weights."""


def finish_one(
    name: str, arch: str, search: Search, path: Path, *,
    labels: int, value: float | None, on_progress: Progress, on_note: Note, epochs: int | None = None,
) -> Finished:  # fmt: skip
    """Train `arch` by the search's final plan, write it to `path`, and judge it on the test images.

    `epochs` replaces the number of epochs; without it, `train_fully` chooses. A model that an earlier run of the same search left at
    `path` is not trained again. `labels` and `value` (validation accuracy in %) are those of the search. Raises `UserError`.
    """
    images, plan, options = search.images, search.final_plan, search.options
    assert images and plan
    made_with = {"arch": arch, "space": options.space, "sha256": images.sha256, "seed": options.seed, "plan": plan.to_json()}
    found = left_by_earlier_run(path, made_with, space=options.space)
    if found is None or epochs not in (None, found[1].epochs):
        def report(done: int, of: int) -> None:
            on_progress(f"training {name}", done, of)

        found = train_fully(arch, search, epochs=epochs, on_progress=report, on_note=on_note)
        save_model(path, found[0], about={"made_with": made_with, **found[1]._asdict()})
    return judged_on_test(name, *found, search, labels=labels, value=value)


def judged_on_test(
    name: str, model: Classifier, trained: Trained, search: Search, *, labels: int, value: float | None = None, plan: Plan | None = None
) -> Finished:
    """What is known of a trained `model`, its answers on the test images included; `labels` and `value` as for `finish_one`.

    `plan` says how it was trained, if not by that of the search.
    """
    images = search.images
    assert images
    return Finished(
        name=name, arch=model.description.arch, model=model,
        size=measured_size(model.network, image_size=model.description.image_size, inputs=images.inputs),
        labels=labels,
        validation=Score.of_percent(value if trained.judged is None else trained.judged, images),
        judged=IN_SEARCH if trained.judged is None else BY_TRAINING,
        confusion=confusion(model.to(resolve_device(search.options.device)), images.test),
        score=scored(model, images.test),
        epochs=trained.epochs, learning_rate=trained.learning_rate, seconds=trained.seconds, plan=plan,
    )  # fmt: skip


def left_by_earlier_run(path: Path, made_with: dict[str, Any], *, space: str) -> tuple[Classifier, Trained] | None:
    """The model at `path` and how it was trained, if it was made with the same data and plan."""
    if not path.is_file():
        return None
    try:
        model, about = read_model(path, space=space)
        judged = None if about.get("judged") is None else float(about["judged"])
        trained = Trained(int(about["epochs"]), float(about["learning_rate"]), float(about["seconds"]), judged)
    except (UserError, KeyError, TypeError, ValueError, OverflowError):
        return None
    return (model, trained) if about.get("made_with") == made_with else None


def train_fully(
    arch: str, search: Search, *, on_progress: Callable[[int, int], object], on_note: Note, epochs: int | None = None
) -> tuple[Classifier, Trained]:
    """Train `arch` by the search's final plan on its images of training and validation; the classifier and how it was trained.

    It is trained for `epochs`. Without `epochs` it is trained for those of the plan, or for as many of them as fit into the time that
    is left, which the training then keeps by the clock. A training that diverges is repeated with a smaller learning rate. Raises
    `UserError` if none is small enough, and if the network fails otherwise.

    A network that comes with weights is trained on the training images for the first half of the epochs, judged on the validation
    images, and then trained on both.
    """
    images, plan, options = search.images, search.final_plan, search.options
    assert images and plan
    space, parsed = search.space, search.space.from_str(arch)
    side, device = side_of(parsed, space, images.size), resolve_device(options.device)
    x, y, statistics = final_images(images, statistics_of(images, space) if isinstance(space, Inherits) else None, device=device)
    description = Description(options.space, arch, plan.skeleton, images.classes, side, *statistics, target=target_of(images))

    def network() -> torch.nn.Module:
        if isinstance(search.oracle, GivesNetworks):
            return Resized(search.oracle.network(parsed), side)
        made = seeded_build(
            plan.skeleton, parsed, space, num_classes=len(images.classes), image_size=side, seed=options.seed, device=device, started=plan.started
        )
        return Resized(made, side) if images.inputs is None else made

    try:
        fits = _Fits(replace(mixed_if_long(plan.recipe, epochs), epochs=epochs)) if epochs else _within_time(search, network, x, y, on_note=on_note)
        apart = len(images.val.y) if isinstance(search.oracle, GivesNetworks) else 0
        averaged, trained = _train(search, network, x, y, fits.recipe, until=fits.until, apart=apart, on_progress=on_progress, on_note=on_note)
    except UserError as error:
        raise UserError(f"the final training of {arch} failed: {error}") from error
    except OSError:
        raise  # of the progress, such as a closed terminal
    except (Exception, SystemExit) as error:  # a network of someone else's space may fail in any way
        raise UserError(f"the final training of {arch} failed: {in_a_line(error)}") from error
    return Classifier(averaged, description).eval(), trained


class FinalImages(NamedTuple):
    """What a final training sees: images of training and then of validation, standardised, and their labels."""

    x: torch.Tensor
    y: torch.Tensor
    statistics: tuple[tuple[float, ...], tuple[float, ...]]
    """Mean and standard deviation of each channel that they are standardised by, as a `Description` has them."""


def final_images(images: ImageDataset, statistics: tuple[torch.Tensor, torch.Tensor] | None, *, device: torch.device) -> FinalImages:
    """The images of a final training; `statistics` are those of `statistics_of`, by default those of the images themselves."""
    pixels = np.concatenate([images.train.x, images.val.x])
    mean, std = statistics or channel_statistics(pixels)
    x = as_input(pixels, device=device, statistics=(mean, std))
    y = torch.from_numpy(np.concatenate([images.train.y, images.val.y])).to(device)
    return FinalImages(x, y, as_described((mean, std), images))


def as_described(statistics: tuple[torch.Tensor, torch.Tensor], images: ImageDataset) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and standard deviation of each channel as a `Description` has them: of pixels in [0, 1], or of arrays in their own values."""
    mean, std = (part / images.train.unit for part in statistics)
    return tuple(mean.tolist()), tuple(std.tolist())


def _train(
    search: Search, network: Callable[[], torch.nn.Module], x: torch.Tensor, y: torch.Tensor, recipe: Recipe, *,
    until: float | None, apart: int, on_progress: Callable[[int, int], object], on_note: Note,
) -> tuple[torch.nn.Module, Trained]:  # fmt: skip
    assert search.images
    begin, target = time.perf_counter(), target_of(search.images)
    for factor in GENTLER:
        gentler = replace(recipe, learning_rate=factor * recipe.learning_rate)
        generator = torch.Generator().manual_seed(search.options.seed)
        done = count(1)

        def on_epoch(_epoch: int, _averaged: torch.nn.Module, done: count[int] = done) -> None:
            on_progress(next(done), recipe.epochs)

        try:
            averaged, judged = _in_halves(network(), x, y, gentler, until=until, apart=apart, generator=generator, on_epoch=on_epoch, target=target)
        except Diverged:
            on_note(f"the final training diverged with learning rate {gentler.learning_rate:g}")
            continue
        trained = Trained(next(done) - 1, gentler.learning_rate, time.perf_counter() - begin, judged)
        return kept(averaged, search.images), trained
    raise UserError(f"it diverged with every learning rate down to {gentler.learning_rate:g}")


def kept(network: torch.nn.Module, images: ImageDataset) -> torch.nn.Module:
    """A trained network as a model holds it: photos are resized before they come to it, and arrays within it."""
    found = network.network if isinstance(network, Resized) and images.inputs is None else network
    return found.to(memory_format=torch.contiguous_format)  # type: ignore[call-overload]


def _in_halves(
    network: torch.nn.Module, x: torch.Tensor, y: torch.Tensor, recipe: Recipe, *,
    until: float | None, apart: int, generator: torch.Generator, on_epoch: Callable[[int, torch.nn.Module], object], target: Target,
) -> tuple[torch.nn.Module, float | None]:  # fmt: skip
    """Train `network`; return it and its accuracy in % on the last `apart` images after the first half, which leaves them out.

    With `apart` 0 there is one training on all images, and no accuracy. It ends when `time.perf_counter` is `until`.
    """

    def left(share: float = 1.0) -> float | None:
        return None if until is None else share * (until - time.perf_counter())

    if not apart:
        return train(network, x, y, recipe, generator=generator, seconds=left(), on_epoch=on_epoch, target=target), None
    half = -(-recipe.epochs // 2)
    first, second = replace(recipe, epochs=half), replace(recipe, epochs=recipe.epochs - half)
    network = train(network, x[:-apart], y[:-apart], first, generator=generator, seconds=left(0.5), on_epoch=on_epoch, target=target)
    judged = accuracy(network, x[-apart:], y[-apart:], side=network.side if isinstance(network, Resized) else None, target=target)
    if second.epochs:
        network = train(network, x, y, second, generator=generator, seconds=left(), on_epoch=on_epoch, target=target)
    return network, judged


class _Fits(NamedTuple):
    """How a training fits into the time: its recipe, and when it ends by `time.perf_counter`; None if that does not matter."""

    recipe: Recipe
    until: float | None = None


def until_the_clock(recipe: Recipe, fitting: float, *, most: int) -> Recipe:
    """The recipe with more epochs than the `fitting` ones that are expected before the clock ends it, up to `most`.

    The weights are averaged over the same part of what is expected.
    """
    epochs = int(np.clip(FASTER * fitting, 1, most))
    average = recipe.average * min(1.0, max(fitting, 1.0) / epochs)
    return replace(mixed_if_long(recipe, fitting), epochs=epochs, average=average)


def _within_time(search: Search, network: Callable[[], torch.nn.Module], x: torch.Tensor, y: torch.Tensor, *, on_note: Note) -> _Fits:
    """The plan's epochs, or as many as may fit into the time left, estimated from a few steps after the first; the clock decides."""
    assert search.final_plan and search.images
    recipe = search.final_plan.recipe
    if search.options.time_limit is None:
        return _Fits(recipe)
    an_image = seconds_an_image(network(), x, y, recipe, target=target_of(search.images))
    if an_image is None:
        return _Fits(replace(recipe, epochs=1))
    files = EXPORT_SECONDS + QUANTISING_SECONDS * recipe.keep_statistics
    afterwards = files + an_image * len(search.images.test.y)  # a forward pass is a third of a step, and two networks may be judged
    left = search.seconds_left - afterwards
    fitting = left / (an_image * len(x))
    if fitting < recipe.epochs:
        on_note(f"about {max(fitting, 1):.0f} of {recipe.epochs} epochs of the final training fit into the time that is left")
    least = 0.0 if recipe.keep_statistics else an_image * len(x)  # one epoch: without any, a network from scratch is worth nothing
    most = most_epochs(recipe, asked=search.options.epochs)
    return _Fits(until_the_clock(recipe, fitting, most=most), time.perf_counter() + max(left, least))


def most_epochs(recipe: Recipe, *, asked: int | None) -> int:
    """Epochs at most of a timed training: those of the recipe if they were asked for or weights are inherited, else `MOST_EPOCHS`."""
    return recipe.epochs if recipe.keep_statistics or asked is not None else max(recipe.epochs, MOST_EPOCHS)


def seconds_an_image(network: torch.nn.Module, x: torch.Tensor, y: torch.Tensor, recipe: Recipe, *, target: Target) -> float | None:
    """Seconds that training takes for each image, of a few steps after the first; None if it diverges. `network` is trained by it."""
    few = (FEWER_STEPS if recipe.keep_statistics else TIMED_STEPS) * recipe.batch_size
    ends: list[float] = []
    try:
        train(
            network, x[:few], y[:few], replace(recipe, epochs=2), generator=torch.Generator().manual_seed(0),
            on_epoch=lambda done, _: ends.append(time.perf_counter()), target=target,
        )  # fmt: skip
    except Diverged:
        return None
    return (ends[1] - ends[0]) / len(x[:few])


def confusion(model: Classifier, images: Images) -> np.ndarray | None:
    """Counts `(classes, classes)` of images by true class and by chosen class; None if the images have other labels than classes."""
    if images.y.ndim > 1:
        return None
    chosen = answers(model, images).argmax(1).numpy()
    counts = np.zeros((len(model.classes), len(model.classes)), np.int64)
    np.add.at(counts, (images.y, chosen), 1)
    return counts
