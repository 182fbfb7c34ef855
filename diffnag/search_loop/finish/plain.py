"""What a user would train without a search, in the same time: the whole pretrained network, or a residual network from scratch."""

from __future__ import annotations

import copy
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch

from diffnag.datasets.images import MOST, ImageDataset, Images
from diffnag.errors import UserError
from diffnag.io.device import resolve_device
from diffnag.networks.adapted import pretrained, statistics_of
from diffnag.networks.build import seeded_build
from diffnag.networks.classifier_file import Classifier, Description, save_model
from diffnag.networks.elastic import Resized, resized
from diffnag.networks.plan import Plan, plain_skeleton, plan_final
from diffnag.networks.targets import target_of
from diffnag.networks.training import Diverged, Recipe, accuracy, train
from diffnag.protocols import HasResNetLike, Inherits
from diffnag.search_loop.finish.finished import Finished
from diffnag.search_loop.finish.training import (
    MOST_EPOCHS,
    Trained,
    final_images,
    judged_on_test,
    kept,
    left_by_earlier_run,
    seconds_an_image,
    until_the_clock,
)  # fmt: skip
from diffnag.search_loop.loop import Search
from diffnag.search_loop.options import DEFAULT_SPACE
from diffnag.spaces.inputs import suited_to, whole_networks
from diffnag.spaces.loading import load_space

FINE_TUNING, PLAIN_RESNET = "fine-tuning", "plain ResNet"
FROM_SCRATCH, SHORT = "ResNet from scratch", "short ResNet from scratch"
FINE_TUNED = Recipe(batch_size=32, learning_rate=0.01, weight_decay=1e-4)
"""How the pretrained network is trained: plainly, with the statistics of each batch in its normalisation."""
TRIED, TRIAL_SHARE = 2, 0.25
"""Resolutions that fine-tuning chooses from, and the part of the time for each of them."""
STEM_KERNEL = 3
"""Kernel of the network's first convolution; with a larger stride it would skip pixels."""
CHUNK = 256
"""Images that are resized at once."""


