"""A folder with networks as ONNX files and a runner that times them on a device without diffnag, and what it says of itself."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from diffnag.devices import runner
from diffnag.devices.export import Export
from diffnag.errors import UserError, in_a_line
from diffnag.io.files import write_json, written_whole

if TYPE_CHECKING:
    from diffnag.arch import Arch
    from diffnag.protocols import SearchSpace


def write_bundle(
    folder: Path, archs: Sequence[Arch], space: SearchSpace, export: Export, *, on_export: Callable[[int], None] = lambda done: None
) -> None:
    """Write the networks of `archs`, the manifest and `runner.py` into `folder`, which must be new or empty. The manifest comes last."""
    check_folder(folder)
    networks = {}
    for done, arch in enumerate(archs, start=1):
        name = f"{done:03}.onnx"
        with written_whole(folder / name) as temporary:
            export.write(temporary, arch, space)
        networks[name] = space.to_str(arch)
        on_export(done)
    with written_whole(folder / "runner.py") as temporary:
        shutil.copyfile(Path(runner.__file__), temporary)
    write_json(folder / runner.MANIFEST, {"space": space.name, "export": asdict(export), "networks": networks})


def check_folder(folder: Path) -> None:
    """Raise `UserError` unless `folder` is new or empty."""
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise UserError(f"{folder} is not empty; a bundle needs a new or an empty folder")


def bundle_export(folder: Path) -> Export:
    """The export of a bundle; raises `UserError` if the folder holds none."""
    path = folder / runner.MANIFEST
    if not path.is_file():
        raise UserError(f"{folder} is no bundle of diffnag.device measure: it has no {runner.MANIFEST}")
    try:
        return Export.from_json(json.loads(path.read_text(encoding="utf-8"))["export"])
    except Exception as error:  # JSON of other content can fail anywhere
        raise UserError(f"{path} is damaged: {in_a_line(error)}") from error
