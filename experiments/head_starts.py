"""Do the weights that `nasbench201` ships pay in a long training, and does the search see where they do not?

    python -m experiments.head_starts [--sets NAME ...] [--seeds A:B] [--seconds S] [--arms NAME ...]

The residual network is trained on one core for so many seconds: `started` from the shipped weights, and `random` from random ones, then as
large as suits the time. `judged` trains neither: it is the comparison that a search makes before it plans its final training. Rows that the result
file has are kept; several commands may run at once.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from diffnag.networks.build import seeded_build
from diffnag.networks.plan import plan_final
from diffnag.protocols import HasResNetLike
from diffnag.search_loop.head_start import SHARE, head_start
from diffnag.search_loop.loop import Search
from diffnag.search_loop.options import DEFAULT_SPACE, SearchOptions
from diffnag.spaces.loading import load_space
from experiments.images.measuring import add_rows, add_set_options
from experiments.images.trained import train_for
from experiments.shared.common import begin, parser

if TYPE_CHECKING:
    from diffnag.datasets.images import ImageDataset

NAME = "head_starts"


def main() -> None:
    options = parser(__doc__)
    add_set_options(options, seeds=1)
    options.add_argument("--seconds", type=float, default=600.0, help="time of a training (default: %(default)s)")
    options.add_argument("--arms", nargs="+", metavar="NAME", default=list(ARMS), choices=list(ARMS), help=f"of {', '.join(ARMS)} (default: all)")
    args = options.parse_args()
    arms = {arm: partial(ARMS[arm], seconds=args.seconds) for arm in args.arms}
    add_rows(NAME, begin(), args.sets, args.seeds, arms, given={"seconds_given": args.seconds})


def judged(path: Path, seed: int, seconds: float) -> dict[str, Any]:
    """Accuracies, as fractions, that a search with such a time limit compares."""
    with Search(SearchOptions(dataset=str(path), space=DEFAULT_SPACE, method="random", seed=seed)) as search:
        images, space = search.images, search.space
    assert images
    plan = plan_final(images, space, seconds=seconds)
    found = head_start(images, space, plan.skeleton, seconds=SHARE * seconds, seed=seed)
    return {"known": found.known / 100, "learned": found.learned / 100, "pays": found.pays}


def trained(path: Path, seed: int, seconds: float, *, started: bool) -> dict[str, Any]:
    """Train the residual network; accuracies are fractions."""
    space = load_space(DEFAULT_SPACE)
    assert isinstance(space, HasResNetLike)
    arch = space.from_str(space.resnet_like)
    skeletons: list[str] = []

    def network(images: ImageDataset) -> torch.nn.Module:
        skeleton = plan_final(images, space, seconds=seconds, may_start=started).skeleton
        skeletons.append(str(skeleton))
        return seeded_build(
            skeleton, arch, space, num_classes=len(images.classes), image_size=images.size, seed=seed, device="cpu", started=started
        )

    found = train_for(path, seed, seconds, network)
    return {**found, "network": skeletons[0]}


ARMS: Mapping[str, Callable[..., dict[str, Any]]] = {
    "judged": judged, "started": partial(trained, started=True), "random": partial(trained, started=False),
}  # fmt: skip
"""Arm -> a function of the file of images, the seed and the seconds that it has."""


if __name__ == "__main__":
    main()
