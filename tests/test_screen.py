"""What a search prints: lines that fit the terminal, predictions only in the unit of the labels, no bar that is left over."""

from __future__ import annotations

import io
import re
from pathlib import Path

import pytest
from rich.console import Console

from diffnag.search_loop.loop import Search
from diffnag.search_loop.options import SearchOptions
from diffnag.search_loop.show import screen as screens
from diffnag.search_loop.show.screen import Screen
from diffnag.search_loop.show.text import folded
from diffnag.search_loop.trial import Trial
from diffnag.search_spaces.nasbench201.space import NASBench201
from tests.search_fakes import FlakyOracle, Prior, RandomGenerator, ToyOracle
from tests.toy_search import CheckedPredictor

WORDS = "predictor meta, 69,830 source labels (4,152 from imagenet32/a, 31,250 from nasbench201/ImageNet16-120)"


@pytest.mark.parametrize("width", [20, 33, 47, 80, 200])
@pytest.mark.parametrize("indent", [0, 6])
def test_lines_are_broken_between_words(width: int, indent: int) -> None:
    lines = folded(WORDS, width=width, label="x" * indent and "about", indent=indent).splitlines()
    assert all(len(line) <= width for line in lines) and (len(lines) == 1) == (width == 200)
    assert " ".join(line[indent:] for line in lines).split() == WORDS.split() or width == 20  # where the longest word does not fit
    assert all(line.startswith(" " * indent) for line in lines[1:]) and lines[0].startswith("about"[:indent])


def test_long_words_are_broken_behind_separators() -> None:
    arch = "|nor_conv_3x3~0|+|nor_conv_3x3~0|nor_conv_3x3~1|+|skip_connect~0|nor_conv_1x1~1|nor_conv_3x3~2|"
    lines = folded(f"best {arch} found", width=44).splitlines()
    assert "".join(lines[1:-1]) + lines[-1].partition(" ")[0] == arch and lines[0] == "best"
    assert all(line[-1] in "|+" for line in lines[1:-1])
    assert folded("x" * 50, width=20).splitlines() == ["x" * 20, "x" * 20, "x" * 10]


def printed(monkeypatch: pytest.MonkeyPatch, folder: Path, *, width: int, terminal: bool, oracle: ToyOracle, **changes: object) -> str:
    """The output of a search on a terminal, or in a file, of so many columns."""
    out = io.StringIO()
    console = Console(file=out, width=width, force_terminal=terminal, highlight=False, legacy_windows=False)
    monkeypatch.setattr(screens, "Console", lambda **_: console)
    space = NASBench201()
    options = SearchOptions(dataset="cifar10", **{"method": "random", "budget": 8, "batch": 2, **changes})  # type: ignore[arg-type]
    parts = {"predictor": CheckedPredictor("prior", Prior()), "generator": RandomGenerator(space)} if options.method == "diffnag" else {}
    with Search(options, oracle=oracle, **parts) as search, Screen() as screen:  # type: ignore[arg-type]
        screen.begin(search, folder=folder)
        screen.note("a sentence for the user, long enough to be broken somewhere in the midst of its many words")
        search.work(on_trial=screen.trial, on_note=screen.note)
        screen.progress("training", 1, 4)
        screen.end(search.result(), space, folder=folder)
    return out.getvalue()


@pytest.mark.parametrize("width", [60, 80, 120])
@pytest.mark.parametrize("terminal", [False, True], ids=["file", "terminal"])
def test_no_line_is_longer_than_the_terminal(width: int, terminal: bool, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    folder = tmp_path / ("a-long-name-" * 4) / ("of-a-folder-" * 4)
    said = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", printed(monkeypatch, folder, width=width, terminal=terminal, oracle=FlakyOracle()))
    assert max(len(line.rsplit("\r", 1)[-1]) for line in said.splitlines()) <= min(width, 100)
    assert "best of 8 labels" in said and "failed: RuntimeError: out of memory" in said


def test_the_bar_is_gone_before_the_summary(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    said = printed(monkeypatch, tmp_path, width=80, terminal=True, oracle=ToyOracle())
    summary = said[said.index("best of 8 labels") :]
    assert "\x1b[?25l" in said and "\x1b[?25h" in said, "the cursor was hidden for the bar, and is back"
    assert "\x1b[" not in summary and " ".join(summary.split()).endswith("--budget continues the search")


def test_predictions_are_shown_in_the_unit_of_the_labels_only(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Before any label a predictor gives standardised scores: those of the first round are left out."""
    shown = {"method": "diffnag", "predictor": "prior", "candidates": 16, "budget": 4}
    said = printed(monkeypatch, tmp_path, width=100, terminal=False, oracle=ToyOracle(), **shown)
    assert said.count("when it was chosen") == 2 and said.count("  1  ") == said.count("  4  ") == 1


def test_labels_known_are_those_with_a_value() -> None:
    class Late(ToyOracle):
        def query(self, *arguments: object, **more: object) -> float:
            if len(self.asked) < 2:
                self.asked.append((NASBench201().of_operations((0,) * 6), "val"))
                raise RuntimeError("out of memory")
            return super().query(*arguments, **more)  # type: ignore[arg-type]

    with Search(SearchOptions(dataset="cifar10", method="random", budget=8, batch=2), oracle=Late()) as search:
        trials: tuple[Trial, ...] = search.run().trials
    assert [trial.labels_known for trial in trials] == [0, 0, 0, 0, 2, 2, 4, 4]
