"""What tests of spaces share: a network written as ONNX."""

from __future__ import annotations

from pathlib import Path

from diffnag.arch import Arch
from diffnag.networks.classifier_file import export_onnx
from diffnag.networks.untrained import untrained
from diffnag.protocols import SearchSpace


def onnx_difference(arch: Arch, space: SearchSpace, *, channels: int, image_size: int, path: Path) -> float:
    """Largest difference between the logits of torch and of the file."""
    model = untrained(space.name, space.to_str(arch), num_classes=3, image_size=image_size, channels=channels, cells=1)
    return export_onnx(path, model)
