"""Whether the weights that a space ships are a head start on a user's images.

They know what photos look like. Where the class is something else, such as a sum of digits, a network that begins with them soon knows its images by
heart; in a long training one that begins with random weights comes further.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from diffnag.io.threads import one_thread
from diffnag.oracles.training import TrainingOracle
from diffnag.protocols import HasResNetLike

if TYPE_CHECKING:
    from diffnag.arch import Arch
    from diffnag.datasets.images import ImageDataset
    from diffnag.networks.plan import Skeleton
    from diffnag.protocols import SearchSpace

SHARE = 0.01
"""Part of a time limit for the training from random weights that the weights are compared with."""


class HeadStart(NamedTuple):
    """Validation accuracies in % of residual networks."""

    known: float
    """That of a linear classifier of the features that the shipped weights give."""
    learned: float
    """That of a network that was trained from random weights for some time."""

    @property
    def pays(self) -> bool:
        """Whether the weights know more than was learned without them."""
        return self.known >= self.learned

    def __str__(self) -> str:
        return (
            f"The final training starts from random weights: a short training from them has {self.learned:.4g} % of the validation images right, "
            f"a linear classifier of what the shipped weights see {self.known:.4g} %."
        )


def head_start(images: ImageDataset, space: SearchSpace, shipped: Skeleton, *, seconds: float, seed: int) -> HeadStart:
    """Compare the weights of the `shipped` network with a training of about so many `seconds` of one core.

    It takes one thread of the processor, so that every worker of a search finds the same.
    """
    assert isinstance(space, HasResNetLike)
    residual, dataset = space.from_str(space.resnet_like), "images"
    with one_thread():
        oracle = TrainingOracle()
        oracle.setup(space=space)
        oracle.set_images(images, dataset=dataset, seconds=seconds, epochs=None, seed=seed, device="cpu")
        return HeadStart(_known(residual, images, space, shipped, seed=seed), oracle.query(residual, dataset=dataset, split="val"))


def _known(arch: Arch, images: ImageDataset, space: SearchSpace, shipped: Skeleton, *, seed: int) -> float:
    from torch import nn

    from diffnag.networks.build import seeded_build
    from diffnag.networks.elastic import fit_probe, recalibrate
    from diffnag.networks.training import as_input, channel_statistics, logits

    network = seeded_build(
        shipped, arch, space, num_classes=len(images.classes), image_size=images.size, seed=seed, device="cpu", started=True
    )
    network.classifier = nn.Identity()
    statistics = channel_statistics(images.train.x)
    x, x_val = (as_input(part.x, statistics=statistics) for part in (images.train, images.val))
    recalibrate(network, x)
    features, judged = (logits(network, part).numpy() for part in (x, x_val))
    return fit_probe(features, images.train.y, judged, images.val.y).accuracy
