"""Train a network on images in memory, as one tensor and without a data loader; the weights are averaged over the last steps."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Mapping
from copy import deepcopy
from dataclasses import dataclass
from itertools import chain
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from diffnag.io.threads import StepThreads
from diffnag.networks.targets import Classification, Target

MOST_EVALUATED, EVALUATED_PIXELS = 512, 1_600_000
"""Images, and pixels, of one pass without gradients: more of them are slower, as they do not stay in the processor's caches."""
LARGEST_GRADIENT = 3.0
"""Norm of the gradient, at most, where normalisation keeps its statistics: a part with few channels may amplify what is left of a signal."""
CLASSIFICATION: Target = Classification()


class Diverged(RuntimeError):
    """The loss or the weights are no longer finite."""


@dataclass(frozen=True)
class Recipe:
    """How a network is trained: SGD with Nesterov momentum; the learning rate rises in a warm-up and falls as a cosine.

    `warm_up` is a share of the training, `average` the share over which the exponential moving average of the weights extends.
    `shift` is the largest random translation in pixels; with `flip`, images are mirrored at random. `crop` is the smallest share of an
    image's area that a random crop keeps; 1 crops nothing. `mix` is the share of steps in which a part of each image is exchanged, see
    `exchanged`. With `keep_statistics`, batch normalisation uses the statistics that the
    network comes with, for networks that are pretrained.
    """

    epochs: int = 10
    batch_size: int = 128
    learning_rate: float = 0.1
    warm_up: float = 0.1
    weight_decay: float = 5e-4
    momentum: float = 0.9
    label_smoothing: float = 0.1
    average: float = 0.1
    shift: int = 1
    flip: bool = True
    crop: float = 1.0
    mix: float = 0.0
    keep_statistics: bool = False


def as_input(
    images: np.ndarray, *, device: torch.device | str = "cpu", statistics: tuple[Tensor, Tensor] | None = None
) -> Tensor:
    """uint8 images `(n, h, w)` or `(n, h, w, 3)` -> float32 `(n, 3, h, w)` channels-last, each channel standardised.

    Arrays `(n, h, w, c)` of any type keep their channels. `statistics` are mean and standard deviation `(c,)` as `channel_statistics`
    returns them, by default those of the images.
    """
    x = _float_images(images, device=device)
    mean, std = (part.to(device) for part in statistics or _statistics(x))
    return ((x - mean) / std).permute(0, 3, 1, 2).contiguous(memory_format=torch.channels_last)


