"""Who answers for an architecture: a benchmark's table, its surrogate, or training on a user's own images."""

from __future__ import annotations

from typing import TYPE_CHECKING

from diffnag.errors import DataNotFound, UserError
from diffnag.plugins import make_oracle
from diffnag.protocols import NeedsImages
from diffnag.search_loop.options import SEARCH_SHARE, SearchOptions

if TYPE_CHECKING:
    from diffnag.datasets.images import ImageDataset
    from diffnag.protocols import Oracle, SearchSpace


def is_own_images(options: SearchOptions, space: SearchSpace) -> bool:
    """Whether the dataset is a user's own images; the names that the space knows come first."""
    from diffnag.datasets.images import is_image_source

    return options.dataset not in space.datasets and is_image_source(options.dataset)


def oracle_on_images(options: SearchOptions, space: SearchSpace) -> tuple[Oracle, ImageDataset]:
    """An oracle that trains, set up with the images, of which it may take `SEARCH_SHARE` of the time."""
    from diffnag.datasets.images import load_images
    from diffnag.networks.plan import epochs_within

    name = "training" if options.oracle == "auto" else options.oracle
    oracle = make_oracle(name)
    if not isinstance(oracle, NeedsImages):
        raise UserError(f"oracle {name!r} knows no images of one's own such as {options.dataset}; accepted is --oracle training")
    if options.reward != "val":
        raise UserError(f"--reward {options.reward} would choose by the images that judge in the end; accepted with one's own images is val")
    images = load_images(options.dataset, size=options.image_size)
    oracle.setup(space=space)
    seconds = None if options.time_limit is None else SEARCH_SHARE * options.time_limit / options.budget
    epochs = options.epochs
    if epochs is not None and options.time_limit is not None and seconds is not None:
        epochs = epochs_within(images, space, epochs=epochs, each=seconds, total=SEARCH_SHARE * options.time_limit)
    oracle.set_images(images, dataset=options.dataset, seconds=seconds, epochs=epochs, seed=options.seed, device=options.device)
    return oracle, images


def refuse_image_options(options: SearchOptions, oracle: Oracle) -> None:
    if isinstance(oracle, NeedsImages):
        raise UserError(
            f"oracle {oracle.kind!r} trains on one's own images, and {options.dataset!r} names none; accepted as --dataset "
            f"are digits, a folder with one sub-folder of images a class, or an .npz file"
        )
    given = {"--image-size": options.image_size, "--epochs": options.epochs}
    if told := [name for name, value in given.items() if value is not None]:
        raise UserError(f"{' and '.join(told)} is for one's own images, and {options.dataset!r} names none; leave it out")


def find_oracle(name: str, space: SearchSpace) -> Oracle:
    """The oracle called `name`, set up for `space`; `auto` is the table where it is here, else the surrogate."""
    oracle = make_oracle("table" if name == "auto" else name)
    try:
        oracle.setup(space=space)
        if name == "auto" and not getattr(oracle, "complete", True):
            raise DataNotFound(f"the {space.name} table that is here has a part of the architectures only; --oracle table uses it")
    except DataNotFound as missing:
        if name != "auto":
            raise
        oracle = make_oracle("surrogate")
        try:
            oracle.setup(space=space)
        except DataNotFound:
            raise DataNotFound(
                f"{missing}; nor is a surrogate shipped for {space.name}; accepted are also one's own images as --dataset (digits, a folder, "
                f"an .npz file), or another --oracle, such as naswot, synflow or zen, which train nothing"
            ) from missing
    return oracle
