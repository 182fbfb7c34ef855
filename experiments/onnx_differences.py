"""How exactly ONNX files tell the networks of a space: logits of onnxruntime against torch's.

    python -m experiments.onnx_differences [--spaces mobilenetv3 darts ...] [--n 20]

Random architectures, each in the space's own network of 10 classes at 32 pixels a side, statistics of normalisation taken from images of
noise, so that signals neither vanish nor grow. Figures of spaces that are not asked for stay as they are in the result file.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

import numpy as np
import torch

from diffnag import load_space
from diffnag.arch import Arch
from diffnag.networks.classifier_file import ONNX_TOLERANCE, export_onnx
from diffnag.networks.untrained import untrained
from diffnag.plugins import names
from diffnag.protocols import SearchSpace
from experiments.shared.common import one_thread, read_result, write_result

SIDE, CLASSES = 32, 10


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--spaces", nargs="+", default=names("space"), help="default: all that are registered")
    parser.add_argument("--n", type=int, default=20, help="architectures of each (default: %(default)s)")
    args = parser.parse_args()
    one_thread()
    for name in args.spaces:
        space, rng = load_space(name), np.random.default_rng(0)
        differences = []
        for k in range(args.n):
            differences.append(difference(space.random(rng), space, seed=k))
            print(f"{name} {k + 1}/{args.n}: {differences[-1]['difference']:.2g}", flush=True)
        found = read_result("onnx_differences").get("largest", {})
        found[name] = {"architectures": args.n, **{key: max(row[key] for row in differences) for key in differences[0]}}
        write_result("onnx_differences", image_size=SIDE, bar=ONNX_TOLERANCE, largest={name: found[name] for name in sorted(found)})


def difference(arch: Arch, space: SearchSpace, *, seed: int) -> dict[str, float]:
    """The largest absolute difference of the logits, and the largest logit."""
    model = untrained(space.name, space.to_str(arch), num_classes=CLASSES, image_size=SIDE, seed=seed)
    images = torch.rand(64, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(seed))
    with tempfile.TemporaryDirectory() as folder, torch.no_grad():
        return {"difference": export_onnx(Path(folder) / "model.onnx", model), "logit": float(model(images).abs().max())}


if __name__ == "__main__":
    main()
