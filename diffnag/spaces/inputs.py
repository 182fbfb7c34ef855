"""How large the images are that the network of an architecture takes."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

from diffnag.errors import UserError
from diffnag.protocols import HasResolution, Inherits, TakesChannels

if TYPE_CHECKING:
    from diffnag.arch import Arch
    from diffnag.protocols import SearchSpace

Parts = TypeVar("Parts", bound=Inherits)


def side_of(arch: Arch, space: SearchSpace, given: int) -> int:
    """Pixels a side of the input of an architecture's network: its own resolution if it has one, else the `given` side."""
    return space.resolution(arch) if isinstance(space, HasResolution) else given


def suited_to(inputs: tuple[int, int, int] | None, space: Parts) -> Parts:
    """The space for arrays `inputs`, (channels, height, width); the space itself for photos, and where it takes no other channels."""
    return space if inputs is None or not isinstance(space, TakesChannels) else space.with_channels(inputs[0])


def whole_networks(space: SearchSpace) -> list[Arch]:
    """The whole pretrained network at each resolution, that of its `side` first; none where architectures inherit no weights."""
    if not isinstance(space, Inherits):
        return []
    whole = space.member(space.largest)
    found = [space.largest, *(arch for arch in space.neighbours(space.largest) if space.member(arch) == whole)]
    return sorted(found, key=lambda arch: (abs(space.resolution(arch) - space.side), -space.resolution(arch)))


def refuse_resolutions(space: SearchSpace, what: str) -> None:
    """Raise `UserError` if architectures of `space` have resolutions of their own; `what` names what takes one size for all of them."""
    if isinstance(space, HasResolution):
        instead = "; use --oracle inherit" if isinstance(space, Inherits) else ""
        raise UserError(
            f"{what} takes images of one size for all architectures, and those of space {space.name!r} have their own resolution{instead}"
        )
