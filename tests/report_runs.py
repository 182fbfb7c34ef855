"""Folders of small searches whose pages the tests read."""

from __future__ import annotations

from pathlib import Path

from diffnag.arch import Arch
from tests.search_fakes import ToyOracle
from tests.stripes import call, narrow_networks, write_stripes

TOY = ("--dataset", "cifar10", "--oracle", "tests.search_fakes:ToyOracle", "--method", "random")
HOSTILE = "<script>alert(1)</script>"


class Fails(ToyOracle):
    """Answers nothing."""

    def query(self, arch: Arch, *, dataset: str, split: str, epochs: int | None = None) -> float:
        raise RuntimeError("no answer")


def front_run(out: Path) -> Path:
    """A search for a front, of 12 labels."""
    assert call(*TOY, "--minimise", "params", "--budget", "12", "--out", out) == 0
    return out


def image_run(out: Path, data: Path) -> Path:
    """A search on images, which are written to the folder `data`, with a model and its mistakes."""
    with narrow_networks():
        stripes = write_stripes(data)
        assert call("--dataset", stripes, "--method", "random", "--budget", "2", "--epochs", "1", "--device", "cpu", "--out", out) == 0
    return out


def failed_run(out: Path) -> Path:
    """A search in which every evaluation fails."""
    assert call("--dataset", "cifar10", "--oracle", "tests.report_runs:Fails", "--method", "random", "--budget", "3", "--out", out) == 1
    return out
