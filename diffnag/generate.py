"""Generate architectures, steered by a predictor where one is named: `python -m diffnag.generate`."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from diffnag.command import arguments
from diffnag.command.options import add_options, given, options_from
from diffnag.command.running import run_command
from diffnag.errors import UserError
from diffnag.generators.loading import family_from_command_line, load_family

if TYPE_CHECKING:
    from diffnag.generators.base import Generation
    from diffnag.generators.diffusion.trace import Trace
    from diffnag.guidance.checked import CheckedPredictor
    from diffnag.protocols import Family, Generator, SearchSpace

MOST_SCALE = 1e6
"""The largest scale, and the largest weight: numbers that do not overflow."""
SHOWN = ("validity", "unpruned", "uniqueness", "novelty")


def parser(family: Family, name: str) -> argparse.ArgumentParser:
    """The command's arguments: those of every generator, and those of the family `name`."""
    p = argparse.ArgumentParser("python -m diffnag.generate", description="Generate architectures, steered by a predictor where one is named.")
    p.add_argument("--space", default="nasbench201", help="search space, a name or package.module:Class (default: nasbench201)")
    p.add_argument("--generator", help="generator family, a name or package.module:Class (default: the one that the space prefers)")
    p.add_argument("--n", type=arguments.positive_int, default=1024, help="how many samples (default: 1024)")
    p.add_argument("--out", type=Path, required=True, help="a .jsonl file; metrics go beside it, into .metrics.json")
    p.add_argument("--seed", type=arguments.seed, default=0, help="default: 0")
    p.add_argument("--checkpoint", type=Path, help="a network of train_score (default: the shipped one)")
    p.add_argument("--predictor", help="steer by a predictor: meta, meta-only or package.module:Class (default: none)")
    p.add_argument("--dataset", help="the task to steer towards; goes with --predictor")
    strength = arguments.at_most(arguments.finite_float, MOST_SCALE)
    p.add_argument("--scale", type=strength, help="S of the target law p(A) exp(S z(A)); goes with --predictor (default: 3)")
    p.add_argument("--condition", action="append", default=[], metavar="NAME=VALUE", help="ask for a value of a property, such as params=6e5 or "
                   "latency:pixel3=20ms, or for low, medium or high; for families with conditions, repeatable")  # fmt: skip
    p.add_argument("--weight", type=strength, help="classifier-free weight; goes with --condition (default: 1)")
    p.add_argument("--device", default="auto", help="auto, cpu, cuda, ... (default: auto)")
    add_options(p.add_argument_group(f"options of the family {name}"), family.Sampling)
    return p


def main(argv: Sequence[str] | None = None) -> None:
    """Parse the command line, generate, write samples and metrics."""
    command = sys.argv[1:] if argv is None else list(argv)
    name = family_from_command_line(command)
    family = load_family(name)
    args, unknown = parser(family, name).parse_known_args(command)
    if unknown:
        raise UserError(f"generator {name!r} has no option {unknown[0]}; python -m diffnag.generate --generator {name} --help shows what it has")
    sampling: Any = options_from(args, family.Sampling)
    _check(args, given(args, family.Sampling))

    from diffnag.generators.base import DEFAULT_SCALE, Steer
    from diffnag.guidance.tilt import Tilt
    from diffnag.io.device import resolve_device
    from diffnag.io.files import check_writable
    from diffnag.spaces.loading import load_space

    space = load_space(args.space)
    beside, strip = (args.out.with_name(args.out.stem + ending) for ending in (".metrics.json", ".trace.png"))
    trace = getattr(sampling, "trace", None)
    for path in (args.out, beside, *([strip] if trace else [])):
        check_writable(path)
    generator = family.load(space, args.checkpoint, device=resolve_device(args.device))
    predictor = _predictor(args, space)
    scale = DEFAULT_SCALE if args.scale is None else args.scale
    tilt = None if predictor is None else Tilt(predictor, space, scale)
    condition = read_conditions(args.condition, generator)
    weight = Steer().weight if args.weight is None else args.weight
    made = generator.sample(args.n, seed=args.seed, steer=Steer(tilt=tilt, condition=condition, weight=weight), sampling=sampling)
    _write_samples(args.out, made, space, predictor)
    asked = {"condition": condition, "weight": weight} if condition else {}
    about = {"scale": None if predictor is None else scale, **asked, **asdict(sampling), "generator": name, "seed": args.seed}
    metrics = _write_metrics(beside, made, args.n, generator, about)
    print(f"guidance: {made.guidance}; " + ", ".join(f"{key} {metrics[key]:.3f}" for key in SHOWN if metrics.get(key) is not None))
    print(f"wrote {args.out} and {beside}: {args.n} samples in {made.wall_s:.2f} s, {made.nfe} network evaluations for each")
    if made.trace is not None and trace is not None:
        _draw_trace(strip, made.trace, trace, made, space)


