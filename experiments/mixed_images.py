"""Does it pay to mix images in long trainings from scratch (CutMix), and on which?

    python -m experiments.mixed_images [--sets NAME ...] [--seeds A:B] [--seconds S]

The plain residual network of `experiments.small_images` is trained on one core for so many seconds, without mixing and with it in half of the
steps, whatever the images are. Rows that the result file has are kept; several commands may run at once.
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from diffnag.networks.plan import MIX, plain_skeleton
from diffnag.protocols import HasResNetLike
from diffnag.search_loop.options import DEFAULT_SPACE
from diffnag.spaces.loading import load_space
from experiments.images.measuring import add_rows, add_set_options
from experiments.images.trained import train_for
from experiments.shared.common import begin, parser

if TYPE_CHECKING:
    from torch import nn

    from diffnag.datasets.images import ImageDataset
    from diffnag.networks.training import Recipe

NAME = "mixed_images"


def main() -> None:
    options = parser(__doc__)
    add_set_options(options, seeds=1)
    options.add_argument("--seconds", type=float, default=300.0, help="time of a training (default: %(default)s)")
    args = options.parse_args()
    arms = {mix: partial(trained, seconds=args.seconds, mix=mix) for mix in (0.0, MIX)}
    add_rows(NAME, begin(), args.sets, args.seeds, arms, given={"seconds_given": args.seconds}, arm="mix")


def trained(images: Path, seed: int, *, seconds: float, mix: float) -> dict[str, Any]:
    """Train the residual network, with a share `mix` of mixed steps."""

    def changed(recipe: Recipe) -> Recipe:
        return replace(recipe, mix=mix)

    return train_for(images, seed, seconds, residual_network, recipe_of=changed)


def residual_network(images: ImageDataset) -> nn.Module:
    """Three stages of 16, 32 and 64 channels."""
    space = load_space(DEFAULT_SPACE)
    assert isinstance(space, HasResNetLike)
    arch = space.from_str(space.resnet_like)
    return plain_skeleton(images).build(arch, space, num_classes=len(images.classes), image_size=images.size)


if __name__ == "__main__":
    main()
