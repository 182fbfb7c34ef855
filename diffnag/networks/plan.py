"""The plan of a training on a user's images: which network, how many images, how many epochs. The same data give the same plan."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from diffnag.datasets.images.asked import CLASSIFICATION
from diffnag.errors import UserError, in_a_line
from diffnag.networks.build import seeded
from diffnag.networks.elastic import Resized
from diffnag.networks.stem import take_inputs
from diffnag.networks.training import Recipe
from diffnag.protocols import HasResNetLike, HasResolution, Inherits, ShipsWeights, Size, TakesChannels, TrainsSmall
from diffnag.spaces.counting import measured_size
from diffnag.spaces.inputs import whole_networks

if TYPE_CHECKING:
    from torch import Tensor, nn

    from diffnag.arch import Arch
    from diffnag.datasets.images import ImageDataset
    from diffnag.protocols import SearchSpace

SPEED, STEP_SECONDS = 7e9, 3e-3
"""Nominal speed of training on one core: multiply-adds of forward passes in a second, and additional seconds for an optimiser step."""
CELLS_SIDE = 32
"""Pixels a side, about, to which the stem reduces larger images."""
TINY = 24
"""Images of fewer pixels a side are not reduced by a stem, however little time there is."""
CELLS_LENGTH = 128
"""Values, about, to which the stem reduces longer signals."""
FEWEST_IMAGES = 1_000
"""An evaluation uses all training images if there are no more than these."""
LEAST_STEPS = 300
"""Optimiser steps of a training, at least: few images are trained for more epochs."""
MIX, LONG = 0.5, 30
"""Share of the steps in which images are mixed, in trainings from scratch of so many epochs: few images are learned by heart in them."""
STARTED_EPOCHS, MOST_STARTED, MANY_IMAGES = 5, 45, 10_000
"""Epochs, at least and at most, of a final training from shipped weights, which needs fewer; and with more images a larger network is worth more, if
there is time for it. A time limit is used for more of them."""
FINE_TUNING_EPOCHS, MOST_FINE_TUNING = 10, 40
"""Epochs of the final training of a pretrained network, and the most if there is time."""
ENOUGH_EPOCHS = 6
"""Epochs that a pretrained network should be fine-tuned for; where time is short, at a smaller resolution."""
FEW_IMAGES, CROP = 1_000, 0.5
"""A pretrained network that is fine-tuned on fewer images sees random crops of them, of at least this part of the area."""
DRAWS, FEWER_DRAWS, HEAVY = 64, 16, 90
"""The cost of a network of the space is the percentile `HEAVY` of the multiply-adds of so many random architectures; of fewer where each has
to be built."""

LARGEST_IMAGE = 4_096
"""Most pixels a side of images that a network is built for."""
LONGEST = 1_000_000
"""Most pixels a side, and most channels, of arrays that are kept as they are."""
MOST_CHANNELS, MOST_CELLS = 10_000, 1_000
"""Larger numbers are refused: they are typing errors."""


@dataclass(frozen=True)
class Skeleton:
    """The network around the cells: options of the space's `build`. With `small` it is the space's `build_small`, which has no options.

    `inputs` are channels, height and width of images that are no photos; the stem is then made for them, see `take_inputs`. In a space that
    `TakesChannels` they are resized to the architecture's own resolution within the network.
    """

    channels: int
    cells: int
    stem_stride: int = 1
    small: bool = False
    inputs: tuple[int, int, int] | None = None

    def __post_init__(self) -> None:
        if self.inputs is not None:
            if len(self.inputs) != 3 or not all(type(side) is int and 1 <= side <= LONGEST for side in self.inputs):
                raise UserError(f"inputs are {self.inputs!r}; accepted are channels, height and width, each 1 to {LONGEST:,}")
            object.__setattr__(self, "inputs", tuple(self.inputs))  # a file holds a list
        if type(self.small) is not bool:
            raise UserError(f"small is {self.small!r}; accepted is True or False")
        least = 0 if self.small else 1
        for name, low, high in (("channels", least, MOST_CHANNELS), ("cells", least, MOST_CELLS), ("stem_stride", 1, LARGEST_IMAGE)):
            value = getattr(self, name)
            if type(value) is not int or not low <= value <= high:
                raise UserError(f"{name} is {value!r}; {low} to {high:,} are accepted")

    def build(self, arch: Arch, space: SearchSpace, *, num_classes: int, image_size: int) -> nn.Module:
        """An untrained network, its weights drawn from torch's global generator. Raises `UserError` if the space cannot build it."""
        import torch

        if self.inputs is not None and isinstance(space, TakesChannels):
            network = replace(self, inputs=None).build(arch, space.with_channels(self.inputs[0]), num_classes=num_classes, image_size=image_size)
            return Resized(network, space.resolution(arch))
        try:
            if self.small:
                assert isinstance(space, TrainsSmall)
                network = space.build_small(arch, num_classes=num_classes, image_size=image_size)
            else:
                network = space.build(
                    arch, channels=self.channels, cells=self.cells, num_classes=num_classes, stem_stride=self.stem_stride
                )
        except (UserError, torch.OutOfMemoryError):
            raise
        except (Exception, SystemExit) as error:  # a user's class may fail in any way
            raise UserError(f"the network of {space.to_str(arch)}, {self}, cannot be built: {in_a_line(error)}") from error
        if not isinstance(network, torch.nn.Module):
            raise UserError(f"build of space {space.name!r} must return a torch.nn.Module, it returned a {type(network).__name__}")
        return network if self.inputs is None else take_inputs(network, self.inputs)

    def size(self, arch: Arch, space: SearchSpace, *, num_classes: int, image_size: int) -> Size:
        """Size of the network that `build` returns, as the space states it. Raises `UserError` if the space fails.

        That of a small one, and one with `inputs`, which the space does not know, is counted on the network.
        """
        if self.inputs is not None and isinstance(space, TakesChannels):
            return replace(self, inputs=None).size(arch, space.with_channels(self.inputs[0]), num_classes=num_classes, image_size=image_size)
        if self.is_counted:
            return self._counted(arch, space, num_classes=num_classes, image_size=image_size)
        try:
            found = space.size(
                arch, channels=self.channels, cells=self.cells, num_classes=num_classes, image_size=image_size,
                stem_stride=self.stem_stride,
            )  # fmt: skip
        except UserError:
            raise
        except (Exception, SystemExit) as error:
            what = f"the size of the network of {space.to_str(arch)}, {self}, on images of {image_size} pixels a side"
            raise UserError(f"{what} cannot be computed: {in_a_line(error)}") from error
        if not isinstance(found, Size):
            raise UserError(f"size of space {space.name!r} must return a Size, it returned a {type(found).__name__}")
        return found

    @property
    def is_counted(self) -> bool:
        """Whether `size` builds the network, which takes longer."""
        return self.small or self.inputs is not None

    def _counted(self, arch: Arch, space: SearchSpace, *, num_classes: int, image_size: int) -> Size:
        with seeded(0):
            network = self.build(arch, space, num_classes=num_classes, image_size=image_size)
        try:
            return measured_size(network, image_size=image_size, inputs=self.inputs)
        except (Exception, SystemExit) as error:  # a user's class may fail in any way
            raise UserError(f"the network of {space.to_str(arch)} cannot take {_given(self.inputs, image_size)}: {in_a_line(error)}") from error

    def to_json(self) -> dict[str, int | bool | list[int]]:
        """Its fields; those with defaults only where they say something."""
        found = {**asdict(self), "inputs": None if self.inputs is None else [*self.inputs]}
        return {name: value for name, value in found.items() if value is not None}

    def __str__(self) -> str:
        stride = f", stem of stride {self.stem_stride}" if self.stem_stride > 1 else ""
        return "small network of the space" if self.small else f"{self.channels} channels, {self.cells} cells a stage{stride}"


