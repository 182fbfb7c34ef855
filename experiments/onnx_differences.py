"""Measures how exact exported ONNX files are: largest difference between the logits of onnxruntime and of torch.

    python -m experiments.onnx_differences [--spaces mobilenetv3 darts ...] [--n 20]

Networks are those of random architectures in each space, with 10 classes and 32 x 32 pixels. Statistics of normalisation come from
images of noise, so that signals neither vanish nor grow. Spaces that are not selected keep their figures in the result file.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
import torch

from diffnag import load_space
from diffnag.arch import Arch
from diffnag.networks.classifier_file import export_onnx
from diffnag.networks.onnx_file import ONNX_TOLERANCE
from diffnag.networks.untrained import untrained
from diffnag.plugins import names
from diffnag.protocols import SearchSpace, TakesTokens
from experiments.shared.common import one_thread, parser
from experiments.shared.results import read_result, record, write_result

SIDE, CLASSES = 32, 10


def main() -> None:
    options = parser(__doc__)
    on_images = [name for name in names("space") if not isinstance(load_space(name), TakesTokens)]
    options.add_argument("--spaces", nargs="+", default=on_images, help="default: all registered spaces whose networks take images")
    options.add_argument("--n", type=int, default=20, help="architectures per space (default: %(default)s)")
    args = options.parse_args()
    one_thread()
    for name in args.spaces:
        space, rng = load_space(name), np.random.default_rng(0)
        differences = []
        for k in range(args.n):
            differences.append(difference(space.random(rng), space, seed=k))
            print(f"{name} {k + 1}/{args.n}: {differences[-1]['difference']:.2g}", flush=True)
        found = read_result("onnx_differences").get("largest", {})
        found[name] = record({"architectures": args.n, **{key: max(row[key] for row in differences) for key in differences[0]}})
        largest = {name: found[name] for name in sorted(found)}
        write_result("onnx_differences", {"image_size": SIDE, "bar": ONNX_TOLERANCE, "largest": largest})


def difference(arch: Arch, space: SearchSpace, *, seed: int) -> dict[str, float]:
    """Largest absolute difference of the logits, and largest absolute logit, of one network."""
    model = untrained(space.name, space.to_str(arch), num_classes=CLASSES, image_size=SIDE, seed=seed)
    images = torch.rand(64, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(seed))
    with tempfile.TemporaryDirectory() as folder, torch.no_grad():
        return {"difference": export_onnx(Path(folder) / "model.onnx", model), "logit": float(model(images).abs().max())}


if __name__ == "__main__":
    main()
