"""`python -m diffnag.export`: build the network of one architecture and take it away as a file."""

from __future__ import annotations

import argparse
from pathlib import Path

from diffnag.command import arguments
from diffnag.command.running import run_command
from diffnag.errors import UserError, in_a_line, unknown

FORMATS = ("pt", "onnx")


def main() -> None:
    """Parse the command line, build, write the file."""
    args = _parser().parse_args()
    kind = _format(args.format, args.out)

    import torch

    from diffnag.io.files import check_writable
    from diffnag.networks.classifier_file import export_onnx, save_model
    from diffnag.networks.untrained import untrained
    from diffnag.spaces.counting import measured_size

    check_writable(args.out)
    model = untrained(
        args.space, args.arch, num_classes=args.num_classes, image_size=args.input_size,
        channels=args.channels, cells=args.cells, seed=args.seed,
    )  # fmt: skip
    if kind == "pt":
        save_model(args.out, model, about={"trained": False, "seed": args.seed})
        how = "diffnag.load_model rebuilds it"
    else:
        try:
            how = f"its logits differ from torch's by at most {export_onnx(args.out, model):.1g}"
        except (RuntimeError, torch.onnx.OnnxExporterError) as failure:
            raise UserError(f"{args.out} could not be made: {in_a_line(failure)}") from failure
    size = measured_size(model.network, image_size=args.input_size)
    print(
        f"wrote {args.out}: {model.description.skeleton}, {size.params:,} parameters, {size.flops:,} multiply-adds, untrained; {how}"
        + arguments.read_as(args.arch, model.description.arch)
    )


def _parser() -> argparse.ArgumentParser:
    p = argparse.ArgumentParser(
        "python -m diffnag.export",
        description="Build the network of one architecture, untrained, and write it as model.pt (for diffnag.load_model) or as ONNX.",
        epilog="example: python -m diffnag.export 'conv3x3@0/maxpool3x3@0,1/output@1,2' --space nasbench101 --num-classes 10 "
        "--input-size 32 --out cell.onnx",
    )
    p.add_argument("arch", metavar="ARCH", help="as its space writes it; in quotes, for shells have uses of their own for | and (")
    p.add_argument("--space", default="nasbench201", help="search space, a name or package.module:Class (default: nasbench201)")
    p.add_argument("--num-classes", type=arguments.positive_int, required=True, help="logits that the network gives")
    p.add_argument("--input-size", type=arguments.positive_int, required=True, help="pixels a side of its images")
    p.add_argument("--format", help="pt or onnx (default: as --out ends)")
    p.add_argument("--out", type=Path, required=True, help="the file, .pt or .onnx")
    p.add_argument("--channels", type=arguments.positive_int, help="width of the first stage (default: the benchmark's own)")
    p.add_argument("--cells", type=arguments.positive_int, help="depth of a stage in cells (default: the benchmark's own)")
    p.add_argument("--seed", type=arguments.seed, default=0, help="of the weights (default: 0)")
    return p


def _format(given: str | None, out: Path) -> str:
    """The format that is asked for, by name or by the suffix of `out`; the two must agree."""
    suffix = out.suffix.removeprefix(".").lower()
    if given is not None and given not in FORMATS:
        raise unknown("format", given, FORMATS)
    if suffix not in ([given] if given else FORMATS):
        raise UserError(f"{out} is no name of such a file; it has to end in {f'.{given}' if given else '.pt or .onnx'}")
    return suffix


if __name__ == "__main__":
    run_command(main)
