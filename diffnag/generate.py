"""Generate architectures from a score network, guided by a predictor where one is named: `python -m diffnag.generate`."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from diffnag.command import arguments
from diffnag.command.running import run_command
from diffnag.errors import UserError
from diffnag.io.device import resolve_device


def parser() -> argparse.ArgumentParser:
    formatter = argparse.ArgumentDefaultsHelpFormatter
    p = argparse.ArgumentParser("python -m diffnag.generate", description=__doc__, formatter_class=formatter)
    p.add_argument("--space", default="nasbench201", help="search space, a name or package.module:Class")
    p.add_argument("--n", type=arguments.positive_int, default=1024, help="how many samples")
    p.add_argument("--out", type=Path, required=True, help="a .jsonl file; metrics go beside it, into .metrics.json")
    p.add_argument("--sampler", default="dpmpp", help="dpmpp, heun, euler-maruyama or pc")
    p.add_argument("--steps", type=arguments.positive_int, default=20, help="steps of the sampler")
    p.add_argument("--seed", type=arguments.seed, default=0)
    p.add_argument("--checkpoint", type=Path, help="a score network of train_score; by default the shipped one")
    p.add_argument("--quantise", default="threshold", help="threshold (the paper's rule, > 1/2) or argmax")
    p.add_argument("--predictor", help="steer by a predictor: meta, meta-only or package.module:Class; none by default")
    p.add_argument("--dataset", help="the task to steer towards; goes with --predictor")
    p.add_argument("--scale", type=arguments.finite_float, help="S of the target law p(A) exp(S z(A)); 3 by default")
    p.add_argument("--guidance", default="auto", help="auto (the strongest the predictor allows), gradient, denoised or particles")
    p.add_argument("--trace", metavar="N", type=arguments.positive_int, help="also draw N steps of one architecture forming from noise, "
                   "into .trace.png")
    p.add_argument("--device", default="auto", help="auto, cpu, cuda, ...")
    return p


def main() -> None:
    args = parser().parse_args()
    if args.predictor is None:
        for name, default in (("dataset", None), ("scale", None), ("guidance", "auto")):
            if getattr(args, name) != default:
                raise UserError(f"--{name} goes with --predictor, which is not given")
    elif args.dataset is None:
        raise UserError("--predictor needs --dataset, the task to steer towards")
    if args.out.suffix != ".jsonl":
        raise UserError(f"{args.out} is no name of samples; it has to end in .jsonl")
    if args.trace is not None and not 2 <= args.trace <= args.steps + 1:
        raise UserError(f"--trace {args.trace} is not between 2 and {args.steps + 1}, the number of states that {args.steps} steps pass")

    from diffnag.drawing.attempt import try_to_draw
    from diffnag.drawing.strip import save_trace
    from diffnag.generators.diffusion.denoiser import load_denoiser
    from diffnag.generators.diffusion.generator import DEFAULT_SCALE, Generator
    from diffnag.generators.metrics import generation_metrics
    from diffnag.guidance.checked import load_predictor
    from diffnag.io.files import check_writable, write_json, written_whole
    from diffnag.spaces.loading import load_space
    from diffnag.spaces.split import CanonicalSplit

    space = load_space(args.space)
    beside, strip = (args.out.with_name(args.out.stem + ending) for ending in (".metrics.json", ".trace.png"))
    for path in (args.out, beside, *([strip] if args.trace else [])):
        check_writable(path)
    denoiser = load_denoiser(space, args.checkpoint, device=resolve_device(args.device))
    generator = Generator(space, denoiser, sampler=args.sampler, steps=args.steps, quantise=args.quantise)
    predictor = None
    scale = DEFAULT_SCALE if args.scale is None else args.scale
    if args.predictor is not None:
        predictor = load_predictor(args.predictor, space=space, dataset=args.dataset, seed=args.seed)
        if not predictor.knows_something:
            raise UserError(f"predictor {args.predictor!r} knows only what it was fitted on, and generate fits nothing; use it in diffnag.search")
        print(f"predictor {args.predictor}: {sum(predictor.labels_source.values()):,} source labels")
    made = generator.generate(args.n, seed=args.seed, predictor=predictor, scale=scale, guidance=args.guidance, trace=args.trace is not None)

    archs = made.archs
    predicted = iter(predictor.predict(archs)[0].tolist() if predictor is not None else [None] * len(archs))
    with written_whole(args.out) as temporary, temporary.open("w") as file:
        for item in made.decoded:
            line = {
                "arch": None if item.arch is None else space.to_str(item.arch),
                "valid": item.arch is not None,
                "reason": item.reason,
                "predicted": None if item.arch is None else next(predicted),
            }
            file.write(json.dumps(line) + "\n")
    metrics = {
        "n": args.n,
        **generation_metrics([item.arch for item in made.by_threshold if item.arch is not None], args.n, space, CanonicalSplit.named(denoiser.split)),
        **({} if made.unpruned is None else {"unpruned": made.unpruned / args.n}),
        "nfe": made.nfe,
        "predictor_nfe": made.predictor_nfe,
        "wall_s": round(made.wall_s, 4),
        "archs_per_s": round(args.n / made.wall_s, 1),
        "guidance": made.guidance,
        "scale": scale if predictor is not None else None,
        "quantise": args.quantise,
        "sampler": args.sampler,
        "steps": args.steps,
        "seed": args.seed,
    }
    write_json(beside, metrics)
    shown = ("validity", "unpruned", "uniqueness", "novelty")
    print(f"guidance: {made.guidance}; " + ", ".join(f"{key} {metrics[key]:.3f}" for key in shown if metrics.get(key) is not None))
    print(f"wrote {args.out} and {beside}: {args.n} samples in {made.wall_s:.2f} s, {made.nfe} evaluations of the score")
    if (trace := made.trace) is not None:
        result = made.decoded[trace.sample]
        if try_to_draw(strip, lambda path: save_trace(path, trace, args.trace, result=result, space=space), on_note=print):
            print(f"wrote {strip}: sample {trace.sample}")


if __name__ == "__main__":
    run_command(main)
