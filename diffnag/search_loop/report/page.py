"""report.html: one page with all that a search has found. It needs nothing beside itself, and may ask nothing of a network."""

from __future__ import annotations

import base64
import hashlib
from pathlib import Path
from string import Template
from typing import TYPE_CHECKING

from diffnag.errors import UserError
from diffnag.io.files import written_whole
from diffnag.search_loop.report import sections
from diffnag.search_loop.report.evaluations import axes_of, drawings_of, evaluations_table, points_of, templates
from diffnag.search_loop.report.html import Html, script_data, tag
from diffnag.search_loop.report.run import Run, read_run

if TYPE_CHECKING:
    from diffnag.protocols import SearchSpace

REPORT = "report.html"
"""File in the run's folder."""
_HERE = Path(__file__).parent


def write_report(folder: Path, *, own_space: str | None = None) -> Path:
    """Write the page of the search in `folder` from its files, and return its path.

    A space of someone else's code, `package.module:Class`, is loaded only if `own_space` names it as well, because files alone must run no
    code; without it the page has no drawings. Raises `UserError` for a folder that is no search's, for damaged files, and for another space.
    """
    run = read_run(folder)
    if own_space not in (None, run.space):
        raise UserError(f"{folder} is a search in space {run.space!r}, not in {own_space!r}")
    from diffnag.spaces.loading import load_space

    page = filled(run, load_space(run.space) if own_space or ":" not in run.space else None)
    path = folder / REPORT
    with written_whole(path) as temporary:
        temporary.write_text(page, encoding="utf-8", errors="backslashreplace")
    return path


def filled(run: Run, space: SearchSpace | None) -> str:
    """The page. Its policy allows the style and the script that stand in it, by their checksums, and pictures that are in it."""
    style, script = ((_HERE / f"page.{kind}").read_text(encoding="utf-8") for kind in ("css", "js"))
    axes = axes_of(run, space)
    drawings, why = drawings_of(run, space) if space else ({}, f"the code of space {run.space} was not loaded; --space {run.space} loads it")
    data = {
        "label": {"name": run.label.name, "title": sections.label_title(run), "maximise": run.label.maximise},
        "axes": [{"name": axis.name, "title": axis.title} for axis in axes],
        "spans": list(run.wanted), "minimised": [one.name for one in run.objectives if not one.maximise],
        "points": points_of(run, axes), "curve": list(run.curve), "hypervolumes": run.hypervolumes and list(run.hypervolumes),
        "failed": [k for k, row in enumerate(run.rows, start=1) if row.value is None],
    }  # fmt: skip
    inside = f"style-src '{_checksum(style)}'; script-src '{_checksum(script)}'"
    policy = f"default-src 'none'; img-src data:; {inside}; base-uri 'none'; form-action 'none'"
    options = [tag("option", axis.title, attributes={"value": k}) for k, axis in enumerate(axes)]
    best = drawings.get(run.best_row.number) if run.best_row else None
    return Template((_HERE / "page.html").read_text(encoding="utf-8")).substitute(
        policy=policy, style=style, script=script, data=script_data(data), title=tag("title", f"{run.dataset} in {run.space}: diffnag"),
        heading=tag("h1", f"{run.dataset} in {run.space}"), summary=sections.summary(run),
        scatter_heading="The front" if run.hypervolumes is not None else "What was evaluated", axes=Html("").join(options),
        evaluations=evaluations_table(run, axes), best=sections.best(run, best, why), test=sections.test(run) or "",
        cost=sections.cost(run), files=sections.files(run, space), drawings=templates(drawings),
        growth="" if run.hypervolumes is None else tag("div", attributes={"id": "growth", "class": "plot"}),
    )  # fmt: skip


def _checksum(text: str) -> str:
    """The checksum of an element's text as a content security policy writes it."""
    return f"sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}"
