"""The end of a search on a user's own images: the best architecture is trained, tested once, and written as files."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from diffnag.errors import UserError, in_a_line
from diffnag.io.files import make_folder
from diffnag.networks.classifier_file import Classifier, export_onnx, save_model
from diffnag.networks.plan import ENOUGH_EPOCHS
from diffnag.protocols import GivesNetworks
from diffnag.search_loop.finish.comparison import FOLDER, Rivals
from diffnag.search_loop.finish.eight_bits import EightBits, write_eight_bits
from diffnag.search_loop.finish.finished import BY_TRAINING, Finish, Finished, Share
from diffnag.search_loop.finish.plain import FROM_SCRATCH, SHORT, PlainTraining
from diffnag.search_loop.finish.probe import finish_probe
from diffnag.search_loop.finish.training import EXPORT_SECONDS, QUANTISING_SECONDS, Note, Progress, finish_one
from diffnag.search_loop.loop import Search, standard_error
from diffnag.search_loop.options import MODEL_SPACE
from diffnag.search_loop.report.mistakes import MISTAKES, mistakes_of, write_mistakes
from diffnag.search_loop.result import Best, SearchResult

SCRATCH_SHARE, MOST_SCRATCH_SECONDS, SCRATCH_FINAL_SHARE = 0.15, 60.0, 0.9
"""Part of the time limit in which a network from scratch is tried beside a pretrained one, and the most seconds; and the part of what is
left that it gets where it is better."""
MODEL, ONNX, EIGHT_BITS, CONFUSION = "model.pt", "model.onnx", "model.int8.onnx", "confusion.png"
"""Files of the run's folder."""


def finish(
    search: Search, result: SearchResult, *, folder: Path, storage: str, compare: bool, on_progress: Progress, on_note: Note
) -> Finish | None:
    """Train the best of `result` fully, judge it on the test images, and write its files to `folder`; None if there is no best.

    What an earlier run of the same search trained is not trained again. With `compare`, the `Rivals` are finished as well.
    `on_progress(what, done, of)` is called as the work goes on. Raises `UserError`.
    """
    from diffnag.drawing.attempt import try_to_draw
    from diffnag.search_loop.show.confusion import confusion_picture

    if result.best is None:
        return None
    assert search.images and search.final_plan
    probed = isinstance(search.oracle, GivesNetworks)
    alone = not (search.parts.goal.limits or search.parts.goal.has_front)  # else a better label is not all that is wanted
    scratch = None
    if probed and alone and not search.options.space.startswith(MODEL_SPACE):  # who improves a model wants that one
        scratch = _from_scratch(search, result.best, folder, on_progress=on_progress, on_note=on_note)
    place = folder / FOLDER / f"{result.method}.pt" if probed else folder / MODEL
    make_folder(place.parent)
    searched = finish_one(
        result.method, result.best.arch, search, place,
        labels=result.labels_target, value=result.best.value, on_progress=on_progress, on_note=on_note,
    )  # fmt: skip
    probe = finish_probe(search)
    best, tried = searched, [one for one in (probe, scratch) if one]
    if alone:
        whole = result.best.arch in map(search.space.to_str, search.domain.first)
        best = _kept(searched, probe, scratch, beyond_probe=whole and searched.epochs >= ENOUGH_EPOCHS, on_note=on_note)
    if probed:
        save_model(folder / MODEL, best.model, about={"name": best.name})
    difference = _export(folder / ONNX, best.model, on_note)
    if (counts := best.confusion) is not None:
        classes, title, test = search.images.classes, f"{search.images.name}, test images", search.images.test
        try_to_draw(folder / CONFUSION, lambda path: confusion_picture(path, counts, classes, title=title), on_note=on_note)
        try_to_draw(folder / MISTAKES, lambda path: write_mistakes(path, mistakes_of(best.model, test, counts)), on_note=on_note)
    eight = None
    if probed and difference is not None and best.confusion is not None:
        eight = _in_eight_bits(folder, search, side=best.model.description.image_size if search.images.inputs is None else None, on_note=on_note)
    others = tuple(other for other in (searched, *tried) if other is not best)
    if compare:
        compared = Rivals(search, result, searched, folder, storage, on_progress, on_note).finished()
        others += compared
        for rival in compared:
            if alone and _is_better(rival, best):
                on_note(f"{rival.name} is better on validation than {best.name}: {FOLDER}/{rival.name}.pt holds it")
    return Finish(best, others, difference, search.images, search.final_plan, eight)


