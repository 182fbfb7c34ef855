"""Which oracle answers a search: a table, its surrogate, a class of the user, or training on a user's own images."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from diffnag.datasets.images.asked import CLASSIFICATION
from diffnag.errors import DataNotFound, UserError
from diffnag.oracles.checked import CheckedOracle, checked_oracle, load_oracle, refuse_unknown
from diffnag.plugins import make_oracle
from diffnag.protocols import GivesNetworks, Inherits, NeedsImages, PrefersOracle, TakesChannels
from diffnag.search_loop.options import INHERITING_SHARE, SEARCH_SHARE, USUAL_BUDGET, SearchOptions

if TYPE_CHECKING:
    from diffnag.datasets.images import ImageDataset
    from diffnag.protocols import Oracle, SearchSpace


def is_own_images(options: SearchOptions, space: SearchSpace) -> bool:
    """Whether the dataset is a user's own images; names that the space knows come first."""
    from diffnag.datasets.images import is_image_source

    return options.dataset not in space.datasets and is_image_source(options.dataset)


def oracle_on_images(options: SearchOptions, space: SearchSpace) -> tuple[CheckedOracle, ImageDataset]:
    """An oracle that trains on a user's own images, set up, and the images; it may use its share of the time limit."""
    from diffnag.networks.plan import affordable_side, epochs_within

    name = ("inherit" if isinstance(space, Inherits) else "training") if options.oracle == "auto" else options.oracle
    oracle = checked_oracle(name, make_oracle(name))
    if not isinstance(oracle, NeedsImages):
        raise UserError(f"oracle {name!r} cannot use your own images, such as {options.dataset}; accepted is --oracle training")
    if options.reward != "val":
        raise UserError(f"--reward {options.reward} would choose by the images of the final test; accepted with your own images is val")
    images = _with_direction(own_images(options, space))
    if isinstance(space, Inherits) and options.time_limit is not None:
        space.side = affordable_side(space, images, seconds=(1 - INHERITING_SHARE) * options.time_limit)
    oracle.setup(space=space)
    share = search_share(oracle)
    count = USUAL_BUDGET if isinstance(space, Inherits) else options.budget  # an adaptation takes its time whatever the budget
    seconds = None if options.time_limit is None else share * options.time_limit / count
    epochs = options.epochs
    if epochs is not None and options.time_limit is not None and seconds is not None and not isinstance(space, Inherits):
        epochs = epochs_within(images, space, epochs=epochs, each=seconds, total=share * options.time_limit)
    oracle.set_images(images, dataset=options.dataset, seconds=seconds, epochs=epochs, seed=options.seed, device=options.device)
    return oracle, images


def own_images(options: SearchOptions, space: SearchSpace) -> ImageDataset:
    """A user's own images, as a search sees them."""
    from diffnag.datasets.images import MOST, load_images

    inherits = isinstance(space, Inherits)
    most = space.resolution(space.largest) if isinstance(space, Inherits) else MOST
    images = load_images(options.dataset, size=options.image_size, most=most, square=inherits, task=options.task)
    adapted = _of_channels(images) if isinstance(space, TakesChannels) else []
    return replace(images, notes=(*images.notes, *adapted))


def _with_direction(images: ImageDataset) -> ImageDataset:
    """The images, with a note if they would be mirrored in training and have a direction."""
    from diffnag.datasets.mirrors import RECOGNISED, recognised_originals

    share = recognised_originals(images) if images.flips else None
    if share is None or share < RECOGNISED:
        return images
    note = f"Images are not mirrored in training: beside its mirror image the original is recognised in {100 * share:.0f} % of the validation images."
    return replace(images, directed=True, notes=(*images.notes, note))


def _of_channels(images: ImageDataset) -> list[str]:
    """What becomes of the first convolution of a network of colour photos: a sentence, if the images are arrays of other channels."""
    from diffnag.networks.stem import COLOURS

    channels = COLOURS if images.inputs is None else images.inputs[0]
    if channels == COLOURS:
        return []
    how = "its weights summed over the colours" if channels == 1 else f"the weights of red, green and blue in turn, times 3/{channels}"
    return [f"The first convolution of the pretrained network was adapted from 3 channels to {channels}: {how}."]


def search_share(oracle: Oracle) -> float:
    """Part of the time limit for the search, if a final training follows."""
    return INHERITING_SHARE if isinstance(oracle, GivesNetworks) else SEARCH_SHARE


def refuse_image_options(options: SearchOptions, oracle: CheckedOracle) -> None:
    """Raise `UserError` for an oracle or options that need a user's own images, which the dataset is not."""
    if isinstance(oracle, NeedsImages):
        raise UserError(
            f"oracle {oracle.kind!r} trains on your own images, and {options.dataset!r} is none; accepted as --dataset "
            f"are digits, a folder with one sub-folder of images for each class, or an .npz file"
        )
    values = {
        "--image-size": options.image_size, "--epochs": options.epochs, "--task": None if options.task == CLASSIFICATION else options.task,
        "--from-scratch": options.from_scratch or None,
    }  # fmt: skip
    if given := [name for name, value in values.items() if value is not None]:
        raise UserError(f"{' and '.join(given)} is for your own images, and {options.dataset!r} is none; leave it out")


def find_oracle(name: str, space: SearchSpace) -> CheckedOracle:
    """The oracle called `name`, set up for `space`.

    `auto` is the one that the space prefers, if it names one, else the table if it is there and complete, else the surrogate.
    """
    if name != "auto":
        return load_oracle(name, space=space)
    if isinstance(space, PrefersOracle):
        return load_oracle(space.oracle, space=space)
    try:
        table = load_oracle("table", space=space)
        if getattr(table.plugin, "complete", True):
            return table
        missing = DataNotFound(f"the {space.name} table that is here has a part of the architectures only; --oracle table uses it")
    except DataNotFound as error:
        missing = error
    try:
        return load_oracle("surrogate", space=space)
    except DataNotFound:
        raise DataNotFound(
            f"{missing}; nor is a surrogate shipped for {space.name}; accepted are also your own images as --dataset (digits, a folder, "
            f"an .npz file), or another --oracle, such as naswot, synflow or zen, which train nothing"
        ) from missing


def refuse_unavailable(options: SearchOptions, oracle: CheckedOracle) -> None:
    """Raise `UserError` if the oracle has not the dataset, or not the split that is maximised."""
    refuse_unknown(oracle.available, options.dataset, options.reward)
