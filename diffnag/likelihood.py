"""Log probabilities of architectures under a generator: `python -m diffnag.likelihood`."""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from diffnag.command import arguments
from diffnag.command.running import run_command
from diffnag.errors import UserError

if TYPE_CHECKING:
    from diffnag.arch import Arch
    from diffnag.protocols import SearchSpace


def main(argv: Sequence[str] | None = None) -> None:
    """Parse the command line, compute, print the mean and write a line for each architecture."""
    args = _parser().parse_args(argv)

    from diffnag.generators.loading import family_of, load_family
    from diffnag.io.device import resolve_device
    from diffnag.io.files import check_writable, written_whole
    from diffnag.protocols import HasLikelihood
    from diffnag.spaces.loading import load_space

    space = load_space(args.space)
    if args.out is not None:
        check_writable(args.out)
    archs, skipped = read_archs(args.archs, space)
    name = family_of(space, args.generator)
    generator = load_family(name).load(space, args.checkpoint, device=resolve_device(args.device))
    if not isinstance(generator, HasLikelihood):
        raise UserError(f"generator {name!r} does not know how probable an architecture is; accepted are those with log_prob, such as autoregressive")
    found = generator.log_prob(archs, seed=args.seed)
    if args.out is not None:
        with written_whole(args.out) as temporary, temporary.open("w") as file:
            for arch, nats in zip(archs, found.nats.tolist(), strict=True):
                file.write(json.dumps({"arch": space.to_str(arch), "nats": nats, "kind": found.kind}) + "\n")
    about = f"; {skipped:,} invalid {'sample was' if skipped == 1 else 'samples were'} skipped" if skipped else ""
    print(f"{len(archs):,} architectures: mean log probability {found.nats.mean():.4f} nats ({found.kind}){about}")
    if args.out is not None:
        print(f"wrote {args.out}")


def _parser() -> argparse.ArgumentParser:
    p = argparse.ArgumentParser(
        "python -m diffnag.likelihood", description="Compute how probable architectures are under a generator, in nats.",
        epilog="A bound is a lower bound of the log probability. Probabilities are those of the operator and adjacency matrices of an architecture.",
    )  # fmt: skip
    p.add_argument("archs", metavar="ARCHS.jsonl", type=Path, help="a file as generate writes it: lines of JSON with the key arch")
    p.add_argument("--space", default="nasbench201", help="search space, a name or package.module:Class (default: nasbench201)")
    p.add_argument("--generator", help="generator family, a name or package.module:Class (default: the one that the space prefers)")
    p.add_argument("--checkpoint", type=Path, help="a network of train_score (default: the shipped one)")
    p.add_argument("--out", type=Path, help="a .jsonl file for the log probability of each architecture, in the order of ARCHS")
    p.add_argument("--seed", type=arguments.seed, default=0, help="for families that estimate a bound (default: 0)")
    p.add_argument("--device", default="auto", help="auto, cpu, cuda, ... (default: auto)")
    return p


def read_archs(path: Path, space: SearchSpace) -> tuple[list[Arch], int]:
    """The architectures in a file of `generate`, and the number of its invalid samples; `UserError` for anything else."""
    archs: list[Arch] = []
    skipped = 0
    for number, line in _lines(path):
        text = line["arch"]
        if text is None:
            skipped += 1
            continue
        try:
            archs.append(space.from_str(text))
        except UserError as error:
            raise UserError(f"{path}, line {number}: {error}") from error
    if not archs:
        raise UserError(f"{path} has no valid architecture")
    return archs, skipped


def _lines(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """Number and content of each line that is not blank."""
    if path.exists() and not path.is_file():
        raise UserError(f"cannot read {path}: it is no regular file")  # to read a pipe may never end
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise UserError(f"{path} is no text; expected are lines of JSON with the key arch, as generate writes them") from error
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except (json.JSONDecodeError, RecursionError) as error:
            raise UserError(f"{path}, line {number} is no JSON; expected are lines with the key arch, as generate writes them") from error
        if not isinstance(row, dict) or "arch" not in row or not isinstance(row["arch"], str | None):
            raise UserError(f"{path}, line {number} has no text or null under the key arch, as lines of generate have")
        yield number, row


if __name__ == "__main__":
    run_command(main)