def channel_statistics(images: np.ndarray) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation `(c,)` of each channel over a set of images, in their own units: 0 to 255 for uint8."""
    if images.dtype == np.uint8:
        return _statistics(_float_images(images, device="cpu"))
    mean, std = images.mean((0, 1, 2), dtype=np.float64), images.std((0, 1, 2), dtype=np.float64)
    return torch.from_numpy(mean).float(), torch.from_numpy(np.where(std > 0, std, 1)).float()  # a channel may be constant


def _float_images(images: np.ndarray, *, device: torch.device | str) -> Tensor:
    x = torch.from_numpy(np.ascontiguousarray(images)).to(device)
    x = x[..., None].expand(-1, -1, -1, 3) if x.ndim == 3 else x
    return x.float()


def _statistics(x: Tensor) -> tuple[Tensor, Tensor]:
    return x.mean((0, 1, 2)), x.std((0, 1, 2)).clamp_min(1e-3)


def train(
    model: nn.Module,
    x: Tensor,
    y: Tensor,
    recipe: Recipe,
    *,
    generator: torch.Generator,
    seconds: float | None = None,
    on_epoch: Callable[[int, nn.Module], object] = lambda epoch, averaged: None,
    target: Target = CLASSIFICATION,
) -> nn.Module:
    """Train `model` on images `x (n, c, h, w)` and labels `y` of the `target`; return the network of averaged weights, in evaluation mode.

    With `seconds` the training ends after so long, within an epoch if need be, and the learning rate falls in time for it.
    `on_epoch(done, averaged)` is called after each epoch; it may raise an error to end the training. Raises `Diverged`.
    """
    for done, averaged in enumerate(epochs(model, x, y, recipe, generator=generator, seconds=seconds, target=target), start=1):
        on_epoch(done, averaged)
    return averaged


def epochs(
    model: nn.Module, x: Tensor, y: Tensor, recipe: Recipe, *,
    generator: torch.Generator, seconds: float | None = None, target: Target = CLASSIFICATION,
) -> Iterator[nn.Module]:
    """`train` as an iterator: yields the network of averaged weights, in evaluation mode, after each epoch, and where the time ends."""
    return Training(model, x, y, recipe, generator=generator, seconds=seconds, target=target).epochs()


class Training:
    """A training that may be interrupted after an epoch; the arguments are those of `train`. Its `state_dict` is all that it goes on from."""

    def __init__(
        self, model: nn.Module, x: Tensor, y: Tensor, recipe: Recipe, *,
        generator: torch.Generator, seconds: float | None = None, target: Target = CLASSIFICATION,
    ) -> None:  # fmt: skip
        self.model, self.done = model, 0
        self._x, self._y, self._recipe, self._generator, self._seconds, self._target = x, y, recipe, generator, seconds, target
        self._batch = min(recipe.batch_size, len(x))
        self._steps = len(x) // self._batch
        self._average = MovingAverage(model, weight=1 / max(1.0, recipe.average * recipe.epochs * self._steps))
        self._optimiser = torch.optim.SGD(
            model.parameters(), recipe.learning_rate, recipe.momentum, nesterov=True, weight_decay=recipe.weight_decay, fused=True
        )

    @property
    def averaged(self) -> nn.Module:
        """The network of averaged weights, in evaluation mode."""
        return self._average.network.eval()

    def epochs(self) -> Iterator[nn.Module]:
        """Take the epochs that are left; see the function `epochs`."""
        clock, batch = Clock(self._recipe.epochs * self._steps, self._seconds), self._batch
        self.model.train()
        if self._recipe.keep_statistics:
            for module in self.model.modules():
                if isinstance(module, nn.BatchNorm2d):
                    module.eval()
        with StepThreads() as threads:
            for epoch in range(self.done, self._recipe.epochs):
                order = torch.randperm(len(self._x), generator=self._generator)
                for k in range(self._steps):
                    with threads.step():
                        chosen = order[k * batch : (k + 1) * batch].to(self._x.device)
                        loss = self._step(chosen, clock.progress(epoch * self._steps + k + 1))
                    if clock.is_over:
                        break
                if not math.isfinite(loss.item()):
                    raise Diverged(f"the loss is {loss.item()} after epoch {epoch + 1}")
                if not all_finite(self._average.network):
                    raise Diverged(f"there are weights that are not finite after epoch {epoch + 1}")
                self.done = epoch + 1
                yield self.averaged
                if clock.is_over:
                    return

    def state_dict(self) -> dict[str, Any]:
        """Weights, their average, the optimiser and the generator after the epochs that are `done`."""
        return {
            "done": self.done, "model": self.model.state_dict(), "average": self._average.network.state_dict(),
            "optimiser": self._optimiser.state_dict(), "generator": self._generator.get_state(),
        }  # fmt: skip

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from such a state of a training with the same arguments."""
        self.model.load_state_dict(state["model"])
        self._average.load(state["average"])
        self._optimiser.load_state_dict(state["optimiser"])
        self._generator.set_state(state["generator"])
        self.done = int(state["done"])

    def _step(self, chosen: Tensor, progress: float) -> Tensor:
        recipe = self._recipe
        for group in self._optimiser.param_groups:
            group["lr"] = recipe.learning_rate * one_cycle(progress, recipe.warm_up)
        images = augment(self._x[chosen], shift=recipe.shift, flip=recipe.flip, crop=recipe.crop, generator=self._generator)
        loss = self._loss(images, self._y[chosen])
        self._optimiser.zero_grad()
        loss.backward()
        if recipe.keep_statistics:
            nn.utils.clip_grad_norm_(self.model.parameters(), LARGEST_GRADIENT)
        self._optimiser.step()
        self._average.update()
        return loss

    def _loss(self, images: Tensor, labels: Tensor) -> Tensor:
        recipe, target = self._recipe, self._target
        if recipe.mix == 0 or torch.rand((), generator=self._generator).item() >= recipe.mix:
            return target.loss(self.model(images), labels, smoothing=recipe.label_smoothing)
        images, others, share = exchanged(images, generator=self._generator)
        outputs = self.model(images)
        own, foreign = (target.loss(outputs, known, smoothing=recipe.label_smoothing) for known in (labels, labels[others]))
        return share * own + (1 - share) * foreign


