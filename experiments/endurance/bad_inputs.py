"""Run the corpus of bad inputs: `python -m experiments.endurance bad-inputs`."""

from __future__ import annotations

import argparse
import hashlib
import os
import re
import shutil
import tempfile
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from experiments.endurance.forked import ENDLESS, Ended, preload, run_command
from experiments.endurance.inputs.bad_files import make_inputs
from experiments.endurance.inputs.corpus import BadInput, corpus

LIMIT_S = 60.0
"""No bad input takes longer on a busy machine."""
LONGEST = 1_010
"""Characters of a sentence."""
OURS = ("cache",)
TEMPORARY = (("tmp", "torchinductor_root"), ("tmp", f"diffnag-{os.getuid()}"), ("tmp", ".cache"))
"""Folders that torch makes, that hold the locks of workers, and that hold caches of a user whose home is the folder of the case."""
EVERYWHERE: Mapping[str, str] = {"COLUMNS": "200", "CUDA_VISIBLE_DEVICES": "", "DIFFNAG_DATA": ""}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the sub-command."""
    parser.add_argument("--sample", type=int, metavar="N", help="run every Nth case only, chosen by a checksum of its name")
    parser.add_argument("--only", default="", metavar="REGEX", help="run the cases whose name has this regular expression")
    parser.add_argument("--list", action="store_true", help="print the names of the cases")
    parser.add_argument("--show", action="store_true", help="print the sentence of each case")


def main(args: argparse.Namespace) -> int:
    """Run the cases; returns how many fell."""
    cases = [case for case in sample(corpus(), args.sample or 1) if re.search(args.only, case.name)]
    if args.list:
        print(*(case.name for case in cases), sep="\n")
        print(*(f"{command}: {count}" for command, count in Counter(case.command for case in cases).items()), sep="\n")
        return 0
    preload()
    fallen = 0
    with tempfile.TemporaryDirectory(prefix="endurance-") as folder:
        places = make_inputs(Path(folder) / "inputs")
        for number, case in enumerate(cases, start=1):
            ended, faults = run_case(case, Path(folder), places)
            if ended.exit_code == ENDLESS:  # a fork of a busy process may stop for reasons of its own
                ended, faults = run_case(case, Path(folder), places)
            if faults:
                fallen += 1
                print(f"FELL {case.name}\n  {'; '.join(faults)}\n  {' '.join(case.args)}\n  {ended.stderr.strip()[-1500:]}", flush=True)
            elif args.show:
                print(f"{case.name}\n  {ended.seconds:.1f} s: {sentence(ended)}", flush=True)
            if number % 100 == 0:
                print(f"{number}/{len(cases)}, {fallen} fell", flush=True)
    print(f"{len(cases)} bad inputs, {fallen} fell")
    return fallen


def sample(cases: Sequence[BadInput], step: int) -> list[BadInput]:
    """One of `step` cases; the same ones on any machine and whatever other cases there are."""
    return [case for case in cases if int(hashlib.sha256(case.name.encode()).hexdigest(), 16) % step == 0]


def run_case(case: BadInput, folder: Path, places: Mapping[str, str]) -> tuple[Ended, list[str]]:
    """Run one case in a new folder within `folder`; returns how it ended, and what is wrong with that."""
    here = Path(tempfile.mkdtemp(prefix="case-", dir=folder))
    places = {**places, "OUT": str(here)}

    def filled(text: str) -> str:
        return re.sub(r"\$([A-Z]+)", lambda found: places.get(found[1], found[0]), text)

    module, *first = case.command.split()
    (here / "tmp").mkdir()
    own = {"DIFFNAG_CACHE": str(here / "cache"), "TMPDIR": str(here / "tmp"), "HOME": str(here / "tmp")}
    env = {**EVERYWHERE, **own, **{key: filled(value) for key, value in case.env.items()}}
    try:
        ended = run_command(f"diffnag.{module}", [*first, *map(filled, case.args)], folder=here, env=env, seconds=LIMIT_S)
        return ended, list(faults(case, ended, left_behind(here)))
    finally:
        shutil.rmtree(here, ignore_errors=True)


def faults(case: BadInput, ended: Ended, left: Sequence[str]) -> Iterator[str]:
    """What is wrong with the end of a case."""
    if ended.exit_code == ENDLESS:
        yield f"did not end within {LIMIT_S:g} s"
        return
    if ended.exit_code != case.exit_code:
        yield f"exit code {ended.exit_code}, not {case.exit_code}"
    if "Traceback" in ended.stderr:
        yield "traceback"
    if "Warning" in ended.stderr:
        yield "warning"
    said = sentence(ended)
    if case.exit_code == 2 and not said:
        yield "no sentence"
    if len(said) > LONGEST:
        yield f"a sentence of {len(said)} characters"
    if not re.search(case.says, said or ended.stdout):
        yield f"does not say {case.says!r}"
    if more := [name for name in left if name not in case.leaves]:
        yield f"left {', '.join(more)}"


def sentence(ended: Ended) -> str:
    """The error of a command, behind its usage."""
    lines = ended.stderr.strip().splitlines()
    found = [at for at, line in enumerate(lines) if re.match(r"(python -m [\w. ]+: )?error: ", line)]
    return "" if len(found) != 1 or found[0] != len(lines) - 1 else lines[-1].split("error: ", 1)[1]


def left_behind(folder: Path) -> list[str]:
    """Files and folders below `folder`, but what belongs to the system's folder for temporary files and to the user's cache."""
    names = (path.relative_to(folder) for path in folder.rglob("*"))
    return sorted(name.as_posix() for name in names if name.parts[0] not in OURS and name.parts[:2] not in TEMPORARY and name.parts != ("tmp",))
