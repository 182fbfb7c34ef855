"""Arguments derived from a dataclass: how they are read, what is refused, and that nothing heavy is loaded."""

from __future__ import annotations

import argparse
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from diffnag.command.options import add_options, check_numbers, given, option, options_from
from diffnag.errors import UserError


@dataclass(frozen=True)
class Example:
    name: str = option(help="what it is called")
    steps: int = option(1500, help="how many, 5 % of them at first", most=10_000)
    joint: int = option(0, help="units", least=0)
    rate: float | None = option(None, help="speed", metavar="R")
    share: float = option(0.5, help="a part", most=1)
    where: Path | None = option(None, help="a file")
    limit: tuple[str, ...] = option((), help="may be repeated")
    fast: bool = option(False, help="hurry")
    shout: str = option("A", help="a letter", parse=str.upper)
    inner: int = 7


def parsed(*arguments: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser("example")
    add_options(parser, Example)
    return parser.parse_args(["--name", "x", *arguments])


def test_values_are_read_by_the_type_of_their_field() -> None:
    args = parsed("--steps", "1e3", "--rate", "2", "--where", "a/b", "--limit", "p", "--limit", "q", "--fast", "--shout", "b")
    assert options_from(args, Example) == Example("x", 1000, 0, 2.0, 0.5, Path("a/b"), ("p", "q"), True, "B")
    assert given(args, Example).keys() == {"name", "steps", "rate", "where", "limit", "fast", "shout"}


def test_what_is_not_given_is_the_default_of_the_class() -> None:
    assert options_from(parsed(), Example) == Example("x")
    assert given(parsed(), Example) == {"name": "x"}
    assert options_from(parsed("--joint", "0", "--steps", "10000"), Example) == Example("x", 10_000)


def test_whole_numbers_are_exact() -> None:
    assert options_from(parsed("--joint", "9007199254740993"), Example).joint == 2**53 + 1


def test_help_has_the_defaults(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        parsed("--help")
    said = " ".join(capsys.readouterr().out.split())
    assert "how many, 5 % of them at first (default: 1500)" in said and "--rate R speed --share" in said
    assert "units (default: 0)" in said and "hurry --shout" in said and "--limit LIMIT may be repeated --fast" in said
    assert "--inner" not in said


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--steps", "0"), "argument --steps: '0' is not a whole number from 1 to 10,000"),
        (("--steps", "1e12"), "argument --steps: '1e12' is not a whole number from 1 to 10,000"),
        (("--steps", "2.5"), "argument --steps: '2.5' is not a whole number from 1 to 10,000"),
        (("--joint", "-1"), "argument --joint: '-1' is not a whole number of at least 0"),
        (("--joint", "inf"), "argument --joint: 'inf' is not a whole number of at least 0"),
        (("--rate", "nan"), "argument --rate: 'nan' is not a finite number of at least 0"),
        (("--share", "1.01"), "argument --share: '1.01' is not a finite number from 0 to 1"),
        (("--share", "half"), "argument --share: 'half' is not a finite number from 0 to 1"),
    ],
)
def test_numbers_out_of_range_are_refused(arguments: tuple[str, str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        parsed(*arguments)
    assert end.value.code == 2 and message in capsys.readouterr().err


def test_a_field_without_a_default_is_required(capsys: pytest.CaptureFixture[str]) -> None:
    parser = argparse.ArgumentParser("example")
    add_options(parser, Example)
    with pytest.raises(SystemExit):
        parser.parse_args([])
    assert "the following arguments are required: --name" in capsys.readouterr().err


def test_fields_may_be_left_out() -> None:
    parser = argparse.ArgumentParser("example")
    add_options(parser, Example, without=("name", "steps"))
    with pytest.raises(SystemExit):
        parser.parse_args(["--steps", "5"])
    assert parser.parse_args(["--joint", "5"]).joint == 5


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"steps": 0}, "steps is 0; accepted is a whole number from 1 to 10,000"),
        ({"steps": 2.5}, r"steps is 2.5; accepted is a whole number"),
        ({"steps": True}, r"steps is True; accepted is a whole number"),
        ({"steps": "5"}, r"steps is '5'; accepted is a whole number"),
        ({"rate": float("nan")}, "rate is nan; accepted is a finite number of at least 0"),
        ({"share": 2}, "share is 2; accepted is a finite number from 0 to 1"),
    ],
)
def test_numbers_of_python_callers_are_checked_too(changes: dict[str, float], message: str) -> None:
    check_numbers(Example("x"))
    with pytest.raises(UserError, match=message):
        check_numbers(Example("x", **changes))  # type: ignore[arg-type]


def test_nothing_heavy_is_loaded() -> None:
    code = "import sys, diffnag.command.options; sys.exit(bool({'torch', 'numpy', 'rich'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
