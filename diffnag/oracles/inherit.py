"""The oracle `inherit`: accuracies on a user's own images of architectures that inherit the weights of an adapted pretrained network."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING

from diffnag.datasets.images.asked import CLASSIFICATION
from diffnag.errors import UserError
from diffnag.io.files import cache_folder, take_lock
from diffnag.oracles.checked import refuse_unknown
from diffnag.protocols import Inherits, TakesChannels
from diffnag.spaces.inputs import suited_to, whole_networks

if TYPE_CHECKING:
    from torch import Tensor, nn

    from diffnag.arch import Arch
    from diffnag.datasets.images import ImageDataset, Images
    from diffnag.networks.adapted import Adapted
    from diffnag.networks.elastic import Adaptation
    from diffnag.protocols import SearchSpace

KIND = "elastic network"
WEIGHT, BIAS = "probe.weight", "probe.bias"
"""Names of the probe's tensors in the file."""
WORTH = 15
"""The adaptation may take as long as so many evaluations of a search with the usual budget: half of its time."""
MOST_EPOCHS = 12
"""Epochs of an adaptation for which there is time."""
LEAST_STEPS = 60
"""Steps of an adaptation: few images are seen more often."""
Progress = Callable[[str, int, int], object]


class InheritOracle:
    """Judges each architecture on the validation images, with the weights that it inherits.

    The pretrained network of the space is adapted to the training images once, before the first answer. The result is kept in the user's
    cache: a search that is resumed, and other workers, find it there. An answer costs new statistics of normalisation and one pass
    over the validation images. The oracle never sees the test images.
    """

    kind = "inherit"
    images: ImageDataset
    plan: Adaptation
    """How the pretrained network is adapted."""

    def setup(self, *, space: SearchSpace) -> None:
        """Remember the space; raises `UserError` if its architectures inherit no weights."""
        if not isinstance(space, Inherits):
            raise UserError(
                f"oracle 'inherit' needs a space whose architectures inherit pretrained weights, and {space.name!r} is none; use "
                f"--space efficientnet-lite or --model, or --oracle training"
            )
        self._space, self._name = space, space.name
        self._dataset: str | None = None
        self._adapted: Adapted | None = None

    def set_images(
        self, images: ImageDataset, *, dataset: str, seconds: float | None, epochs: int | None, seed: int, device: str
    ) -> None:
        """See `diffnag.protocols.NeedsImages`; `epochs` are those of the adaptation. Raises `UserError` as `refuse_unfit` does."""
        from diffnag.io.checkpoint import arrays_checksum
        from diffnag.io.device import resolve_device
        from diffnag.io.memory import keep_freed_memory
        from diffnag.networks.adapted import statistics_of
        from diffnag.networks.elastic import MOMENTS, Adaptation
        from diffnag.networks.plan import CROP, FEW_IMAGES

        refuse_unfit(images, self._space, self._name)
        keep_freed_memory()
        self._space = suited_to(images.inputs, self._space)
        self._statistics = statistics_of(images, self._space)
        self.images, self._dataset, self._seed = images, dataset, seed
        self._device = resolve_device(device)
        n = len(images.train.y)
        plan = Adaptation(shift=images.shift, flip=images.flips, crop=CROP if n < FEW_IMAGES else 1.0)
        if seconds is not None:
            plan = replace(plan, seconds=WORTH * seconds, epochs=MOST_EPOCHS)
        plan = replace(plan, epochs=max(plan.epochs, -(-LEAST_STEPS // max(1, n // plan.batch_size))))
        self.plan = plan if epochs is None else replace(plan, epochs=epochs)
        self._judged, self._some = self._tensors(images.val), self._tensors(images.train, most=MOMENTS)
        network = self._space.pretrained(num_classes=len(images.classes))  # finds missing weights before anything is paid for
        self._weights = arrays_checksum((name, tensor.numpy()) for name, tensor in network.state_dict().items())

    @property
    def available(self) -> Mapping[str, tuple[str, ...]]:
        """The user's dataset, with its validation split only."""
        return {} if self._dataset is None else {self._dataset: ("val",)}

    def prepare(self, *, on_progress: Progress = lambda what, done, of: None) -> None:
        """Adapt the network, unless that is done: see `diffnag.protocols.Prepares`."""
        if self._adapted is None:
            path = cache_folder() / "elastic" / f"{self._key()}.safetensors"
            with _alone(path):
                self._adapted = self._kept(path) or self._adapt(path, on_progress)

    def query(self, arch: Arch, *, dataset: str, split: str, epochs: int | None = None) -> float:
        """Validation accuracy in % with inherited weights."""
        from diffnag.networks.elastic import Resized
        from diffnag.networks.training import accuracy

        del epochs  # an architecture is not trained
        refuse_unknown(self.available, dataset, split)
        x, y = self._judged
        side = self._space.resolution(arch)
        return round(accuracy(Resized(self.network(arch), side), x, y, side=side), 4)

    def network(self, arch: Arch) -> nn.Module:
        """See `diffnag.networks.adapted.Adapted.inherited`."""
        self.prepare()
        assert self._adapted
        return self._adapted.inherited(arch, self._space, self._some)

    def probe(self) -> tuple[Arch, nn.Module, float]:
        """See `diffnag.protocols.GivesNetworks`."""
        from diffnag.networks.elastic import write_classifier

        self.prepare()
        assert self._adapted
        network = self._pretrained()
        write_classifier(network, *self._adapted.probe)
        return whole_networks(self._space)[0], network.eval(), self._adapted.probe_accuracy

    def provenance(self) -> Mapping[str, str | float]:
        """Checksum of images and split, and how the network was adapted."""
        if self._dataset is None:
            return {}
        plan = {name: value for name, value in self._plan().items() if value is not None}
        about: dict[str, str | float] = {
            "sha256": self.images.sha256, "weights": self._weights, "image_size": self.images.size, "side": self._space.side
        }  # fmt: skip
        return {**about, **{name: float(value) for name, value in plan.items()}}

    # -- the adaptation

    def _plan(self) -> dict[str, int | float | None]:
        return asdict(self.plan)

    def _key(self) -> str:
        """What decides the adapted weights, as a checksum."""
        about = {
            "space": self._name, "side": self._space.side, "weights": self._weights, "images": self.images.sha256, "seed": self._seed,
            "plan": self._plan(),
        }  # fmt: skip
        return hashlib.sha256(json.dumps(about, sort_keys=True).encode()).hexdigest()[:32]

    def _kept(self, path: Path) -> Adapted | None:
        """The network that an earlier search of the same images has left."""
        from diffnag.io.checkpoint import load_checkpoint, rebuilding
        from diffnag.networks.adapted import Adapted

        if not path.is_file():
            return None
        tensors, meta = load_checkpoint(path, kind=KIND, needs={"probe_accuracy": float})
        network = self._pretrained()
        with rebuilding(path):
            probe = (tensors.pop(WEIGHT).numpy(), tensors.pop(BIAS).numpy())
            network.load_state_dict(tensors)
        return Adapted(network.eval(), float(meta["probe_accuracy"]), probe)

    def _adapt(self, path: Path, on_progress: Progress) -> Adapted:
        import torch

        from diffnag.io.checkpoint import save_checkpoint
        from diffnag.networks.adapted import adapted

        what, images = "adapting the pretrained network", self.images
        on_progress(what, 0, 100)
        found = adapted(
            self._space, self._tensors(images.train), self._tensors(images.val), self.plan, classes=len(images.classes), seed=self._seed,
            on_share=lambda share: on_progress(what, int(100 * share), 100),
        )  # fmt: skip
        about = {
            "kind": KIND, "space": self._name, "images": images.sha256, "plan": self._plan(), "probe_accuracy": found.probe_accuracy
        }  # fmt: skip
        probed = {name: torch.from_numpy(values) for name, values in zip((WEIGHT, BIAS), found.probe, strict=True)}
        save_checkpoint(path, {**found.network.state_dict(), **probed}, about)
        return found

    def _pretrained(self) -> nn.Module:
        from diffnag.networks.adapted import pretrained

        return pretrained(self._space, classes=len(self.images.classes), device=self._device)

    def _tensors(self, part: Images, *, most: int | None = None) -> tuple[Tensor, Tensor]:
        """See `diffnag.networks.adapted.as_part`."""
        from diffnag.networks.adapted import as_part

        return as_part(part.x, part.y, self._statistics, device=self._device, most=most)


def refuse_unfit(images: ImageDataset, space: Inherits, name: str) -> None:
    """Raise `UserError` for signals, for arrays whose channels the pretrained network cannot take, and for tasks that are no classification."""
    given, other = None, "nasbench201"
    known = "images" if isinstance(space, TakesChannels) else "photos of 1 or 3 channels"
    if images.task != CLASSIFICATION:
        given = f"images for a {images.task} task"
    elif images.inputs is not None:
        c, h, w = images.inputs
        if h == 1:
            given = f"signals of {c} channels"
        elif not isinstance(space, TakesChannels):
            given = f"arrays of {c} channels, {w} x {h} pixels, with values that are no pixels of photos"
            other = "efficientnet-lite or nasbench201"
    if given:
        raise UserError(f"the pretrained networks of space {name!r} classify {known}, and {images.name} holds {given}; use --space {other}")


@contextmanager
def _alone(path: Path) -> Iterator[None]:
    """Hold the lock beside a file: of several workers one adapts the network, and the others find it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.with_suffix(".lock").open("w") as lock:
        take_lock(lock.fileno())
        yield
