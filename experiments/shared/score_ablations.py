"""Ablations of the score network: networks trained without one part, each for as many steps as the reference.

Rows: the reference (VE, positional encoding, the attention of the space, both V and E diffused); no positional encoding; the other
attention masks that the space allows; V alone, with its wiring given; VP, sub-VP and learned levels; no joint head, and a joint head in
several rounds. Learned levels and joint heads also have the gap of `GAPS` held-out architectures, where the space can be enumerated. A
training takes a few minutes of one core and is saved in the user cache. Figures are means over `SEEDS` seeds of 1,024 samples with 20
evaluations.

The input of the network is x_t / alpha and the noise level in it, and samplers step evenly in the logarithm of that level. So VP and
sub-VP, which have the same range of levels, differ by rounding only. They differ from VE by the range: up to 150 instead of 20.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import lru_cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast, get_args

import numpy as np
import torch
from torch import Tensor

from diffnag.arch import ArchBatch, Packing
from diffnag.generators.diffusion.denoiser import Denoiser
from diffnag.generators.diffusion.family import SDEFamily
from diffnag.generators.diffusion.options import Config
from diffnag.generators.options import Training
from diffnag.generators.training import TrainingRun
from diffnag.protocols import Attention
from experiments.shared.measured_space import MeasuredSpace, N, mean_over_seeds

if TYPE_CHECKING:
    from diffnag.protocols import SearchSpace

SEEDS = 3
ROUNDS = (0, 1, 2, 4, 8)
JOINT: Mapping[str, int] = {"nasbench201": 256}
"""Space -> hidden units of the joint head of the rows of rounds, where the shipped network has none."""
GAPS = 512
CERTAIN = 40.0
"""A logit that stands for certainty."""
STEPS: Mapping[str, int] = {"nasbench101": 1500, "nasbench201": 1500, "transnasbench101-macro": 1500, "darts": 1500, "mobilenetv3": 1500}
"""Space -> training steps; all other options are those of the shipped network. A training takes 1 to 2 core-minutes.

