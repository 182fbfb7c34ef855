"""The network whose latency is meant, and how it is run."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from diffnag.errors import UserError, in_a_line
from diffnag.io.checkpoint import config_from
from diffnag.networks.plan import LONGEST, Skeleton
from diffnag.protocols import HasResolution
from diffnag.spaces.tokens import refuse_tokens

if TYPE_CHECKING:
    from diffnag.arch import Arch
    from diffnag.protocols import SearchSpace, Size

MOST_BATCH, MOST_THREADS = 4096, 1024
OWN = 0
"""The image size of an export whose architectures have resolutions of their own."""


@dataclass(frozen=True)
class Export:
    """Shape of the networks of a space, and how they are run: latencies of two exports cannot be compared."""

    num_classes: int
    image_size: int
    """Pixels a side of the images; `OWN` where each architecture has its own resolution."""
    channels: int
    cells: int
    stem_stride: int = 1
    batch: int = 1
    threads: int = 1
    inputs: tuple[int, int, int] | None = None
    """Channels, height and width of images that are no photos."""

    def __post_init__(self) -> None:
        _ = self.skeleton  # it checks its own numbers
        longest = 4096 if self.inputs is None else LONGEST
        for name, least, most in (
            ("num_classes", 1, 1_000_000), ("image_size", OWN, longest), ("batch", 1, MOST_BATCH), ("threads", 1, MOST_THREADS)
        ):  # fmt: skip
            value = getattr(self, name)
            if type(value) is not int or not least <= value <= most:
                raise UserError(f"{name} is {value!r}; {least} to {most:,} are accepted")

    @classmethod
    def of(
        cls, space: SearchSpace, *, num_classes: int | None = None, image_size: int | None = None, skeleton: Skeleton | None = None,
        batch: int = 1, threads: int = 1,
    ) -> Export:  # fmt: skip
        """The export of a space; what is not given is that of its first dataset and of the benchmark's own network.

        `image_size` does not matter to architectures with a resolution of their own.

        Raises `UserError` for a space without datasets whose shape is not given, for the small network of a space, and for language
        models.
        """
        from diffnag.networks.plan import skeleton_of

        refuse_tokens(space, "the latency of a network")
        known = next(iter(space.datasets.values()), None)
        own = isinstance(space, HasResolution)
        if known is None and (num_classes is None or (image_size is None and not own)):
            raise UserError(f"space {space.name!r} names no dataset; give the number of classes and the image side")
        classes, side = known or (0, 0)
        skeleton = skeleton or skeleton_of(space)
        if skeleton.small:
            raise UserError("the latency of a space's small network is not known; the network of the final training is meant")
        size = OWN if own else image_size or side
        return cls(
            num_classes or classes, size, skeleton.channels, skeleton.cells, skeleton.stem_stride, batch=batch, threads=threads,
            inputs=skeleton.inputs,
        )

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> Export:
        """The export from the mapping in a file; raises `ValueError` or `UserError` where it is none."""
        inputs = content.get("inputs")
        return config_from(cls, {**content, "inputs": tuple(inputs) if isinstance(inputs, list) else inputs})

    @property
    def arguments(self) -> str:
        """The arguments of `python -m diffnag.device` that ask for it."""
        return (
            f"--num-classes {self.num_classes} {self._images[0]}--channels {self.channels} --cells {self.cells} --stem-stride {self.stem_stride} "
            f"--batch {self.batch} --threads {self.threads}"
        )

    @property
    def _images(self) -> tuple[str, str]:
        """What the networks take: as an argument, and in words."""
        if self.inputs:
            return f"--inputs {','.join(map(str, self.inputs))} ", f"arrays (channels, height, width) = {self.inputs}"
        if self.image_size == OWN:
            return "", "images of each architecture's own resolution"
        return f"--input-size {self.image_size} ", f"images of {self.image_size} pixels a side"

    @property
    def skeleton(self) -> Skeleton:
        """The network around the cells."""
        return Skeleton(self.channels, self.cells, self.stem_stride, inputs=self.inputs)

    def size(self, arch: Arch, space: SearchSpace) -> Size:
        """Size of the network of an architecture."""
        return self.skeleton.size(arch, space, num_classes=self.num_classes, image_size=self.image_size)

    def write(self, path: Path, arch: Arch, space: SearchSpace) -> None:
        """Write the network of an architecture, untrained, as ONNX; raises `UserError` if it cannot be built or exported."""
        import torch

        from diffnag.networks.classifier_file import export_onnx
        from diffnag.networks.untrained import untrained_network

        model = untrained_network(space, arch, self.skeleton, num_classes=self.num_classes, image_size=self.image_size)
        try:
            export_onnx(path, model)
        except (RuntimeError, torch.onnx.OnnxExporterError) as failure:
            raise UserError(f"the network of {space.to_str(arch)} could not be exported: {in_a_line(failure)}") from failure

    def difference(self, other: Export) -> str | None:
        """The first fact in which another export differs, in words, or None."""
        for field in fields(self):
            mine, theirs = getattr(self, field.name), getattr(other, field.name)
            if mine != theirs:
                return f"{field.name.replace('_', ' ')} {mine}, not {theirs}"
        return None

    def __str__(self) -> str:
        return (
            f"{self.skeleton}, {self.num_classes} classes, {self._images[1]}, batch {self.batch}, "
            f"{self.threads} {'thread' if self.threads == 1 else 'threads'}"
        )