@dataclass(frozen=True)
class PlainTraining:
    """Trainings on the images of a search, of `seconds` each; what an earlier run of the same search left in `folder` is not trained again."""

    search: Search
    folder: Path
    seconds: float
    on_progress: Callable[[str, int, int], object]

    def fine_tuned(self) -> Finished | None:
        """The whole pretrained network, all its layers trained; None if the space of the search has none.

        A quarter of the time goes to each of two resolutions: the one that the network suits and the next smaller one, trained on the
        training images. The rest goes to the one that is better on the validation images, trained on both. Raises `UserError`.
        """
        space, options, images, plan = self.search.space, self.search.options, self.search.images, self.search.final_plan
        if not isinstance(space, Inherits):
            return None
        assert images and plan
        device, apart = resolve_device(options.device), len(images.val.y)
        tried = [arch for arch in whole_networks(space) if space.resolution(arch) <= space.side][:TRIED]
        recipe = replace(FINE_TUNED, shift=images.shift, flip=images.flips)

        def made() -> tuple[Classifier, Trained]:
            begin, judged = time.perf_counter(), []
            x, y, statistics = final_images(images, statistics_of(images, space), device=device)

            def tuned(side: int, x: torch.Tensor, y: torch.Tensor, share: float) -> tuple[Resized, int]:
                def network() -> Resized:
                    return Resized(pretrained(suited_to(images.inputs, space), classes=len(images.classes), device=device), side)

                found, epochs = self._train(FINE_TUNING, network, x, y, recipe, until=begin + share * self.seconds)
                assert isinstance(found, Resized)
                return found, epochs

            for k, arch in enumerate(tried, start=1):
                found, _ = tuned(side := space.resolution(arch), x[:-apart], y[:-apart], k * TRIAL_SHARE)
                judged.append(accuracy(found, x[-apart:], y[-apart:], side=side))
            best = tried[int(np.argmax(judged))]
            found, epochs = tuned(side := space.resolution(best), x, y, 1.0)
            described = Description(options.space, space.to_str(best), plan.skeleton, images.classes, side, *statistics)
            trained = Trained(epochs, recipe.learning_rate, time.perf_counter() - begin, max(judged))
            return Classifier(kept(found.to("cpu"), images), described).eval(), trained

        return self._finished(FINE_TUNING, options.space, Plan(plan.skeleton, len(images.train.y) + apart, recipe), made)

    def resnet(
        self, name: str = PLAIN_RESNET, *, planned: bool = False, apart: bool = False, start: Finished | None = None
    ) -> Finished:
        """A residual network of three stages of 16, 32 and 64 channels from scratch; where it is `planned`, as large as suits the time.

        Photos are resized to at most `MOST` pixels a side, or to half of that where time is short: of larger ones the stem would skip pixels.
        The model takes images of that size. With `apart` the validation images are left out, and judge it. `start` is such a network of an
        earlier training: its validation accuracy is kept, and the training goes on with it if it is as large. Raises `UserError`.
        """
        options, images = self.search.options, self.search.images
        assert images
        begin = time.perf_counter()
        space, device, target = load_space(DEFAULT_SPACE), resolve_device(options.device), target_of(images)
        assert isinstance(space, HasResNetLike)
        for most in (MOST, MOST // 2):
            images = at_most(images, most)
            plan = plan_final(images, space, seconds=self.seconds, may_start=False)
            skeleton, recipe = plan.skeleton if planned else plain_skeleton(images), plan.recipe
            if skeleton.stem_stride <= STEM_KERNEL:
                break
        arch, side, classes = space.from_str(space.resnet_like), images.size, images.classes
        known = len(images.train.y) + (0 if apart else len(images.val.y))

        def network() -> torch.nn.Module:
            if start and (start.model.description.skeleton, start.model.description.image_size) == (skeleton, side):
                return copy.deepcopy(start.model.network).to(device)
            return seeded_build(skeleton, arch, space, num_classes=len(classes), image_size=side, seed=options.seed, device=device)

        def made() -> tuple[Classifier, Trained]:
            judged = 100 * start.validation.value if start and start.validation else None
            x, y, statistics = final_images(images, None, device=device)
            found, epochs = self._train(name, network, x[:known], y[:known], recipe, until=begin + self.seconds)
            value = accuracy(found, x[known:], y[known:], target=target) if apart else judged
            described = Description(DEFAULT_SPACE, space.resnet_like, skeleton, classes, side, *statistics, target=target)
            found = found.to("cpu", memory_format=torch.contiguous_format)  # type: ignore[call-overload]
            return Classifier(found, described).eval(), Trained(epochs, recipe.learning_rate, time.perf_counter() - begin, value)

        return self._finished(name, DEFAULT_SPACE, Plan(skeleton, known, recipe), made)

    def _train(
        self, name: str, network: Callable[[], torch.nn.Module], x: torch.Tensor, y: torch.Tensor, recipe: Recipe, *, until: float
    ) -> tuple[torch.nn.Module, int]:
        """Train a network until `time.perf_counter` is `until`; returns it and the number of epochs, the last one perhaps in part."""
        assert self.search.images
        target, seed, done = target_of(self.search.images), self.search.options.seed, 0
        an_image = seconds_an_image(network(), x, y, recipe, target=target)
        left = max(0.0, until - time.perf_counter())
        recipe = until_the_clock(recipe, 0.0 if an_image is None else left / (an_image * len(x)), most=MOST_EPOCHS)

        def on_epoch(epoch: int, _: torch.nn.Module) -> None:
            nonlocal done
            done = epoch
            self.on_progress(f"training {name}", epoch, recipe.epochs)

        try:
            found = train(
                network(), x, y, recipe, generator=torch.Generator().manual_seed(seed), seconds=left, on_epoch=on_epoch, target=target,
            )  # fmt: skip
        except Diverged as error:
            raise UserError(f"its training diverged: {error}") from error
        return found, done

    def _finished(self, name: str, space: str, plan: Plan, made: Callable[[], tuple[Classifier, Trained]]) -> Finished:
        """The network that `made` trains by a plan, or that an earlier run has left, judged on the test images."""
        images, path = self.search.images, self.folder / f"{name}.pt"
        assert images
        made_with = {"name": name, "space": space, "sha256": images.sha256, "seed": self.search.options.seed}
        found = left_by_earlier_run(path, made_with, space=space)
        if found is None:
            found = made()
            save_model(path, found[0], about={"made_with": made_with, **found[1]._asdict()})
        return judged_on_test(name, *found, self.search, labels=0, plan=plan)


def at_most(images: ImageDataset, side: int) -> ImageDataset:
    """The photos resized to `side` pixels where they are larger, as a model resizes them; arrays are as they were."""
    if images.inputs is not None or images.size <= side:
        return images

    def smaller(part: Images) -> Images:
        chunks = torch.from_numpy(part.x).permute(0, 3, 1, 2).split(CHUNK)
        x = torch.cat([resized(chunk.float(), side).round().to(torch.uint8) for chunk in chunks])
        return replace(part, x=x.permute(0, 2, 3, 1).contiguous().numpy())

    return replace(images, train=smaller(images.train), val=smaller(images.val), test=smaller(images.test), size=side)