class MovingAverage:
    """Exponential moving average of a network's weights and statistics: `network`, a copy.

    Each step counts with `weight`. Torch's `AveragedModel` does the same; for networks of many small layers it takes as long as their
    optimiser, since it sorts all tensors again at each step.
    """

    def __init__(self, model: nn.Module, *, weight: float) -> None:
        self.network, self._weight, self._is_empty = deepcopy(model), weight, True
        pairs = [*zip(_tensors(self.network), _tensors(model), strict=True)]
        self._averages, self._current = ([pair[i] for pair in pairs if pair[0].is_floating_point()] for i in (0, 1))

    @torch.no_grad()
    def update(self) -> None:
        """Take note of the network's weights; the first ones replace those that the copy was made with."""
        torch._foreach_lerp_(self._averages, self._current, 1.0 if self._is_empty else self._weight)
        self._is_empty = False

    def load(self, state: Mapping[str, Any]) -> None:
        """Go on from the `state_dict` of its network."""
        self.network.load_state_dict(state)
        self._is_empty = False


def _tensors(model: nn.Module) -> Iterator[Tensor]:
    """Parameters and buffers."""
    return chain((parameter.detach() for parameter in model.parameters()), model.buffers())


class Clock:
    """Progress of a training of so many `steps`, or of so many `seconds` if these are over first."""

    def __init__(self, steps: int, seconds: float | None = None) -> None:
        self.steps, self.seconds = steps, seconds
        self._begin = time.perf_counter()

    def progress(self, step: int) -> float:
        """The share that is done with the step of this number, from 1 on: of the steps, or of the time if that is more; at most 1."""
        return min(1.0, max(step / self.steps, self._elapsed))

    @property
    def is_over(self) -> bool:
        """Whether the time is over."""
        return self._elapsed >= 1

    @property
    def _elapsed(self) -> float:
        return 0.0 if self.seconds is None else (time.perf_counter() - self._begin) / max(self.seconds, 1e-9)


def all_finite(model: nn.Module) -> bool:
    """Whether no parameter or buffer has NaN or infinite entries."""
    tensors = [tensor.detach().flatten() for tensor in model.state_dict().values() if isinstance(tensor, Tensor) and tensor.is_floating_point()]
    return not tensors or bool(torch.cat(tensors).isfinite().all())


def one_cycle(progress: float, warm_up: float) -> float:
    """Factor of the learning rate at `progress` in (0, 1]: it rises linearly from 0 to 1 over `warm_up`, then falls as a cosine to 0."""
    if progress < warm_up:
        return progress / warm_up
    return 0.5 * (1 + math.cos(math.pi * (progress - warm_up) / (1 - warm_up)))


