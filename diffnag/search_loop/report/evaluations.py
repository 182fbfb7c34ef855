"""All evaluations of a search: as points of a scatter, as a table, and as drawings."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from diffnag.drawing.inline import inline_svg
from diffnag.drawing.picture import picture_of
from diffnag.errors import UserError, in_a_line
from diffnag.objectives.quantities import with_unit
from diffnag.search_loop.report.html import Cells, Html, joined, table, tag
from diffnag.search_loop.report.run import Row, Run

if TYPE_CHECKING:
    from diffnag.arch import Arch
    from diffnag.protocols import SearchSpace, Size

BOXES = 1_000
"""Most boxes in all drawings of evaluations that are not on the front: they keep the page small, and quickly made."""
TRAINED = "training"
"""Kind of the oracle whose seconds are those of a training."""


@dataclass(frozen=True)
class Axis:
    """What the scatter may show from left to right: its title, and the value of each row, None where there is none."""

    name: str
    title: str
    values: tuple[float | None, ...]


def axes_of(run: Run, space: SearchSpace | None) -> list[Axis]:
    """The axes that this run can fill, the most useful first."""
    rows, found = run.rows, []
    for one in run.objectives[1:]:
        better = "more is better" if one.maximise else "less is better"
        predicted = "" if one.measured else ", predicted"
        title = f"{one.name}{f', {one.unit}' if one.unit else ''}{predicted} ({better})"
        found.append(Axis(one.name, title, tuple(row.values.get(one.name) for row in rows)))
    if "params" not in {axis.name for axis in found} and space is not None:
        found.append(Axis("params", "trainable parameters", _params(run, space)))
    if run.kind == TRAINED:
        found.append(Axis("seconds", "seconds of the evaluation", tuple(row.seconds for row in rows)))
    predicted_values = tuple(row.predicted if run.predictor != "none" and k else None for k, row in enumerate(rows))  # the first ones are scores
    found.append(Axis("predicted", f"{run.label.name} that was predicted when it was chosen", predicted_values))
    found.append(Axis("label", "labels paid for (evaluations)", tuple(range(1, len(rows) + 1))))
    return [axis for axis in found if sum(value is not None for value in axis.values) > len(rows) // 2]


def _params(run: Run, space: SearchSpace) -> tuple[float | None, ...]:
    """Parameters of each architecture in the final network, or in that of the benchmark; None where they cannot be counted."""
    try:
        count = _counter(run, space)
        return tuple(float(count(space.from_str(row.arch)).params) if count else None for row in run.rows)
    except (Exception, SystemExit):  # a space of someone else may fail in any way, and the page can do without
        return (None,) * len(run.rows)


def _counter(run: Run, space: SearchSpace) -> Any:
    if run.final is not None:
        from diffnag.networks.plan import Skeleton

        skeleton, final = Skeleton(**run.final.skeleton), run.final

        def sized(arch: Arch) -> Size:
            return skeleton.size(arch, space, num_classes=len(final.classes), image_size=final.image_size)

        return sized
    if run.dataset not in space.datasets:
        return None
    classes, side = space.datasets[run.dataset]
    return lambda arch: space.size(arch, num_classes=classes, image_size=side)


def points_of(run: Run, axes: Sequence[Axis]) -> list[dict[str, Any]]:
    """The evaluations that have a value, for the script of the page."""
    best, beside = run.best_row, {one.name for one in run.objectives}
    counted = next((axis.values for axis in axes if axis.name == "params" and axis.name not in beside), (None,) * len(run.rows))
    sizes = [[] if count is None else [f"{count:,.0f} parameters"] for count in counted]
    return [
        {
            "n": row.number, "y": row.value, "x": [axis.values[k] for axis in axes], "state": row.state, "front": row.on_front,
            "best": row is best, "text": "; ".join([described(run, row), *sizes[k], *paid(run, row)]), "arch": row.arch, "title": titled(run, k),
        }
        for k, row in enumerate(run.rows) if row.value is not None
    ]  # fmt: skip


def titled(run: Run, k: int) -> str:
    """A title for row `k`."""
    row = run.rows[k]
    best = "the best" if run.hypervolumes is None else f"the best {run.label.name}"
    marks = [word for there, word in ((row is run.best_row, best), (row.on_front, "on the front"), (row.state == "pruned", "stopped early")) if there]
    return f"Evaluation {k + 1} of {len(run.rows)}{', ' if marks else ''}{', '.join(marks)}"


def described(run: Run, row: Row) -> str:
    """The values of a row in words."""
    measure, units = run.measure, {one.name: one.unit for one in run.objectives}
    parts = [] if row.value is None else [f"{measure.name(run.reward)} {measure.figure(row.value)} {measure.unit}".rstrip()]
    doubtful = {one.name for one in run.objectives if not one.measured}
    for name, value in row.values.items():
        parts.append(f"{name} {with_unit(value, units.get(name, ''))}{', predicted' if name in doubtful else ''}")
    test = row.test if row.test is not None else run.best_test if row is run.best_row else None
    if test is not None and run.reward != "test":
        parts.append(f"{measure.name('test')} {measure.figure(test)} {measure.unit}".rstrip())
    return "; ".join(parts)


def paid(run: Run, row: Row) -> list[str]:
    """What an evaluation took, where it was a training."""
    return [] if run.kind != TRAINED else [*([] if row.epochs is None else [f"{row.epochs} epochs"]), f"{row.seconds:.1f} s"]


def evaluations_table(run: Run, axes: Sequence[Axis]) -> Html:
    """Everything that the scatter and the curve show, and what failed, one row for each label."""
    measure, others = run.measure, [one.name for one in run.objectives[1:]]
    sized = [axis for axis in axes if axis.name == "params" and "params" not in others]
    columns = [*others, *(axis.name for axis in sized)]
    trained = any(row.epochs is not None for row in run.rows)
    heads = ["label", measure.name(run.reward), *columns, "state", "best so far", *(["epochs"] if trained else []), "seconds", "architecture"]
    rows: list[Cells] = []
    for k, row in enumerate(run.rows):
        best = run.curve[k] if k < len(run.curve) else None
        units = [run.objectives[1 + i].unit for i in range(len(others))]
        values = [with_unit(row.values[name], unit) if name in row.values else None for name, unit in zip(others, units, strict=True)]
        sizes = [None if axis.values[k] is None else f"{axis.values[k]:,.0f}" for axis in sized]
        state = "front" if row.on_front else {"pruned": "stopped early", "failed": f"failed: {row.error}"}.get(row.state, row.state)
        show = tag("button", row.arch, attributes={"type": "button", "class": "arch", "data-number": row.number})
        rows.append([
            k + 1, None if row.value is None else measure.figure(row.value), *values, *sizes, state, None if best is None else measure.figure(best),
            *([row.epochs] if trained else []), "< 0.01" if row.seconds < 0.01 else f"{row.seconds:.2f}", show if row.value is not None else row.arch,
        ])  # fmt: skip
    return table(heads, rows, caption="All evaluations; the button with an architecture shows its drawing")


def drawings_of(run: Run, space: SearchSpace) -> tuple[Mapping[int, Html], str | None]:
    """Drawings by number of the evaluation, and why one is missing, None if nothing failed.

    Drawn are the best, the front, and of the others those with the best values, as long as they have no more than `BOXES` boxes.
    """
    sign = 1.0 if run.label.maximise else -1.0
    first = [row for row in run.rows if row is run.best_row or row.on_front]
    chosen = {row.number for row in first}
    rest = sorted((row for row in run.rows if row.value is not None and row.number not in chosen), key=lambda row: -sign * (row.value or 0.0))
    drawn: dict[int, Html] = {}
    boxes = 0
    try:
        for row in (*first, *rest):
            arch = space.from_str(row.arch)
            if row.number not in chosen:
                boxes += len(picture_of(arch, space).texts)
                if boxes > BOXES:
                    break
            drawn[row.number] = Html(inline_svg(arch, space, title=f"Drawing of {row.arch}"))
    except UserError as error:
        return drawn, str(error)
    except (Exception, SystemExit) as error:  # a space of someone else may fail in any way
        return drawn, in_a_line(error)
    return drawn, None


def templates(drawings: Mapping[int, Html]) -> Html:
    """The drawings where the script of the page finds them."""
    return joined(*(tag("template", drawing, attributes={"id": f"drawing-{number}"}) for number, drawing in drawings.items()))
