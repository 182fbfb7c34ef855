"""Generated pages: marks are filled, and templates refuse what is missing."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from jinja2 import UndefinedError

from experiments import pages
from experiments.shared import results, templates
from experiments.shared.templates import figure, general, render, signed, span


def test_parts_are_filled_between_their_marks() -> None:
    text = "a\n<!-- x -->\nold\n<!-- /x -->\nb\n<!-- y -->\n<!-- /y -->\n"
    parts = {"x": "new {}\n".format, "y": "z\n".format, "not there": "?".format}
    assert pages.filled(text, "../", parts) == "a\n<!-- x -->\nnew ../\n<!-- /x -->\nb\n<!-- y -->\nz\n<!-- /y -->\n"
    with pytest.raises(ValueError, match="mark <!-- x --> without <!-- /x -->"):
        pages.filled("<!-- x -->\n", "", parts)


@pytest.mark.parametrize("mark", pages.PARTS)
def test_every_part_has_one_place(mark: str) -> None:
    assert sum(path.read_text().count(f"<!-- {mark} -->") for path in (pages.README, *pages.DOCS.glob("*.md"))) == 1


def test_every_result_reaches_a_page() -> None:
    """Files of results are linked from the README, from a page of docs, or from a page of results that these link."""
    linked = set()
    for page in (pages.README, *pages.DOCS.glob("*.md"), *results.RESULTS.glob("*.md")):
        linked |= {(page.parent / target).resolve() for target in re.findall(r"\]\(([^)#:]+)\)", page.read_text())}
    files = [path for path in results.RESULTS.iterdir() if path.is_file()]
    assert len(files) > 20
    lost = [path.name for path in files if path not in linked and path.with_suffix(".md") not in linked]
    assert lost == []


def test_check_changes_nothing_and_reports_what_is_old(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    page = tmp_path / "page.md"
    page.write_text("old")
    monkeypatch.setattr(pages, "ROOT", tmp_path)
    monkeypatch.setattr(pages, "pages", lambda: {page: "new"})
    for arguments, code, text in ((["--check"], 1, "old"), ([], 0, "new"), (["--check"], 0, "new")):
        monkeypatch.setattr("sys.argv", ["pages", *arguments])
        with pytest.raises(SystemExit) as end:
            pages.main()
        assert (end.value.code, page.read_text()) == (code, text)
    assert capsys.readouterr().out == "page.md is not up to date\npage.md written\n"


def test_templates_have_filters_and_refuse_missing_values(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(templates, "TEMPLATES", tmp_path)
    (tmp_path / "a.md.j2").write_text("{% for x in xs %}\n{{ x | percent }} {{ x | fixed(3) }}\n{% endfor %}\n{{ 12345 | count }} & `{{ n }}`\n")
    assert render("a", {"xs": [0.5, 1], "n": "b<"}) == "50.0 0.500\n100.0 1.000\n12,345 & `b<`\n"
    with pytest.raises(UndefinedError, match="'n' is undefined"):
        render("a", {"xs": []})


def test_numbers() -> None:
    assert (span([3, 1000, 20]), span([5, 5]), general(2.50), general(None), signed(0.5, 2)) == ("3 to 1,000", "5", "2.5", None, "+0.50")
    assert (figure(94.373, 94.4), figure(-0.59384, -0.58), figure(None, 1.0)) == ("94.37", "-0.5938", "")
