"""Write the network of one architecture, untrained, as a file: `python -m diffnag.export`."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from diffnag.command import arguments
from diffnag.command.running import run_command
from diffnag.errors import UserError, in_a_line, unknown

if TYPE_CHECKING:
    from diffnag.protocols import Size

FORMATS = ("pt", "onnx")


def main() -> None:
    """Parse the command line, build the network, write the file."""
    args = _parser().parse_args()
    kind = _format(args.format, args.out)

    from diffnag.io.files import check_writable
    from diffnag.protocols import HasResolution, TakesTokens
    from diffnag.spaces.loading import load_space

    check_writable(args.out)
    space = load_space(args.space)
    if args.input_size is None and not isinstance(space, HasResolution):
        raise UserError("--input-size is missing: how many pixels a side the images have (or tokens a context)")
    if isinstance(space, TakesTokens):
        _write_language_model(args, kind)
    else:
        _write_classifier(args, kind)


def _write_classifier(args: argparse.Namespace, kind: str) -> None:
    """Write the network of an architecture whose networks take images."""
    from diffnag.networks.classifier_file import export_onnx, save_model
    from diffnag.networks.untrained import untrained
    from diffnag.spaces.counting import measured_size

    model = untrained(
        args.space, args.arch, num_classes=args.num_classes, image_size=args.input_size,
        channels=args.channels, cells=args.cells, seed=args.seed,
    )  # fmt: skip
    if kind == "pt":
        save_model(args.out, model, about={"trained": False, "seed": args.seed})
        how = "diffnag.load_model rebuilds it"
    else:
        how = _as_onnx(args.out, lambda: export_onnx(args.out, model))
    size = measured_size(model.network, image_size=model.description.image_size)
    _report(args, str(model.description.skeleton), size, how, model.description.arch)


def _write_language_model(args: argparse.Namespace, kind: str) -> None:
    """Write the network of an architecture whose networks take tokens; raises `UserError` for any format but ONNX."""
    from diffnag.networks.language_model import export_language_model, untrained_language_model

    if kind != "onnx":
        raise UserError(f"format {kind!r} is for networks that take images, and those of space {args.space!r} take tokens; accepted is onnx")
    model = untrained_language_model(
        args.space, args.arch, vocabulary=args.num_classes, context=args.input_size,
        channels=args.channels, cells=args.cells, seed=args.seed,
    )  # fmt: skip
    how = _as_onnx(args.out, lambda: export_language_model(args.out, model))
    _report(args, str(model.skeleton), model.size, how, model.arch)


def _as_onnx(out: Path, write: Callable[[], float]) -> str:
    """How exact the file is that `write` writes; raises `UserError` if it fails."""
    import torch

    try:
        return f"its logits differ from torch's by at most {write():.1g}"
    except (RuntimeError, torch.onnx.OnnxExporterError) as failure:
        raise UserError(f"{out} could not be made: {in_a_line(failure)}") from failure


def _report(args: argparse.Namespace, skeleton: str, size: Size, how: str, arch: str) -> None:
    print(
        f"wrote {args.out}: {skeleton}, {size.params:,} parameters, {size.flops:,} multiply-adds, untrained; {how}"
        + arguments.read_as(args.arch, arch)
    )


def _parser() -> argparse.ArgumentParser:
    p = argparse.ArgumentParser(
        "python -m diffnag.export",
        description="Build the network of one architecture, untrained, and write it as model.pt (for diffnag.load_model) or as ONNX.",
        epilog="example: python -m diffnag.export 'conv3x3@0/maxpool3x3@0,1/output@1,2' --space nasbench101 --num-classes 10 "
        "--input-size 32 --out cell.onnx",
    )
    p.add_argument("arch", metavar="ARCH", help="the architecture as its space writes it, in quotes because of characters such as | and (")
    p.add_argument("--space", default="nasbench201", help="search space, a name or package.module:Class (default: nasbench201)")
    p.add_argument("--num-classes", type=arguments.positive_int, required=True, help="number of classes (or tokens), one logit each")
    p.add_argument(
        "--input-size", type=arguments.positive_int,
        help="pixels a side of the images (or tokens of a context); needless where architectures have their own resolution",
    )  # fmt: skip
    p.add_argument("--format", help="pt or onnx (default: the suffix of --out)")
    p.add_argument("--out", type=Path, required=True, help="file to write, .pt or .onnx")
    p.add_argument("--channels", type=arguments.positive_int, help="width of the first stage (default: that of the benchmark's network)")
    p.add_argument("--cells", type=arguments.positive_int, help="cells in a stage (default: as in the benchmark's network)")
    p.add_argument("--seed", type=arguments.seed, default=0, help="seed of the weights (default: 0)")
    return p


def _format(given: str | None, out: Path) -> str:
    """The format, by name or by the suffix of `out`. Raises `UserError` if the two do not agree."""
    suffix = out.suffix.removeprefix(".").lower()
    if given is not None and given not in FORMATS:
        raise unknown("format", given, FORMATS)
    if suffix not in ([given] if given else FORMATS):
        raise UserError(f"--out is {out}; the name must end in {f'.{given}' if given else '.pt or .onnx'}")
    return suffix


if __name__ == "__main__":
    run_command(main)
