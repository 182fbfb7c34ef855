"""An elastic network: one set of pretrained weights, adapted to a user's images once, from which every architecture inherits its own.

The adaptation has four steps. `rebase` makes the statistics of normalisation those of the user's images. The most important channels come
first. A linear classifier is fitted to the features (a linear probe). Then the whole network, the smallest part and random parts are
trained in turn, and the parts learn from the whole one's outputs (the sandwich rule and distillation in place of Yu & Huang, ICCV 2019).
"""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from diffnag.io.threads import StepThreads
from diffnag.networks.training import LARGEST_GRADIENT, Clock, Diverged, all_finite, augment, evaluation_batch, logits, one_cycle

if TYPE_CHECKING:
    from diffnag.protocols import Inherits

MOMENTS = 128
"""Images from which statistics of normalisation are computed."""
STRENGTHS = (1e-3, 1e-2, 1e-1)
"""Inverse strengths of the classifier's ridge penalty, of which the best on validation images is taken."""


@dataclass(frozen=True)
class Adaptation:
    """How the shared weights are trained: SGD with Nesterov momentum and a learning rate that rises and falls once.

    With `seconds` the training ends after so long, however many of the `epochs` are done, and the learning rate falls in time for it.
    """

    epochs: int = 4
    seconds: float | None = None
    batch_size: int = 32
    learning_rate: float = 3e-3
    warm_up: float = 0.1
    weight_decay: float = 1e-4
    momentum: float = 0.9
    label_smoothing: float = 0.1
    shift: int = 1
    flip: bool = True
    crop: float = 1.0

    def __str__(self) -> str:
        """What an evaluation is, for a user."""
        time = "" if self.seconds is None else f" or {self.seconds:.0f} s"
        epochs = f"{self.epochs} epoch" + "s" * (self.epochs != 1)
        return f"weights inherited from a pretrained network, which is adapted for {epochs}{time}"


def memory_format(device: torch.device | str) -> torch.memory_format:
    """How images and weights of networks with depthwise convolutions lie in memory: channels last on the CPU, where they are faster so.

    Elsewhere channels come first. From version 9.10 on cuDNN compiles a kernel for each new shape of a depthwise convolution with channels
    last, which takes seconds for each part of an elastic network.
    """
    return torch.channels_last if torch.device(device).type == "cpu" else torch.contiguous_format


def resized(images: Tensor, side: int) -> Tensor:
    """Images `(b, c, h, w)` -> `(b, c, side, side)`, bilinear, antialiased where they become smaller, in the `memory_format` of their device."""
    if images.shape[-2:] != (side, side):
        smaller = side < max(images.shape[-2:])
        images = functional.interpolate(images, size=(side, side), mode="bilinear", antialias=smaller, align_corners=False)
    return images.contiguous(memory_format=memory_format(images.device))


class Resized(nn.Module):
    """A network behind a resizing of its images."""

    def __init__(self, network: nn.Module, side: int) -> None:
        super().__init__()
        self.network, self.side = network, side

    def forward(self, images: Tensor) -> Tensor:
        """Images `(b, c, h, w)` of any size -> logits."""
        logits: Tensor = self.network(resized(images, self.side))
        return logits


# -- statistics of normalisation


@torch.no_grad()
def rebase(network: nn.Module, images: Tensor) -> None:
    """Make the statistics of all batch normalisations those of `images`, and change scales and shifts so that nothing else changes.

    Normalisations without scale and shift, or without statistics, stay as they are.

    A part of the network gets statistics of its own by `recalibrate`. Without the new base these would bring its layers to the
    distribution of the images that the weights were trained on, and the outputs of a network of ImageNet on photos of 32 pixels would
    change beyond recognition.
    """
    norms = [module for module in network.modules() if isinstance(module, nn.BatchNorm2d) and module.affine and module.track_running_stats]
    moments: dict[nn.BatchNorm2d, tuple[Tensor, Tensor]] = {}

    def remember(norm: nn.Module, given: tuple[Tensor, ...]) -> None:
        assert isinstance(norm, nn.BatchNorm2d)
        moments[norm] = (given[0].mean((0, 2, 3)), given[0].var((0, 2, 3)))

    hooks = [norm.register_forward_pre_hook(remember) for norm in norms]
    network.eval()(images)
    for hook in hooks:
        hook.remove()
    for norm, (mean, var) in moments.items():
        assert norm.running_mean is not None and norm.running_var is not None
        before, after = (norm.running_var + norm.eps).sqrt(), (var + norm.eps).sqrt()
        norm.bias.add_(norm.weight * (mean - norm.running_mean) / before)
        norm.weight.mul_(after / before)
        norm.running_mean.copy_(mean)
        norm.running_var.copy_(var)


def recalibrate(network: nn.Module, images: Tensor) -> nn.Module:
    """Compute the statistics of all batch normalisations from `images`; returns the network, in evaluation mode."""
    from torch.optim.swa_utils import update_bn

    update_bn(images.split(evaluation_batch(images.shape[-2] * images.shape[-1])), network)
    return network.eval()


@torch.no_grad()
def with_better_statistics(network: nn.Module, images: Tensor, labels: Tensor) -> nn.Module:
    """The network as it is, or a copy with the statistics of `images`: the one with the smaller cross-entropy on them; in evaluation mode.

    A part that is nearly the whole network is better with the statistics that it inherits, and a small part with its own.
    """
    own = recalibrate(copy.deepcopy(network), images)
    return min((network.eval(), own), key=lambda one: functional.cross_entropy(logits(one, images), labels).item())


