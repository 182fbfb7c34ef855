"""Measure how long architectures take on a device, and predict all others: `python -m diffnag.device measure|fit|predict`."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from diffnag.command import arguments
from diffnag.command.running import run_command
from diffnag.errors import UserError

if TYPE_CHECKING:
    from diffnag.arch import Arch
    from diffnag.devices.export import Export
    from diffnag.devices.file import DeviceFile
    from diffnag.protocols import SearchSpace

SAMPLES = 10
"""Architectures that are timed, if the user does not say which."""
ARCHS = 'a CSV with the column arch, such as the front.csv of a search, or one {"arch": ...} a line, as python -m diffnag.generate writes'


def main() -> None:
    """Parse the command line and call the sub-command."""
    args = _parser().parse_args()
    if args.command != "predict":
        args.space = _space_name(args.space, args.dataset)
    {"measure": _measure, "fit": _fit, "predict": _predict}[args.command](args)


def _space_name(space: str, dataset: str | None) -> str:
    """The space that is asked for; `auto` is the one that a search on the dataset takes."""
    from diffnag.search_loop.options import AUTO, DEFAULT_SPACE, SearchOptions

    if space != AUTO:
        return space
    return DEFAULT_SPACE if dataset is None else str(SearchOptions(dataset=dataset).chosen_by_dataset()[0]["space"])


def _measure(args: argparse.Namespace) -> None:
    """Choose architectures, then time them here, or write a bundle that times them elsewhere."""
    if (args.out is None) == (args.bundle is None):
        raise UserError("measure needs either --out, to time on this machine, or --bundle, to time on another one")
    from diffnag.command.progress import Progress
    from diffnag.devices.bundle import check_folder, write_bundle
    from diffnag.devices.measuring import measure
    from diffnag.spaces.loading import load_space

    space = load_space(args.space)
    export = _export(args, space)
    if args.bundle is not None:
        check_folder(args.bundle)
        archs = _chosen(args, space, export)
        with Progress() as progress:
            write_bundle(args.bundle, archs, space, export, on_export=lambda done: progress("export", done, len(archs)))
        print(f"wrote {args.bundle}: {len(archs)} networks ({export}); run `python runner.py` there on the device, then here")
        print(f"python -m diffnag.device fit --space {args.space} --bundle {args.bundle} --from {args.bundle}/measured.csv --out NAME.device.json")
        return
    file = _existing(args.out, space, export)
    archs = _chosen(args, space, export, before=file)
    with Progress() as progress:
        file = measure(space, export, archs, out=args.out, before=file, spec=args.space, rounds=args.rounds, progress=progress)
    print(f"wrote {args.out}: {_summary(file)}")


def _chosen(args: argparse.Namespace, space: SearchSpace, export: Export, *, before: DeviceFile | None = None) -> list[Arch]:
    """The architectures to time: those of `--archs`, once each, or those that say the most."""
    from diffnag.devices.measuring import next_archs
    from diffnag.devices.predictions import read_archs

    if args.archs is None:
        return next_archs(space, export, SAMPLES if args.samples is None else args.samples, seed=args.seed, before=before)
    if args.samples is not None:
        raise UserError("--archs says which architectures are timed; --samples does not go with it")
    return list(dict.fromkeys(read_archs(args.archs, space)))


def _fit(args: argparse.Namespace) -> None:
    """Make a device file of measurements, or add them to the one that is there."""
    from diffnag.devices.bundle import bundle_export
    from diffnag.devices.file import DeviceFile, check_name, read_measurements
    from diffnag.io.files import check_writable
    from diffnag.spaces.loading import load_space

    check_name(args.out)
    check_writable(args.out)
    space = load_space(args.space)
    export = bundle_export(args.bundle) if args.bundle is not None else _export(args, space)
    if args.out.exists():
        before = DeviceFile.load(args.out)
        before.check(space, export)
        if before.host:
            raise UserError(f"{args.out} was timed by `python -m diffnag.device measure`; measurements of others go into another file")
        file = before.with_measured(read_measurements(args.source, space, fewest=1))
    else:
        name = args.out.name.removesuffix(".device.json")
        measurements = read_measurements(args.source, space)
        file = DeviceFile.new(space, measurements, name=name, spec=args.space, export=export, runtime="unknown", host="")
    file.save(args.out)
    print(f"wrote {args.out}: {_summary(file)}")


def _predict(args: argparse.Namespace) -> None:
    """Predict the architectures of a file."""
    from diffnag.devices.file import DeviceFile
    from diffnag.devices.predictions import read_archs, write_predictions
    from diffnag.io.files import check_writable
    from diffnag.spaces.loading import load_space

    file = DeviceFile.load(args.device)
    if ":" in file.space and args.space != file.space:
        raise UserError(f"{args.device} is of a space that is not installed; if you trust its code, add --space {file.space}")
    if args.space not in (None, file.space):
        raise UserError(f"{args.device} is of space {file.space!r}, not of {args.space!r}")
    space = load_space(file.space)
    file.check(space)
    check_writable(args.out)
    archs = read_archs(args.archs, space)
    mean, std = file.model(space).predict(archs)
    write_predictions(args.out, [space.to_str(arch) for arch in archs], mean, std)
    print(f"wrote {args.out}: {len(archs)} architectures, {mean.min():.2f} to {mean.max():.2f} ms; {_summary(file)}")


def _existing(path: Path, space: SearchSpace, export: Export) -> DeviceFile | None:
    """The device file at `path`, to which measurements are added; raises `UserError` if it is of other networks or of another machine."""
    from diffnag.devices.file import DeviceFile, check_name
    from diffnag.devices.timing import host_fingerprint
    from diffnag.io.files import check_writable

    check_name(path)
    check_writable(path)
    if not path.exists():
        return None
    file = DeviceFile.load(path)
    file.check(space, export)
    if file.host != host_fingerprint():
        raise UserError(f"{path} was measured on another machine; measurements of this one go into another file")
    return file


def _export(args: argparse.Namespace, space: SearchSpace) -> Export:
    """The export that the arguments ask for."""
    from diffnag.devices.export import Export
    from diffnag.networks.plan import skeleton_of
    from diffnag.protocols import HasResolution

    if args.input_size is not None and isinstance(space, HasResolution):
        raise UserError(f"--input-size does not go with space {space.name!r}, whose architectures have their own resolution")
    if args.dataset is not None and args.dataset not in space.datasets:
        return _export_for_images(args, space)
    if args.time_limit is not None:
        raise UserError("--time-limit is for your own images as --dataset; leave it out")
    classes, side = args.num_classes, args.input_size
    if args.dataset is not None:
        if classes is not None or side is not None or args.inputs is not None:
            raise UserError("--dataset states the number of classes and the image side; --num-classes, --input-size and --inputs do not go with it")
        classes, side = space.datasets[args.dataset]
    if args.inputs is not None:
        if side is not None:
            raise UserError("--inputs states the height and the width; --input-size does not go with it")
        side = max(args.inputs[1:])
    skeleton = skeleton_of(space, channels=args.channels, cells=args.cells, stem_stride=args.stem_stride, inputs=args.inputs)
    return Export.of(space, num_classes=classes, image_size=side, skeleton=skeleton, batch=args.batch, threads=args.threads)


def _export_for_images(args: argparse.Namespace, space: SearchSpace) -> Export:
    """The export of the networks that a search on the user's own images trains in the end."""
    from diffnag.datasets.images import is_image_source
    from diffnag.devices.export import Export
    from diffnag.errors import unknown
    from diffnag.search_loop.assembly import plan_last
    from diffnag.search_loop.options import SearchOptions
    from diffnag.search_loop.oracle import own_images

    if not is_image_source(args.dataset):
        raise unknown("dataset", args.dataset, [*space.datasets, "or your own images: a folder, an .npz file"])
    if given := [name for name in ("num_classes", "channels", "cells", "stem_stride", "inputs") if getattr(args, name) is not None]:
        options = ", ".join(f"--{name.replace('_', '-')}" for name in given)
        raise UserError(f"your own images as --dataset state the network that a search trains on them; {options} does not go with it")
    asked = SearchOptions(space=args.space, dataset=args.dataset, image_size=args.input_size, time_limit=args.time_limit)
    images = own_images(asked, space)
    skeleton = plan_last(asked, images, space).skeleton
    return Export.of(
        space, num_classes=len(images.classes), image_size=images.size, skeleton=skeleton, batch=args.batch, threads=args.threads
    )