transnasbench101-micro is left out: it is the cell of nasbench201 with one operator less.
"""


@dataclass(frozen=True)
class Variant:
    """The changes of a row to the reference."""

    name: str
    positional: bool = True
    attention: Attention | None = None
    given: bool = False
    sde: str = "ve"
    joint: int | None = None
    rounds: int | None = None


def ablation_rows(measured: MeasuredSpace) -> Iterator[tuple[str, Callable[[], dict[str, Any]]]]:
    """Yield name and measurement of each row; a space that is not in `STEPS` has none."""
    if measured.name in STEPS:
        for variant in _variants(measured.space):
            yield variant.name, partial(_measure, measured, variant)


def _variants(space: SearchSpace) -> list[Variant]:
    _, fixed = space.constant
    allowed = [kind for kind in get_args(Attention) if kind != "ancestors" or fixed.all()]
    return [
        Variant("reference"), Variant("no positional encoding", positional=False),
        *(Variant(f"attention {kind}", attention=kind) for kind in allowed if kind != space.attention),
        Variant("V alone, E given", given=True), Variant("VP", sde="vp"), Variant("sub-VP", sde="sub-vp"), Variant("learned levels", sde="learned"),
        *_rounds(space),
    ]  # fmt: skip


def _rounds(space: SearchSpace) -> list[Variant]:
    """Networks without a joint head, and with one in several rounds."""
    _, config = shipped_options(space.name)
    if not (joint := config.joint or JOINT.get(space.name, 0)):
        return []
    return [Variant("no joint head", joint=0), *(Variant(f"joint head, rounds: {rounds}", joint=joint, rounds=rounds) for rounds in ROUNDS)]


class WiringGiven(Denoiser):
    """A denoiser of V alone. It knows the wiring `given (b, n (n - 1) / 2)` in {-1, 1} at every noise level, and returns it as E.

    Call `give_wiring` before sampling; the losses take the wiring from their `x0`.
    """

    given: Tensor

    def logits(self, x: Tensor, t: Tensor, mask: Tensor | None = None, condition: Tensor | None = None) -> Tensor:
        cut = self.packing.nodes * self.packing.operators
        alpha, sigma = self.sde.marginal(t)
        whole = self.given * (alpha**2 + sigma**2).sqrt()[:, None]  # scaled by the network, this is the wiring itself
        return torch.cat([super().logits(torch.cat([x[:, :cut], whole], dim=1), t, mask, condition)[:, :cut], CERTAIN * self.given], dim=1)

    def loss(self, x0: Tensor, t: Tensor, noise: Tensor, mask: Tensor | None = None, condition: Tensor | None = None) -> Tensor:
        self.give_wiring(x0)
        return super().loss(x0, t, noise, mask, condition)

    def cross_entropy(self, x0: Tensor, t: Tensor, noise: Tensor, mask: Tensor | None = None, condition: Tensor | None = None) -> Tensor:
        self.give_wiring(x0)
        return super().cross_entropy(x0, t, noise, mask, condition)

    def give_wiring(self, x0: Tensor) -> None:
        """Use the wiring of `x0 (b, d)` from now on."""
        self.given = x0[:, self.packing.nodes * self.packing.operators :]


def _measure(measured: MeasuredSpace, variant: Variant) -> dict[str, Any]:
    """Train the network of a variant, or read it from the cache, and measure its samples."""
    from diffnag import load_space

    space = load_space(measured.name)
    if variant.attention is not None:
        vars(space)["attention"] = variant.attention  # an ablation: the space itself would attend otherwise
    training, config = shipped_options(measured.name)
    training = replace(training, steps=STEPS[measured.name])
    asked = {key: value for key in ("joint", "rounds") if (value := getattr(variant, key)) is not None}
    net, about = _trained(space, measured, variant, training, replace(config, sde=variant.sde, positional=variant.positional, **asked))

    def figures(seed: int) -> dict[str, Any]:
        return measured.figures_of_matrices(*measured.matrices(lambda watched: _generate(watched, net, measured, seed)))

    gap = {"held_out_gap": _held_out_gap(measured, net)} if (asked or variant.sde == "learned") and measured.space.enumerate() is not None else {}
    return {**about, "seeds": SEEDS, **mean_over_seeds(figures, SEEDS), **gap}


def _held_out_gap(measured: MeasuredSpace, net: Denoiser) -> dict[str, Any]:
    from diffnag import Generator

    held = [arch for arch in measured.archs if not measured.split.trains(measured.space.canonical(arch))]
    chosen = np.random.default_rng(0).choice(len(held), GAPS, replace=False)
    return {"n": GAPS, **measured.gap(Generator(measured.space, net), [held[k] for k in chosen])}


def shipped_options(name: str) -> tuple[Training, Config]:
    """The options that the shipped network of the space was trained with."""
    from diffnag.generators.recipes import shipped_recipe

    recipe = shipped_recipe(name, "sde")
    return Training(**recipe["training"]), Config(**recipe["config"])


def _generate(space: Any, net: Denoiser, measured: MeasuredSpace, seed: int) -> None:
    """Generate `N` samples; a network that needs a wiring gets those of random architectures of the training set."""
    from diffnag import Generator
    from diffnag.generators.trained import CHUNK

    generator = Generator(space, net)
    if not isinstance(net, WiringGiven):
        generator.sample(N, seed=seed)
        return
    batch = _training_set(measured)
    x0 = Packing.of(measured.space).pack(batch.V, batch.E)
    chosen = x0[torch.randint(len(x0), (N,), generator=torch.Generator().manual_seed(seed))]
    for k, part in enumerate(chosen.split(CHUNK)):
        net.give_wiring(part)
        generator.sample(len(part), seed=seed + SEEDS * k)


def _trained(
    space: SearchSpace, measured: MeasuredSpace, variant: Variant, training: Training, config: Config
) -> tuple[Denoiser, dict[str, Any]]:
    """The trained network of a variant, from the cache if it is there, with its steps and core-seconds."""
    import time

    from diffnag.generators.diffusion.sde import make_sde
    from diffnag.generators.network import KIND
    from diffnag.io.checkpoint import load_checkpoint

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(training.seed)  # layers initialise from the global generator
        net = (WiringGiven if variant.given else Denoiser)(space, make_sde(config.sde), config)
    path = _kept(variant, training, config)
    if path.is_file():
        tensors, meta = load_checkpoint(path, kind=KIND)
        net.load_state_dict(tensors)
    else:
        begin, run = time.process_time(), TrainingRun(SDEFamily(), net, training, config)
        while run.step < training.steps:
            run.advance(_training_set(measured))
        net = cast("Denoiser", run.averaged())
        meta = {"steps": training.steps, "train_core_seconds": round(time.process_time() - begin, 1), "split": training.split}
        net.save(path, meta)
    return net.eval().requires_grad_(False), {key: meta[key] for key in ("steps", "train_core_seconds")}


@lru_cache(maxsize=1)
def _training_set(measured: MeasuredSpace) -> ArchBatch:
    """The training set of the space, shared by all variants."""
    return ArchBatch.of(measured.split.training_archs(measured.space), measured.space)


def _kept(variant: Variant, training: Training, config: Config) -> Path:
    """Path of a saved training; its name depends on everything that decides the weights."""
    import hashlib

    from diffnag.io.files import cache_folder

    digest = hashlib.sha256(repr((variant, training, config)).encode()).hexdigest()[:8]
    return cache_folder() / "ablations" / f"{training.space}-{variant.name.replace(' ', '-')}-{digest}.safetensors"