def skeleton_of(
    space: SearchSpace, *, channels: int | None = None, cells: int | None = None, stem_stride: int | None = None,
    inputs: tuple[int, int, int] | None = None,
) -> Skeleton:  # fmt: skip
    """The default skeleton of the space's `build`, with what is given replaced."""
    parameters = inspect.signature(space.build).parameters

    def option(name: str, value: int | None) -> int:
        chosen = parameters[name].default if value is None and name in parameters else value
        if not isinstance(chosen, int):
            raise UserError(f"build of space {space.name!r} has no default for {name}; a search space must have one")
        return chosen

    return Skeleton(option("channels", channels), option("cells", cells), option("stem_stride", stem_stride), inputs=inputs)


@dataclass(frozen=True)
class Plan:
    """One training: `skeleton` is trained on `images` images by `recipe`; where `started` is true, from the weights that the space ships."""

    skeleton: Skeleton
    images: int
    recipe: Recipe = field(default_factory=Recipe)
    started: bool = False

    @property
    def rungs(self) -> tuple[int, ...]:
        """Epochs after which a training may be judged and stopped: a third, two thirds, all."""
        epochs = self.recipe.epochs
        return tuple(sorted({-(-epochs // 3), -(-2 * epochs // 3), epochs}))

    def with_epochs(self, epochs: int) -> Plan:
        """The same plan with another number of epochs."""
        return replace(self, recipe=replace(self.recipe, epochs=epochs))

    def __str__(self) -> str:
        """The network and how long it is trained."""
        if not self.recipe.epochs:
            return "pretrained weights, a linear classifier fitted"
        if self.recipe.keep_statistics:
            return f"inherited weights, fine-tuned for {self.recipe.epochs} epochs"
        return f"{self.skeleton}, {self.recipe.epochs} epochs{' from weights of small photos' if self.started else ''}"

    def to_json(self) -> dict[str, Any]:
        """Skeleton, number of images and recipe in one flat dictionary."""
        skeleton = self.skeleton.to_json()
        if self.skeleton.small:
            skeleton = {key: value for key, value in skeleton.items() if key in ("small", "inputs")}
        return {**skeleton, "train_images": self.images, **asdict(self.recipe), **({"started": True} if self.started else {})}


def plan_evaluation(images: ImageDataset, space: SearchSpace, *, seconds: float, epochs: int | None = None) -> Plan:
    """The plan of one evaluation that takes about `seconds` of one core.

    It takes the largest skeleton that can train 30 epochs on all training images in this time. The candidates are the space's small
    network, or the narrowest of its `skeletons` if it has none, and the other skeletons except the largest. If even the smallest
    takes too long, it trains fewer epochs, at least 8, then on fewer images, at least 1,000 and 20 of each class. Few images are
    trained for more epochs, so that there are 300 optimiser steps. `epochs` replaces the number of epochs and nothing else.
    The stem reduces images of 48 or more pixels a side to about 32, except where architectures have resolutions of their own.
    """
    skeletons = _skeletons(images, space)
    skeletons = skeletons[:-1] or skeletons
    h, w = images.train.x.shape[1:3]
    if isinstance(space, TrainsSmall) and max(h, w) <= 2 * min(h, w):  # small networks pool to one pixel, which flat images and signals have not
        skeletons[0] = Skeleton(0, 0, small=True, inputs=images.inputs)
    return _plan(images, space, skeletons, n=len(images.train.y), seconds=seconds, epochs=epochs, enough=30, most=30, fewest=8, may_leave_out=True)


def epochs_within(images: ImageDataset, space: SearchSpace, *, epochs: int, each: float, total: float) -> int:
    """`epochs`, or as many as one evaluation can train in about `total` seconds of one core, at least one.

    `each` are the seconds that are planned for one evaluation.
    """
    plan = plan_evaluation(images, space, seconds=each, epochs=epochs)
    affordable = total * _images_a_second(plan.skeleton, images, space, batch=plan.recipe.batch_size) / plan.images
    return max(1, min(epochs, int(affordable)))


def plan_final(
    images: ImageDataset, space: SearchSpace, *, seconds: float, epochs: int | None = None, may_start: bool = True
) -> Plan:  # fmt: skip
    """The plan of the final training, on the images of training and validation, that takes about `seconds` of one core.

    It takes the largest of the space's `skeletons` that can train 40 epochs in this time, and trains it for up to 80. If even the
    smallest takes too long, it trains fewer epochs. Few images, `epochs` and the stem are treated as in `plan_evaluation`. A long training mixes
    photos: images that are mirrored as well, and are not tiny.

    Where there are few images, the weights that a space ships are worth more than the width of the network. They are used if their network can be
    trained for `STARTED_EPOCHS`, unless there are more than `MANY_IMAGES` and time for a larger network. With `may_start` False they are not used.
    """
    skeletons = _skeletons(images, space)
    n = len(images.train.y) + len(images.val.y)

    def planned(skeletons: Sequence[Skeleton], enough: int, most: int) -> Plan:
        return _plan(images, space, skeletons, n=n, seconds=seconds, epochs=epochs, enough=enough, most=most, fewest=3, may_leave_out=False)

    plan = planned(skeletons, 40, 80)
    if may_start and isinstance(space, ShipsWeights) and space.shipped and images.inputs is None:
        shipped = Skeleton(*space.shipped, stem_stride=_stem_stride(images))
        started = replace(planned([shipped], STARTED_EPOCHS, MOST_STARTED), started=True)
        affordable = epochs or started.recipe.epochs >= STARTED_EPOCHS
        if affordable and (n <= MANY_IMAGES or _flops(plan.skeleton, images, space) <= _flops(shipped, images, space)):
            plan = started
    may_mix = images.task == CLASSIFICATION and images.flips and min(images.train.x.shape[1:3]) >= TINY
    return replace(plan, recipe=mixed_if_long(replace(plan.recipe, mix=MIX), plan.recipe.epochs)) if may_mix else plan


def mixed_if_long(recipe: Recipe, epochs: float) -> Recipe:
    """The recipe, without mixing where fewer `epochs` than `LONG` are expected."""
    return recipe if epochs >= LONG else replace(recipe, mix=0.0)


def plan_fine_tuning(images: ImageDataset, space: SearchSpace, *, epochs: int | None = None, timed: bool = False) -> Plan:
    """The plan of the final training of an architecture that inherits its weights, on the images of training and validation.

    A network that is pretrained needs few epochs, a small learning rate, and the statistics of normalisation that it comes with: those of
    each batch of few images are too noisy. A `timed` training may use more epochs, and ends with the time.
    """
    n = len(images.train.y) + len(images.val.y)
    recipe = Recipe(
        epochs=epochs or (MOST_FINE_TUNING if timed else FINE_TUNING_EPOCHS), batch_size=32, learning_rate=3e-3, weight_decay=1e-4,
        shift=images.shift, flip=images.flips, crop=CROP if n < FEW_IMAGES else 1.0, keep_statistics=True,
    )  # fmt: skip
    return Plan(skeleton_of(space, inputs=images.inputs), n, recipe)


def plain_skeleton(images: ImageDataset) -> Skeleton:
    """Three stages of 16, 32 and 64 channels, one cell each."""
    return Skeleton(16, 1, _stem_stride(images), inputs=images.inputs)


def relative_cost(arch: Arch, space: SearchSpace) -> float:
    """Multiply-adds of an architecture's network, narrow and on images of 32 pixels, in units of the residual network's; 1 without such a one."""
    if not isinstance(space, HasResNetLike):
        return 1.0
    channels, cells = space.skeletons[min(1, len(space.skeletons) - 1)]
    skeleton = Skeleton(channels, cells)
    flops, residual = (skeleton.size(one, space, num_classes=10, image_size=32).flops for one in (arch, space.from_str(space.resnet_like)))
    return flops / residual


def affordable_side(space: SearchSpace, images: ImageDataset, *, seconds: float) -> int:
    """The resolution at which a pretrained network is adapted: the space's, or where time is short the largest one below that is affordable.

    Affordable is one at which the whole network can be fine-tuned for `ENOUGH_EPOCHS` in about so many `seconds` of one core; the smallest if
    there is none. Few pixels and some epochs are better than many pixels and none.
    """
    assert isinstance(space, Inherits)
    n, classes = len(images.train.y) + len(images.val.y), len(images.classes)
    sides = {
        space.resolution(arch): space.size(arch, num_classes=classes, image_size=space.resolution(arch)).flops for arch in whole_networks(space)
    }  # fmt: skip
    affordable = [side for side, flops in sides.items() if side <= space.side and ENOUGH_EPOCHS * n * flops <= seconds * SPEED]
    return max(affordable, default=min(sides))


def _skeletons(images: ImageDataset, space: SearchSpace) -> list[Skeleton]:
    """The skeletons of the space for these images, the smallest first; where architectures have resolutions of their own, its stem.

    Of photos that are not tiny, the smallest one is there before behind a stem that halves the side once more.
    """
    if isinstance(space, HasResolution):
        return [Skeleton(channels, cells, skeleton_of(space).stem_stride, inputs=images.inputs) for channels, cells in space.skeletons]
    found = [Skeleton(channels, cells, _stem_stride(images), inputs=images.inputs) for channels, cells in space.skeletons]
    kept = images.inputs is not None or max(images.train.x.shape[1:3]) < TINY
    return found if kept else [replace(found[0], stem_stride=2 * found[0].stem_stride), *found]


def _stem_stride(images: ImageDataset) -> int:
    """By what the stem divides the longer side: to about `CELLS_SIDE` pixels, and a signal to about `CELLS_LENGTH` values."""
    longer, kept = max(images.train.x.shape[1:3]), CELLS_LENGTH if images.train.x.shape[1] == 1 else CELLS_SIDE
    return max(1, (longer + kept // 2) // kept)


def _plan(
    images: ImageDataset, space: SearchSpace, skeletons: Sequence[Skeleton], *,
    n: int, seconds: float, epochs: int | None, enough: int, most: int, fewest: int, may_leave_out: bool,
) -> Plan:  # fmt: skip
    batch = 32 if n < 4_000 else 64 if n < 16_000 else 128
    enough = max(enough, -(-LEAST_STEPS // max(n // batch, 1)))

    def passes(skeleton: Skeleton) -> float:
        """Images that can be trained in the time."""
        return seconds * _images_a_second(skeleton, images, space, batch=batch)

    skeleton, affordable = skeletons[0], passes(skeletons[0])
    for larger in skeletons[1:]:
        if (fewer := passes(larger)) < enough * n:
            break
        skeleton, affordable = larger, fewer
    trained = epochs or int(np.clip(affordable // n, fewest, max(enough, most)))
    left_out = may_leave_out and trained * n > affordable
    used = min(n, max(int(affordable) // trained, FEWEST_IMAGES, 20 * len(images.classes))) if left_out else n
    recipe = Recipe(epochs=trained, batch_size=batch, shift=images.shift, flip=images.flips)
    return Plan(skeleton, used, recipe)


def _images_a_second(skeleton: Skeleton, images: ImageDataset, space: SearchSpace, *, batch: int) -> float:
    """Nominal speed of training on one core."""
    return 1 / (_flops(skeleton, images, space) / SPEED + STEP_SECONDS / batch)


def _flops(skeleton: Skeleton, images: ImageDataset, space: SearchSpace) -> float:
    """Multiply-adds of one forward pass of an expensive architecture."""
    rng = np.random.default_rng(0)
    drawn = (space.random(rng) for _ in range(FEWER_DRAWS if skeleton.is_counted else DRAWS))
    sizes = [skeleton.size(arch, space, num_classes=len(images.classes), image_size=images.size) for arch in drawn]
    return float(np.percentile([size.flops for size in sizes], HEAVY))


def logits_of(network: Callable[[Tensor], Tensor], images: Tensor, arch: Arch, space: SearchSpace, *, num_classes: int) -> Tensor:
    """Logits `(b, num_classes)` of `images (b, c, h, w)`; raises `UserError` if the network of `arch` fails or returns another shape."""
    try:
        logits = network(images)
    except (Exception, SystemExit) as error:  # a user's class may fail in any way
        _, c, h, w = images.shape
        given = _given(None if (c, h) == (3, w) else (c, h, w), w)
        raise UserError(f"the network of {space.to_str(arch)} cannot take {given}: {in_a_line(error)}") from error
    expected = (len(images), num_classes)
    if getattr(logits, "shape", None) != expected:
        found = tuple(logits.shape) if hasattr(logits, "shape") else type(logits).__name__
        raise UserError(f"space {space.name!r} builds a network that returns {found} for {len(images)} images, not {expected}")
    return logits


def _given(inputs: tuple[int, ...] | None, side: int) -> str:
    """What a network is given, for an error: arrays of the shape `inputs`, or photos of `side` pixels."""
    return f"images of {side} pixels a side" if inputs is None else f"arrays (channels, height, width) = {inputs}"