# -- the linear probe


@torch.no_grad()
def features(network: nn.Module, images: Tensor, *, side: int) -> np.ndarray:
    """Features `(n, d)` of images of any size, resized to `side`."""
    network.eval()
    extract = network.features
    return np.concatenate([extract(resized(part, side)).cpu().numpy() for part in images.split(evaluation_batch(side**2))])  # type: ignore[operator]


@dataclass(frozen=True)
class Probe:
    """A linear classifier of features: logits `x weight' + bias`, with its accuracy in % on validation images."""

    weight: np.ndarray
    bias: np.ndarray
    accuracy: float
    strength: float


@torch.no_grad()
def write_classifier(network: nn.Module, weight: np.ndarray, bias: np.ndarray) -> None:
    """Set the linear layer `classifier` of a network."""
    classifier = network.get_submodule("classifier")
    assert isinstance(classifier, nn.Linear)
    classifier.weight.copy_(torch.from_numpy(weight))
    classifier.bias.copy_(torch.from_numpy(bias))


def fit_probe(x: np.ndarray, y: np.ndarray, x_val: np.ndarray, y_val: np.ndarray) -> Probe:
    """Multinomial logistic regression on standardised features, with the penalty that is best on the validation images."""
    return max((_probe(x, y, x_val, y_val, strength) for strength in STRENGTHS), key=lambda probe: probe.accuracy)


def _probe(x: np.ndarray, y: np.ndarray, x_val: np.ndarray, y_val: np.ndarray, strength: float) -> Probe:
    weight, bias = logistic(x, y, strength)
    accuracy = 100 * float(((x_val @ weight.T + bias).argmax(1) == y_val).mean())
    return Probe(weight, bias, accuracy, strength)


def logistic(x: np.ndarray, y: np.ndarray, strength: float) -> tuple[np.ndarray, np.ndarray]:
    """Weights `(classes, d)` and biases `(classes,)` of a multinomial logistic regression on features `x (n, d)`, standardised for the fit."""
    from sklearn.linear_model import LogisticRegression

    mean, std = x.mean(0), x.std(0) + 1e-3
    fitted = LogisticRegression(C=strength, max_iter=1_000).fit((x - mean) / std, y)
    weight, bias = fitted.coef_, fitted.intercept_
    if len(weight) == 1:  # two classes have one row
        weight, bias = np.concatenate([-weight, weight]) / 2, np.concatenate([-bias, bias]) / 2
    weight = weight / std
    return weight.astype(np.float32), (bias - weight @ mean).astype(np.float32)


# -- training


def adapt(network: nn.Module, space: Inherits, x: Tensor, y: Tensor, how: Adaptation, *, seed: int) -> Iterator[float]:
    """Train the shared weights on standardised images `x (n, c, h, w)` and labels `y (n,)`; yields the share that is done after each step.

    Every step trains the whole network at `space.side` pixels on the labels, and a part on its outputs: the smallest one in every third step,
    else a random one, each at its own resolution. The whole network keeps its statistics of normalisation, and a part uses those of each
    batch. Raises `Diverged`.
    """
    rng, generator = np.random.default_rng(seed), torch.Generator().manual_seed(seed)
    batch = min(how.batch_size, len(x))
    clock = Clock(how.epochs * (len(x) // batch), how.seconds)
    optimiser = torch.optim.SGD(
        network.parameters(), how.learning_rate, how.momentum, nesterov=True, weight_decay=how.weight_decay, foreach=True
    )
    order = torch.empty(0, dtype=torch.long)
    network.train()
    norms = [module for module in network.modules() if isinstance(module, nn.BatchNorm2d)]
    for norm in norms:
        norm.momentum = 0.0  # a part's batches do not change the statistics of the whole network

    def train_on(chosen: Tensor, step: int, progress: float) -> Tensor:
        for group in optimiser.param_groups:
            group["lr"] = how.learning_rate * one_cycle(progress, how.warm_up)
        images = augment(x[chosen], shift=how.shift, flip=how.flip, crop=how.crop, generator=generator)
        optimiser.zero_grad()
        for norm in norms:
            norm.eval()
        whole = network(resized(images, space.side))
        loss = functional.cross_entropy(whole, y[chosen], label_smoothing=how.label_smoothing)
        loss.backward()
        arch = space.smallest if step % 3 == 2 else space.random(rng)  # type: ignore[attr-defined]
        for norm in norms:
            norm.train()
        part = network(resized(images, space.resolution(arch)), space.member(arch))
        functional.cross_entropy(part, whole.detach().softmax(1)).backward()
        nn.utils.clip_grad_norm_(network.parameters(), LARGEST_GRADIENT)
        optimiser.step()
        return loss

    with StepThreads() as threads:
        for step in range(clock.steps):
            done = clock.progress(step + 1)
            if len(order) < batch:
                order = torch.randperm(len(x), generator=generator)
            chosen, order = order[:batch].to(x.device), order[batch:]
            with threads.step():
                loss = train_on(chosen, step, done)
            if not math.isfinite(loss.item()):
                raise Diverged(f"the loss is {loss.item()} after step {step + 1}")
            yield done
            if clock.is_over:
                break
    if not all_finite(network):
        raise Diverged("there are weights that are not finite")
    yield 1.0