def _summary(file: DeviceFile) -> str:
    return f"device {file.name!r}, {len(file.measurements)} architectures measured ({file.export}; {file.runtime})"


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser("python -m diffnag.device", description="Time architectures on a device, and predict all others.")
    commands = parser.add_subparsers(dest="command", required=True)
    measure = commands.add_parser(
        "measure",
        help="time some architectures on this machine, or write what times them on another one",
        description="Choose the architectures that say the most, export them and time them with onnxruntime: medians over rounds in which every "
        "network runs in turn, warm. Where the file exists, measurements are added. Ctrl-C keeps what is measured.",
    )
    measure.add_argument("--samples", type=arguments.positive_int, help=f"architectures to time (default: {SAMPLES})")
    measure.add_argument("--archs", type=Path, metavar="FILE", help=f"time exactly these, in place of --samples: {ARCHS}")
    measure.add_argument("--out", type=Path, metavar="NAME.device.json", help="the device file to write or to add to")
    measure.add_argument("--bundle", type=Path, metavar="DIR", help="write the networks and runner.py for another device, and time nothing")
    measure.add_argument("--rounds", type=arguments.positive_int, default=20, help="rounds of timing (default: 20)")
    measure.add_argument("--seed", type=arguments.seed, default=0, help="seed of the architectures among which is chosen (default: 0)")
    fit = commands.add_parser(
        "fit", help="make a device file of measurements",
        description="Make a device file of measurements, of runner.py or of your own. Where the file exists, measurements are added.",
    )
    fit.add_argument("--from", dest="source", type=Path, metavar="CSV", required=True, help="measurements with the columns arch,ms")
    fit.add_argument("--bundle", type=Path, metavar="DIR", help="the bundle that was timed: it states shape, batch and threads")
    fit.add_argument("--out", type=Path, metavar="NAME.device.json", required=True, help="the device file to write")
    for each in (measure, fit):
        _add_export(each)
    predict = commands.add_parser("predict", help="predict architectures", description="Predict the latency of architectures, with its uncertainty.")
    predict.add_argument("device", type=Path, metavar="NAME.device.json", help="a device file")
    predict.add_argument("--archs", type=Path, metavar="FILE", required=True, help=ARCHS)
    predict.add_argument("--out", type=Path, metavar="CSV", required=True, help="the file to write, with the columns arch,ms,std")
    predict.add_argument("--space", help="needed where the space of the file is a dotted path: its code is run")
    return parser


