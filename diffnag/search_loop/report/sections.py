"""The sections of the page that need no script."""

from __future__ import annotations

import base64
from collections import Counter
from typing import TYPE_CHECKING

from diffnag.objectives.accuracy import ACCURACY
from diffnag.search_loop.report.evaluations import described
from diffnag.search_loop.report.files import draw_command, export_command, kept_files, size_of
from diffnag.search_loop.report.html import Cells, Html, code, joined, scrolled, table, tag
from diffnag.search_loop.show.confusion import frequent_errors

if TYPE_CHECKING:
    from diffnag.protocols import SearchSpace
    from diffnag.search_loop.report.mistakes import Mistakes
    from diffnag.search_loop.report.run import Final, Run

COUNTED = 20
"""Most classes for a table of all counts; with more, the picture stands beside the most frequent errors."""
SHADES = 5


def label_title(run: Run) -> str:
    """Name, unit and direction of the label."""
    measure = run.measure
    return f"{', '.join(filter(None, (measure.name(run.reward), measure.unit)))} ({'more' if run.label.maximise else 'less'} is better)"


def summary(run: Run) -> Html:
    """What was asked, what was found and what it took, a line each."""
    lines = {"Asked": _asked(run), "Found": _found(run), "Spent": _spent(run)}
    return tag("dl", *(tag("div", tag("dt", key), tag("dd", text)) for key, text in lines.items()), attributes={"class": "summary"})


def _asked(run: Run) -> str:
    wanted = [one for one in run.objectives if not run.wanted or one.name in run.wanted][: None if run.wanted else 1]
    names = [run.measure.name(run.reward), *(one.name for one in wanted[1:])]
    goal = " and ".join(f"{'highest' if one.maximise else 'lowest'} {name}" for one, name in zip(wanted, names, strict=True))
    limits = f", within {', '.join(run.limits)}" if run.limits else ""
    predictor = "" if run.predictor == "none" else f" and predictor {run.predictor}"
    return f"{goal} on {run.dataset}{limits}; {run.budget:,} labels from the {run.kind} oracle, method {run.method}{predictor}, seed {run.seed}."


def _found(run: Run) -> str:
    row = run.best_row
    if row is None:
        return "nothing: every evaluation failed or misses a limit; the table says which."
    members = sum(each.on_front for each in run.rows)
    count = f"{members} {'network' if members == 1 else 'networks'}"
    front = "" if run.hypervolumes is None else f"a front of {count}; that with the best {run.label.name}: "
    tested = f"; after the final training {_tested(run.final)}" if run.final else ""
    return f"{front}{described(run, row)}{tested}."


def _tested(final: Final) -> str:
    low, high = final.interval
    if final.measure != ACCURACY:
        others = "".join(f", {name} {value:.4g}" for name, value in final.figures.items())
        found = f"{final.measure} {100 * final.accuracy:.2f} %{others}"
        return f"{found} on {final.images:,} test images (95 % interval of the {final.measure} {100 * low:.1f} to {100 * high:.1f} %)"
    return f"{100 * final.accuracy:.2f} % of {final.images:,} test images right (95 % interval {100 * low:.1f} to {100 * high:.1f} %)"


def _spent(run: Run) -> str:
    source = sum(run.sources.values())
    final = f", then {run.final.seconds:.1f} s of final training" if run.final else ""
    return f"{_labels(run)}, {source:,} source labels, {run.wall_s:.1f} s of search{final}."


def _labels(run: Run) -> str:
    states = Counter(row.state for row in run.rows)
    aside = [f"{states[state]} {word}" for state, word in (("pruned", "stopped early"), ("failed", "failed")) if states[state]]
    return f"{len(run.rows):,} labels" + (f" ({', '.join(aside)})" if aside else "")


def best(run: Run, drawing: Html | None, why: str | None) -> Html:
    """The best network: its drawing, its architecture and its values."""
    row = run.best_row
    if row is None:
        return tag("p", "There is no best network.")
    missing = tag("p", f"It could not be drawn: {why}", attributes={"class": "note"})
    shown = scrolled(drawing, label="Drawing of the best network") if drawing else missing
    size = _size(run.final, run.method) if run.final else ""
    return joined(shown, tag("p", f"{described(run, row)}.{size}"), code(row.arch, wrapped=True))


def _size(final: Final, method: str) -> str:
    sizes = f"{final.params:,} parameters and {final.flops:,} multiply-adds"
    if final.name == method:
        return f" The final network has {sizes}."
    return f" The final network is another one, which was better on the validation images: {final.name}, with {sizes}."


def test(run: Run) -> Html | None:
    """How the final network does on the test images; None without a final training."""
    if run.final is None:
        return None
    does = "classifies" if run.final.measure == ACCURACY else "reaches"
    which = "" if run.final.name == run.method else f", {run.final.name},"
    parts = [tag("h2", "On the test images", attributes={"id": "test-heading"}), tag("p", f"The final network{which} {does} {_tested(run.final)}.")]
    if run.final.compare:
        rows: list[Cells] = [
            [name, f"{100 * accuracy:.2f} %", f"{params:,}", labels, arch] for name, accuracy, params, labels, arch in run.final.compare
        ]
        heads = ["chosen by", f"test {run.final.measure}", "parameters", "labels", "architecture"]
        parts.append(table(heads, rows, caption="What was tried; what has no labels searched nothing"))
    found = run.mistakes
    if run.final.measure != ACCURACY:
        return tag("section", *parts, attributes={"aria-labelledby": "test-heading"})
    if found is None:
        parts.append(joined(_picture(run)))
        parts.append(tag("p", "The mistakes of this network were not stored; the same search command writes them.", attributes={"class": "note"}))
    else:
        parts += [_confusion(found) if len(found.classes) <= COUNTED else joined(_picture(run), _errors(found)), _worst(found)]
    return tag("section", *parts, attributes={"aria-labelledby": "test-heading"})


