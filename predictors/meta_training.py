"""How the meta-predictor is trained: first on the sources' labels, then, with no labels, to see through noise."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from diffnag.arch import ArchBatch, Packing
from diffnag.datasets.sources import Source
from diffnag.datasets.tasks import known_datasets, load_task
from diffnag.relaxation import relax
from diffnag.sampling import stratified_times, time_grid
from predictors.meta_network import CleanNetwork, NoisyNetwork, TaskEncoder

if TYPE_CHECKING:
    from diffnag.protocols import SearchSpace

UNKNOWN_SHARE = 0.3
"""Share of steps in which a task's images are withheld, so that 'unknown' comes to mean an average task."""
RANDOM_ARCHS = 20_000


@dataclass(frozen=True)
class Schedule:
    """Steps and batch of one stage of training; AdamW, one cycle."""

    steps: int
    batch_size: int = 512
    learning_rate: float = 2e-3
    weight_decay: float = 0.05


Report = Callable[[str, int, int, float], None]
"""Called as `report(stage, step, steps, loss)`."""


def train_clean(
    net: CleanNetwork, sources: Sequence[Source], space: SearchSpace, schedule: Schedule, *, seed: int, report: Report
) -> None:
    """Fit value and variance of each source by normal likelihood, sources taking equal shares of the steps' batches.

    Half of a batch is relaxed, its labels kept, so that the network is meaningful inside the cube. A source's values are
    an affine map of the network's, learned beside it.
    """
    generator = torch.Generator().manual_seed(seed)
    data = [ArchBatch.of(source.archs, space) for source in sources]
    values = [torch.as_tensor(source.values, dtype=torch.float32) for source in sources]
    affine = nn.Parameter(torch.tensor([[1.0, 0.0]] * len(sources)))
    share = _shares([source.labels for source in sources], schedule.batch_size)

    def loss_of(_: int) -> Tensor:
        terms = []
        for k, source in enumerate(sources):
            batch = torch.randint(len(values[k]), (share[k],), generator=generator)
            V, E = data[k].V[batch], data[k].E[batch]
            soft_V, soft_E = relax(V[::2], E[::2], space, generator=generator)
            V, E = torch.cat([soft_V, V[1::2]]), torch.cat([soft_E, E[1::2]])
            batch = torch.cat([batch[::2], batch[1::2]])
            task = _embedding(net.task, source.dataset, generator).expand(share[k], -1)
            phi = net(V, E, data[k].mask[batch], task)
            mean = affine[k, 0] * net.value(phi)[:, 0] + affine[k, 1]
            variance = functional.softplus(net.log_variance(phi)[:, 0]) + 1e-3
            terms.append(((mean - values[k][batch]) ** 2 / variance + variance.log()).sum() / 2)
        return torch.stack(terms).sum() / schedule.batch_size

    _descend([*net.parameters(), affine], loss_of, schedule, lambda *numbers: report("clean", *numbers))


def whiten(net: CleanNetwork, embedding: Tensor, space: SearchSpace) -> None:
    """Make phi of random architectures, for the task of `embedding (width,)`, of zero mean and unit covariance.

    What the heads say of an architecture stays the same. Directions that hardly vary are not blown up.
    """
    pool = _random_archs(space, 4096, seed=0)
    with torch.no_grad():
        phi = net(pool.V, pool.E, pool.mask, embedding.expand(len(pool), -1)).double()
        centre = phi.mean(0)
        power, basis = torch.linalg.eigh(torch.cov(phi.T))
        spread = power.clamp_min(1e-3 * power.max().item()).sqrt()
        to, back = basis / spread, (basis * spread)
        for head in (net.value, net.log_variance):
            head.bias.data += (head.weight.double() @ centre).float()
            head.weight.copy_(head.weight.double() @ back)
        net.features.bias.copy_((net.features.bias.double() - centre) @ to)
        net.features.weight.copy_(to.T @ net.features.weight.double())


