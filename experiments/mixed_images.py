"""Does it pay to mix images in long trainings from scratch (CutMix), and on which?

    python -m experiments.mixed_images [--sets NAME ...] [--seeds A:B] [--seconds S]

The plain residual network of `experiments.small_images` is trained on one core for so many seconds, without mixing and with it in half of the
steps, whatever the images are. Rows that the result file has are kept; several commands may run at once.
"""

from __future__ import annotations

import tempfile
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from diffnag.networks.plan import MIX, plain_skeleton
from diffnag.protocols import HasResNetLike
from diffnag.search_loop.options import DEFAULT_SPACE
from diffnag.spaces.loading import load_space
from experiments.images.sets import SETS, draw_set
from experiments.images.trained import train_for
from experiments.shared.common import begin, parser
from experiments.shared.pool import seeds_argument
from experiments.shared.results import add_row, measured

if TYPE_CHECKING:
    from torch import nn

    from diffnag.datasets.images import ImageDataset
    from diffnag.networks.training import Recipe

NAME = "mixed_images"


def main() -> None:
    options = parser(__doc__)
    options.add_argument("--sets", nargs="+", metavar="NAME", default=list(SETS), choices=list(SETS), help=f"of {', '.join(SETS)} (default: all)")
    options.add_argument("--seeds", type=seeds_argument, default=range(1), help="A:B, B excluded (default: 0:1)")
    options.add_argument("--seconds", type=float, default=300.0, help="time of a training (default: %(default)s)")
    args = options.parse_args()
    data = begin()
    for seed in args.seeds:
        for name in args.sets:
            for mix in (0.0, MIX):
                key = {"set": name, "seed": seed, "seconds_given": args.seconds, "mix": mix}
                if measured(NAME, key):
                    continue

                def changed(recipe: Recipe, mix: float = mix) -> Recipe:
                    return replace(recipe, mix=mix)

                with tempfile.TemporaryDirectory() as folder:
                    images = draw_set(name, data / "images", seed).write(Path(folder) / f"{name}.npz")
                    add_row(NAME, key, train_for(images, seed, args.seconds, residual_network, recipe_of=changed))


def residual_network(images: ImageDataset) -> nn.Module:
    """Three stages of 16, 32 and 64 channels."""
    space = load_space(DEFAULT_SPACE)
    assert isinstance(space, HasResNetLike)
    arch = space.from_str(space.resnet_like)
    return plain_skeleton(images).build(arch, space, num_classes=len(images.classes), image_size=images.size)


if __name__ == "__main__":
    main()