def _confusion(found: Mistakes) -> Html:
    """All counts; the darker a cell, the larger the share of its true class."""
    head = tag("tr", tag("th", "true class", attributes={"scope": "col"}), *(tag("th", name, attributes={"scope": "col"}) for name in found.classes))
    lines = []
    for i, (name, counts) in enumerate(zip(found.classes, found.counts, strict=True)):
        cells = [tag("td", count, attributes={"class": _shade(count, sum(counts), hit=i == j)}) for j, count in enumerate(counts)]
        lines.append(tag("tr", tag("th", name, attributes={"scope": "row"}), *cells))
    caption = "Images by true class, from top to bottom, and chosen class, from left to right; blue is right, red is wrong"
    made = tag("table", tag("caption", caption), tag("thead", head), tag("tbody", *lines), attributes={"class": "confusion"})
    return scrolled(made, label="Confusion matrix")


def _shade(count: int, total: int, *, hit: bool) -> str:
    """The class of a cell: the square root of the share, because errors are few."""
    level = round(SHADES * (count / total) ** 0.5) if total else 0
    return f"{'hit' if hit else 'miss'}-{max(level, 1)}" if count else "zero"


def _errors(found: Mistakes) -> Html:
    import numpy as np

    counts = np.array(found.counts)
    rows: list[Cells] = [
        [found.classes[i], found.classes[j], int(counts[i, j]), int(counts[i].sum())] for i, j in frequent_errors(counts)
    ]
    return table(["true class", "chosen class", "images", "of"], rows, caption="The most frequent errors")


def _picture(run: Run) -> Html | None:
    """confusion.png within the page, if it is there."""
    path = run.folder / "confusion.png"
    if not path.is_file():
        return None
    data = base64.b64encode(path.read_bytes()).decode()
    return tag("img", attributes={"src": f"data:image/png;base64,{data}", "alt": "Confusion matrix", "class": "picture"})


def _worst(found: Mistakes) -> Html:
    if not found.worst:
        return tag("p", "No test image was given a wrong class.")
    shown = []
    for one in found.worst:
        said = f"{one.true}, taken for {one.chosen}"
        picture = tag("img", attributes={"src": f"data:image/png;base64,{one.png}", "alt": f"Test image {one.image}: {said}"})
        caption = tag("figcaption", tag("b", one.true), " taken for ", tag("b", one.chosen), f", certainty {100 * one.confidence:.0f} %")
        shown.append(tag("li", tag("figure", picture, caption)))
    heading = "The mistake" if len(shown) == 1 else f"The {len(shown)} mistakes of the highest certainty"
    return joined(tag("h3", heading), tag("ol", *shown, attributes={"class": "mistakes"}))


def cost(run: Run) -> Html:
    """What every label and every second was spent on."""
    labels: list[Cells] = [["evaluations", _labels(run), f"{run.seconds:.3g}"]]
    if run.epochs is not None:
        labels.append(["epochs trained for them", f"{run.epochs:,}", None])
    for name, count in run.measurements.items():
        labels.append([f"measurements of {name}", f"{count:,}", None])
    for origin, count in run.sources.items():
        labels.append([f"source labels from {origin}", f"{count:,}", None])
    labels.append([f"generation, guidance {run.guidance}", f"{run.nfe:,} network evaluations, {run.predictor_nfe:,} of the predictor", None])
    if run.wall_s >= run.seconds:  # the evaluations of several workers overlap
        labels.append(["choosing what to evaluate, and the rest of the search", None, f"{run.wall_s - run.seconds:.1f}"])
    else:
        labels.append(["whole search, evaluations side by side", None, f"{run.wall_s:.1f}"])
    if run.final:
        labels.append(["final training", f"{run.final.epochs:,} epochs", f"{run.final.seconds:.1f}"])
    caption = "Labels and seconds; those of each evaluation stand in the table of all evaluations"
    return table(["what", "count", "seconds"], labels, caption=caption, attributes={"class": "words"})


def files(run: Run, space: SearchSpace | None) -> Html:
    """Every file of the folder, and what can be done with it."""
    parts = []
    for one in kept_files(run):
        title = tag("h3", tag("code", one.name), tag("span", f" {size_of(run.folder / one.name)}", attributes={"class": "note"}))
        parts.append(joined(title, tag("p", f"{one.what[0].upper()}{one.what[1:]}."), code(one.code) if one.code else None))
    if run.best is not None:
        commands = [command for command in (draw_command(run, run.best), export_command(run, space)) if command]
        also = " and writes its network, untrained" if len(commands) > 1 else ""
        said = tag("p", f"Draws an architecture{also}; here the best one.")
        parts.append(joined(tag("h3", "Any other network"), said, code("\n".join(commands), wrapped=True)))
    return joined(*parts)