def _from_scratch(search: Search, best: Best, folder: Path, *, on_progress: Progress, on_note: Note) -> Finished | None:
    """A residual network from scratch: some images, such as signs and characters, need no weights of photos. None if it cannot be trained.

    It is tried for a part of the time. Only if it is then better on the validation images than all that was evaluated, it gets
    most of the time that is left, on all images.
    """
    limit, place = search.options.time_limit, folder / FOLDER
    seconds = MOST_SCRATCH_SECONDS if limit is None else min(SCRATCH_SHARE * limit, MOST_SCRATCH_SECONDS)
    try:
        tried = PlainTraining(search, place, seconds, on_progress).resnet(SHORT, planned=True, apart=True)
        if tried.validation is None or 100 * tried.validation.value <= best.value:
            return tried
        if limit is not None:  # else it is trained for as long again
            seconds = max(0.0, SCRATCH_FINAL_SHARE * (search.seconds_left - _seconds_for_the_rest(search)))
        return PlainTraining(search, place, seconds, on_progress).resnet(FROM_SCRATCH, planned=True, start=tried)
    except UserError as error:
        on_note(f"{FROM_SCRATCH} is left out: {error}")
        return None


def _seconds_for_the_rest(search: Search) -> float:
    """About how long it takes to judge the pretrained networks on the test images, as evaluations took on those of validation, and the files."""
    images, took = search.images, [trial.cost_s for trial in search.study.history]
    assert images
    return EXPORT_SECONDS + QUANTISING_SECONDS + 2 * float(np.median(took)) * len(images.test.y) / len(images.val.y)


def _kept(searched: Finished, probe: Finished | None, scratch: Finished | None, *, beyond_probe: bool, on_note: Note) -> Finished:
    """What the model file holds: the network that was searched, unless another is better on validation.

    The whole network that is fine-tuned for some epochs is `beyond_probe`: it has been trained from the probe on, and goes on after it is
    judged. So the probe is kept then only where the validation images can tell that it is better: by two standard errors. Of few images they
    are wide.
    """
    best = searched
    if probe and _is_better(probe, searched):
        assert probe.validation and searched.validation
        more, count = 100 * (probe.validation.value - searched.validation.value), probe.validation.images
        if beyond_probe and isinstance(probe.validation, Share) and more <= 200 * standard_error(probe.validation.value, count):
            on_note(f"the {probe.name} is better by {more:.3g} points, but {count} validation images cannot tell: what was found is kept")
        else:
            best = probe
    if scratch and _is_better(scratch, best):
        best = scratch
    if best is not searched:
        on_note(f"the {best.name} is better on validation than what was found, so {MODEL} holds it")
    return best


def _is_better(one: Finished, other: Finished) -> bool:
    """Whether one network is better on validation than another, both judged in full trainings by the training images alone."""
    if one.validation is None or other.validation is None or not one.judged == other.judged == BY_TRAINING:
        return False
    return one.validation.value > other.validation.value


def _export(path: Path, model: Classifier, on_note: Note) -> float | None:
    """Write the ONNX file. A network of someone else's space may not be exportable: that costs the file, not the run."""
    try:
        return export_onnx(path, model)
    except (RuntimeError, torch.onnx.OnnxExporterError) as failure:
        path.unlink(missing_ok=True)
        on_note(f"{path.name} could not be made: {in_a_line(failure)}")
        return None


def _in_eight_bits(folder: Path, search: Search, *, side: int | None, on_note: Note) -> EightBits | None:
    """Write the network in 8 bits. An operator that cannot be quantised costs the file, not the run."""
    path, images = folder / EIGHT_BITS, search.images
    assert images
    try:
        return write_eight_bits(path, folder / ONNX, train=images.train, test=images.test, side=side)
    except Exception as failure:  # onnxruntime fails in many ways on networks of someone else
        path.unlink(missing_ok=True)
        on_note(f"{path.name} could not be made: {in_a_line(failure)}")
        return None