def _add_export(parser: argparse.ArgumentParser) -> None:
    """Arguments that say which networks are meant and how they run."""
    parser.add_argument(
        "--space", default="auto", help="search space, a name or package.module:Class, or auto: as a search on --dataset (default: auto)"
    )
    parser.add_argument(
        "--dataset", help="a dataset of the space, for the number of classes and the image side (default: its first); or your own images, for "
        "the network that a search trains on them in the end",
    )  # fmt: skip
    parser.add_argument(
        "--time-limit", type=arguments.duration, metavar="TIME", help="that of the search on your own images, on which the network depends"
    )
    parser.add_argument("--num-classes", type=arguments.positive_int, help="number of classes, in place of --dataset")
    parser.add_argument("--input-size", type=arguments.positive_int, help="pixels a side of the images, in place of that of --dataset")
    parser.add_argument("--inputs", type=_inputs, metavar="C,H,W", help="channels, height and width of arrays, in place of --input-size")
    parser.add_argument("--channels", type=arguments.positive_int, help="width of the first stage (default: that of the benchmark's network)")
    parser.add_argument("--cells", type=arguments.positive_int, help="cells in a stage (default: as in the benchmark's network)")
    parser.add_argument("--stem-stride", type=arguments.positive_int, help="by how much the stem reduces images (default: that of the space)")
    parser.add_argument("--batch", type=arguments.positive_int, default=1, help="images at once (default: 1)")
    parser.add_argument("--threads", type=arguments.positive_int, default=1, help="threads of the runtime (default: 1)")


def _inputs(text: str) -> tuple[int, int, int]:
    """Argparse type: channels, height and width, written `1,8,128`."""
    parts = text.split(",")
    if len(parts) != 3:
        raise argparse.ArgumentTypeError(f"{text!r} is not channels, height and width, such as 1,8,128")
    channels, height, width = map(arguments.positive_int, parts)
    return channels, height, width


if __name__ == "__main__":
    run_command(main)