def _check(args: argparse.Namespace, sampling: dict[str, Any]) -> None:
    """Raise `UserError` for arguments that do not fit together."""
    if args.predictor is None:
        unused = [flag for flag in ("dataset", "scale") if getattr(args, flag) is not None] + [flag for flag in ("guidance",) if flag in sampling]
        if unused:
            raise UserError(f"--{unused[0]} goes with --predictor, which is not given")
    elif args.dataset is None:
        raise UserError("--predictor needs --dataset, the task to steer towards")
    asking = (["weight"] if args.weight is not None else []) + [flag for flag in ("plausible", "nearest") if flag in sampling]
    if asking and not args.condition:
        raise UserError(f"--{asking[0]} goes with --condition, which is not given")
    if "nearest" in sampling and args.predictor is not None:
        raise UserError("--nearest does not go with --predictor, whose law it would change; leave one of them out")
    if args.out.suffix != ".jsonl":
        raise UserError(f"{args.out} is no name of samples; it has to end in .jsonl")


def read_conditions(texts: Sequence[str], generator: Generator) -> dict[str, float | str]:
    """Conditions from texts `NAME=VALUE`, in the units in which the generator counts them; `UserError` for others and for two of one name."""
    from diffnag.objectives.quantities import read_quantity

    found: dict[str, float | str] = {}
    for text in texts:
        name, _, value = text.partition("=")
        if not value:
            raise UserError(f"--condition {text} is not understood; accepted is NAME=VALUE, such as params=6e5")
        if name in found:
            raise UserError(f"condition {name} is given twice, as {found[name]} and {value}; give it once")
        units = getattr(generator, "units", {})
        if units and name not in units:
            raise UserError(f"the generator has no condition {name!r}; its conditions are: {', '.join(units)}")
        unit = units.get(name, "")
        found[name] = value if value.isalpha() else read_quantity(value, unit, of=f"condition {name}", example="params=6e5")
    return found


def _predictor(args: argparse.Namespace, space: SearchSpace) -> CheckedPredictor | None:
    """The predictor that is named, set up; `UserError` for one that knows only what it was fitted on."""
    if args.predictor is None:
        return None
    from diffnag.guidance.checked import load_predictor

    predictor = load_predictor(args.predictor, space=space, dataset=args.dataset, seed=args.seed)
    if not predictor.knows_something:
        raise UserError(f"predictor {args.predictor!r} knows only what it was fitted on, and generate fits nothing; use it in diffnag.search")
    print(f"predictor {args.predictor}: {sum(predictor.labels_source.values()):,} source labels")
    return predictor


def _write_samples(out: Path, made: Generation, space: SearchSpace, predictor: CheckedPredictor | None) -> None:
    """One line of JSON for each sample: the architecture, or the reason why it is invalid, and what is predicted."""
    from diffnag.io.files import written_whole

    archs = made.archs
    predicted = iter(predictor.predict(archs)[0].tolist() if predictor is not None else [None] * len(archs))
    with written_whole(out) as temporary, temporary.open("w") as file:
        for item in made.decoded:
            line = {
                "arch": None if item.arch is None else space.to_str(item.arch),
                "valid": item.arch is not None,
                "reason": item.reason,
                "predicted": None if item.arch is None else next(predicted),
            }
            file.write(json.dumps(line) + "\n")


def _draw_trace(strip: Path, trace: Trace, states: int, made: Generation, space: SearchSpace) -> None:
    """Draw so many states of one sample; a picture that fails is a note, as the samples are written."""
    from diffnag.drawing.attempt import try_to_draw
    from diffnag.drawing.strip import save_trace

    if try_to_draw(strip, lambda path: save_trace(path, trace, states, result=made.decoded[trace.sample], space=space), on_note=print):
        print(f"wrote {strip}: sample {trace.sample}")


def _write_metrics(beside: Path, made: Generation, n: int, generator: Generator, about: dict[str, Any]) -> dict[str, Any]:
    """Metrics, cost and options of a generation."""
    from diffnag.generators.metrics import generation_metrics
    from diffnag.io.files import write_json
    from diffnag.spaces.split import CanonicalSplit

    split = generator.provenance().get("split")
    valid = [item.arch for item in made.by_threshold if item.arch is not None]
    metrics = {
        "n": n,
        **generation_metrics(valid, n, generator.space, CanonicalSplit.named(split) if split else None),
        **({} if (unpruned := made.unpruned()) is None else {"unpruned": unpruned / n}),
        "nfe": made.nfe,
        "predictor_nfe": made.predictor_nfe,
        "wall_s": round(made.wall_s, 4),
        "archs_per_s": round(n / made.wall_s, 1),
        "guidance": made.guidance,
        **{key: value for key, value in about.items() if key not in ("guidance", "trace")},
    }
    write_json(beside, metrics)
    return metrics


if __name__ == "__main__":
    run_command(main)