def train_noisy(
    net: NoisyNetwork, clean: CleanNetwork, target: str, space: SearchSpace, schedule: Schedule, *, seed: int, report: Report
) -> None:
    """Fit the distribution of `clean`'s features given x_t, by normal likelihood on noised random architectures.

    The direction of the prior's value, in which guidance will mostly go, counts as much as all features together. Half
    of the steps are about the target's own task, the rest about others; no label is involved.
    """
    generator = torch.Generator().manual_seed(seed)
    packing, sde = Packing.of(space), net.sde
    pool = _random_archs(space, RANDOM_ARCHS, seed)
    x0 = packing.pack(pool.V, pool.E)
    grid = time_grid(sde, 1000)
    names = known_datasets()
    net.task.load_state_dict(clean.task.state_dict())
    weight = clean.value.weight[0].detach()

    def loss_of(step: int) -> Tensor:
        b = schedule.batch_size
        name = target if step % 2 else names[int(torch.randint(len(names), (), generator=generator))]
        state = generator.get_state()
        with torch.no_grad():
            wanted = _embedding(clean.task, name, generator, whole=name == target)
        generator.set_state(state)  # both networks see the same images
        given = _embedding(net.task, name, generator, whole=name == target)
        batch = torch.randint(len(x0), (b,), generator=generator)
        t = stratified_times(grid, b, generator=generator)
        with torch.no_grad():
            phi = clean(pool.V[batch], pool.E[batch], pool.mask[batch], wanted.expand(b, -1))
        x = sde.diffuse(x0[batch], t, torch.randn(b, x0.shape[1], generator=generator))
        mean, factor = net(*packing.split(x), pool.mask[batch], t, given.expand(b, -1))
        residual = torch.linalg.solve_triangular(factor, (phi - mean)[..., None], upper=False)[..., 0]
        log_det = torch.diagonal(factor, dim1=1, dim2=2).log().sum(1)
        value_error = ((phi - mean) @ weight).square()
        value_variance = (factor.transpose(1, 2) @ weight).square().sum(1)
        of_features = (0.5 * residual.square().sum(1) + log_det) / phi.shape[1]
        of_value = 0.5 * (value_error / value_variance + value_variance.log())
        return (of_features + of_value).mean()

    _descend(list(net.parameters()), loss_of, schedule, lambda *numbers: report("noisy", *numbers))


def _embedding(encoder: TaskEncoder, dataset: str | None, generator: torch.Generator, *, whole: bool = False) -> Tensor:
    """A task's embedding `(width,)`; unless `whole`, of random classes and images of it, or withheld."""
    task = load_task(dataset) if dataset is not None else None
    if task is None or whole:
        return encoder(task)
    if torch.rand((), generator=generator) < UNKNOWN_SHARE:
        return encoder(None)
    classes = int(torch.randint(min(5, len(task)), min(20, len(task)) + 1, (), generator=generator))
    images = int(torch.randint(min(5, task.shape[1]), task.shape[1] + 1, (), generator=generator))
    some = torch.randperm(len(task), generator=generator)[:classes]
    return encoder(task[some][:, torch.randperm(task.shape[1], generator=generator)[:images]])


def _random_archs(space: SearchSpace, m: int, seed: int) -> ArchBatch:
    rng = np.random.default_rng(seed)
    return ArchBatch.of([space.random(rng) for _ in range(m)], space)


def _shares(weights: Sequence[int], total: int) -> list[int]:
    """`total` divided in proportion to `weights`, at least one each."""
    return [max(1, round(total * weight / sum(weights))) for weight in weights]


def _descend(
    parameters: Sequence[nn.Parameter], loss_of: Callable[[int], Tensor], schedule: Schedule, report: Callable[[int, int, float], None]
) -> None:
    optimiser = torch.optim.AdamW(parameters, lr=schedule.learning_rate, weight_decay=schedule.weight_decay)
    rate = torch.optim.lr_scheduler.OneCycleLR(optimiser, schedule.learning_rate, total_steps=schedule.steps, pct_start=0.1)
    for step in range(schedule.steps):
        optimiser.zero_grad()
        loss = loss_of(step)
        loss.backward()
        nn.utils.clip_grad_norm_(parameters, 1.0)
        optimiser.step()
        rate.step()
        if (step + 1) % 20 == 0 or step + 1 == schedule.steps:
            report(step + 1, schedule.steps, loss.item())