def augment(x: Tensor, *, shift: int, flip: bool, crop: float = 1.0, generator: torch.Generator) -> Tensor:
    """Mirror half of the images at random, and move each by up to `shift` pixels; pixels of the edge are repeated.

    With `crop` below 1 each is then cropped to a random part of its area, `crop` at least, and of its own size again.
    """
    if crop < 1:
        x = _cropped(x, crop, generator=generator)
    if not (shift or flip):
        return x
    n, _, h, w = x.shape
    rows, columns = torch.arange(h).expand(n, h), torch.arange(w).expand(n, w)
    if shift:
        moves = torch.randint(-shift, shift + 1, (2, n, 1), generator=generator)
        rows, columns = (rows + moves[0]).clamp(0, h - 1), (columns + moves[1]).clamp(0, w - 1)
    if flip:
        mirrored = torch.rand(n, 1, generator=generator) < 0.5
        columns = torch.where(mirrored, w - 1 - columns, columns)
    index = (torch.arange(n)[:, None, None], rows[:, :, None], columns[:, None, :])
    last = x.permute(0, 2, 3, 1)  # channels-last memory: a view
    moved = last[tuple(part.to(x.device) for part in index)]
    return moved.permute(0, 3, 1, 2)


def exchanged(x: Tensor, *, generator: torch.Generator) -> tuple[Tensor, Tensor, float]:
    """Images `(n, c, h, w)` of which one rectangle is exchanged with that of another image (CutMix, Yun et al., ICCV 2019).

    Also returns the numbers `(n,)` of the other images, and the share of the area that is an image's own. That share is uniform, but where the
    rectangle reaches beyond the edge.
    """
    n, _, h, w = x.shape
    share, *centre = torch.rand(3, generator=generator).tolist()
    others = torch.randperm(n, generator=generator).to(x.device)
    (top, bottom), (left, right) = (_span(place, (1 - share) ** 0.5, side) for place, side in zip(centre, (h, w), strict=True))
    mixed = x.clone(memory_format=torch.preserve_format)
    mixed[:, :, top:bottom, left:right] = x[others, :, top:bottom, left:right]
    return mixed, others, 1 - (bottom - top) * (right - left) / (h * w)


def _span(centre: float, length: float, side: int) -> tuple[int, int]:
    """First pixel, and the one behind the last, of a span around `centre`; both in parts of the side."""
    return max(0, round(side * (centre - length / 2))), min(side, round(side * (centre + length / 2)))


def _cropped(x: Tensor, least: float, *, generator: torch.Generator) -> Tensor:
    """A random part of each image, with a ratio of sides between 3/4 and 4/3, resized bilinearly (Szegedy et al., CVPR 2015)."""
    area, ratio, *place = torch.rand(4, len(x), generator=generator)
    side, stretch = (least + (1 - least) * area).sqrt(), (4 / 3) ** (ratio - 0.5)
    scale = torch.stack([side * stretch, side / stretch], 1).clamp_max(1.0)
    centre = (2 * torch.stack(place, 1) - 1) * (1 - scale)
    grid = functional.affine_grid(torch.cat([scale.diag_embed(), centre[:, :, None]], 2).to(x.device), list(x.shape), align_corners=False)
    sampled = functional.grid_sample(x, grid, padding_mode="border", align_corners=False)
    return sampled.contiguous(memory_format=torch.channels_last)


@torch.no_grad()
def logits(model: nn.Module, x: Tensor, *, side: int | None = None) -> Tensor:
    """Logits `(n, classes)` of images `(n, 3, h, w)`, in evaluation mode; `side` is that of the network's input, if it resizes them."""
    model.eval()
    return torch.cat([model(part) for part in x.split(evaluation_batch(side * side if side else x.shape[-2] * x.shape[-1]))])


def evaluation_batch(pixels: int) -> int:
    """Images of one pass without gradients through a network that takes so many `pixels` each, height times width."""
    return max(1, min(MOST_EVALUATED, EVALUATED_PIXELS // pixels))


def accuracy(model: nn.Module, x: Tensor, y: Tensor, *, side: int | None = None, target: Target = CLASSIFICATION) -> float:
    """Score of the `target` in %: for classes, the share of images `x` whose largest logit is at their label `y`; `side` as for `logits`."""
    return target.score(target.answer(logits(model, x, side=side)), y)
