"""How every experiment begins: options, reference data, threads."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

from experiments.shared.results import ROOT, commit, module

REFERENCE = ROOT.parent / "shared" / "data"
DATASETS = ("cifar10", "cifar100", "ImageNet16-120")
"""Datasets of NAS-Bench-201."""


def parser(doc: str | None) -> argparse.ArgumentParser:
    """A parser of the running script's options; its help begins with the script's docstring."""
    return argparse.ArgumentParser(f"python -m {module()}", description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)


def begin() -> Path:
    """Begin an experiment: note the commit of the code that runs, and return the folder of reference data."""
    commit()
    return use_reference_data()


def use_reference_data() -> Path:
    """Point the package at `$DIFFNAG_DATA`, or else at the reference data beside the checkout; returns the folder."""
    folder = Path(os.environ.setdefault("DIFFNAG_DATA", str(REFERENCE)))
    if not (folder / "nas_bench_201.csv.gz").is_file():
        sys.exit(f"experiments need nas_bench_201.csv.gz in $DIFFNAG_DATA or {REFERENCE}")
    return folder


def one_thread() -> None:
    """Let torch use one thread, for processes that share the cores."""
    import torch

    torch.set_num_threads(1)
