"""Training of the meta-predictor: first its clean network on the labels of sources, then its noise-aware network on noisy architectures."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from diffnag.arch import ArchBatch, Packing
from diffnag.datasets.sources import FIDELITIES, Source, normal_scores
from diffnag.generators.diffusion.samplers import stratified_times, time_grid
from diffnag.generators.diffusion.sde import expand_like
from diffnag.predictors.meta.network import CleanNetwork, NoisyNetwork
from diffnag.predictors.meta.task_process import TaskProcess
from diffnag.spaces.draws import random_archs

if TYPE_CHECKING:
    from diffnag.arch import Arch
    from diffnag.datasets.tasks import TaskFeatures
    from diffnag.protocols import SearchSpace

Features = Callable[[Sequence["Arch"]], Tensor]
"""Architectures -> inputs of the clean network, `(b, inputs)`."""
LARGE = 64
"""A source with more labels than this gives a random part of them to each step, a smaller one gives all."""
PART, LARGE_LISTS, SMALL_LISTS = 256, 4, 64
"""In each step: labels of each large source, large sources of one fidelity, small sources of one fidelity."""
TAUGHT, TAUGHT_TASKS = 1024, 64
"""Architectures of each task, and tasks, on which the network learns from the process of our own measurements."""
WITHHELD = 0.2
"""Share of the sources whose images are hidden in a step, and of those whose fidelity is, so that either may be unknown later."""
JITTER = 0.3
"""Standard deviation of the noise on a task's standardised inputs, as there are few tasks to learn from."""
RANDOM_ARCHS = 20_000
"""Architectures on which the noise-aware network is trained."""


@dataclass(frozen=True)
class Schedule:
    """Schedule of one stage of training: AdamW with one cycle of the learning rate."""

    steps: int
    batch_size: int = 512
    learning_rate: float = 2e-3
    weight_decay: float = 0.05


Report = Callable[[str, int, int, float], None]
"""Called as `report(stage, step, steps, loss)`."""


def listwise(score: Tensor, value: Tensor, known: Tensor) -> Tensor:
    """ListMLE (Xia et al. 2008): minus the log likelihood, for each entry, of the order of `value` in every row; all `(r, m)`."""
    order = value.masked_fill(~known, -torch.inf).argsort(1, descending=True)
    score, known = score.gather(1, order), known.gather(1, order)
    rest = torch.logcumsumexp(score.masked_fill(~known, -1e4).flip(1), 1).flip(1)
    return ((rest - score) * known).sum() / known.sum()


def pairwise(score: Tensor, value: Tensor, known: Tensor) -> Tensor:
    """Logistic loss over pairs (RankNet; Burges et al. 2005), each weighted by the difference of its values; all `(r, m)`."""
    apart, wanted = _pairs(score, value, known)
    return (functional.softplus(-2 * apart * wanted.sign()) * wanted.abs()).sum() / wanted.abs().sum()


def hinge(score: Tensor, value: Tensor, known: Tensor) -> Tensor:
    """Hinge loss over pairs with a margin of 0.3; all `(r, m)`."""
    apart, wanted = _pairs(score, value, known)
    return ((0.3 - apart * wanted.sign()).relu() * wanted.sign().abs()).sum() / wanted.sign().abs().sum()


def squared(score: Tensor, value: Tensor, known: Tensor) -> Tensor:
    """Mean squared error after the best shift of each row; all `(r, m)`."""
    error = (score - value) * known
    error = error - (error.sum(1) / known.sum(1))[:, None] * known
    return error.square().sum() / known.sum()


def _pairs(score: Tensor, value: Tensor, known: Tensor) -> tuple[Tensor, Tensor]:
    """Differences of scores and of values for all pairs in a row, `(r, m, m)`; the latter are 0 if a value is unknown."""
    return score[:, :, None] - score[:, None], (value[:, :, None] - value[:, None]) * (known[:, :, None] & known[:, None])


LOSS = "squared"
"""The loss with which shipped predictors are trained."""
Loss = Callable[[Tensor, Tensor, Tensor], Tensor]
LOSSES: Mapping[str, Loss] = {"listwise": listwise, "pairwise": pairwise, "hinge": hinge, "squared": squared}
"""Losses of scores, values and a mask of the known values, `(lists, m)` each. Most of them depend on the order in a list alone."""


@dataclass(frozen=True)
class _Lists:
    """Sources of about the same size, stacked and padded to m labels each."""

    archs: Tensor
    """`(r, m, inputs)`"""
    values: Tensor
    """`(r, m)`"""
    known: Tensor
    """False for padding, `(r, m)`."""
    tasks: Tensor
    """Inputs of the tasks `(r, inputs)`."""
    fidelity: Tensor
    """Indices into `FIDELITIES`, `(r,)`."""

    @classmethod
    def of(cls, sources: Sequence[Source], net: CleanNetwork, features: Features) -> _Lists:
        """Stack `sources`."""
        m = max(len(source.values) for source in sources)
        archs = torch.zeros(len(sources), m, net.inputs)
        values, known = torch.zeros(len(sources), m), torch.zeros(len(sources), m, dtype=torch.bool)
        for k, source in enumerate(sources):
            n = len(source.values)
            archs[k, :n], values[k, :n], known[k, :n] = features(source.archs), torch.as_tensor(source.values, dtype=torch.float32), True
        tasks = torch.stack([net.task.inputs(source.task) for source in sources])
        return cls(archs, values, known, tasks, torch.tensor([FIDELITIES.index(source.fidelity) for source in sources]))

    def part(self, generator: torch.Generator) -> _Lists:
        """A random part of the lists and of their entries, for one step."""
        m = self.values.shape[1]
        rows = torch.randperm(len(self.values), generator=generator)[: LARGE_LISTS if m > LARGE else SMALL_LISTS]
        columns = torch.randint(m, (PART,), generator=generator) if m > LARGE else torch.arange(m)
        archs, values, known = (part[rows][:, columns] for part in (self.archs, self.values, self.known))
        return _Lists(archs, values, known, self.tasks[rows], self.fidelity[rows])


def train_clean(
    net: CleanNetwork, sources: Sequence[Source], features: Features, schedule: Schedule, *, loss: str, seed: int, report: Report
) -> None:
    """Fit the order of the architectures within each source.

    Small and large sources of each fidelity are stacked apart. A stack is weighted by the square root of the number of its labels.
    """
    generator = torch.Generator().manual_seed(seed)
    net.task.standardise([source.task for source in sources])
    groups: dict[tuple[str, bool], list[Source]] = {}
    for source in sources:
        groups.setdefault((source.fidelity, len(source.values) > LARGE), []).append(source)
    stacks = [_Lists.of(group, net, features) for group in groups.values()]
    weights = [sum(source.labels for source in group) ** 0.5 for group in groups.values()]

    def loss_of(_: int) -> Tensor:
        total = torch.zeros(())
        for stack, weight in zip(stacks, weights, strict=True):
            part = stack.part(generator)
            embedding = net.task(*_withheld(net, part, generator))
            score = net.value(net(part.archs, embedding[:, None].expand(-1, part.archs.shape[1], -1)))[..., 0]
            total = total + weight / sum(weights) * LOSSES[loss](score, part.values, part.known)
        return total

    _descend(list(net.parameters()), loss_of, schedule, lambda *numbers: report("clean", *numbers))


def own_process(
    net: CleanNetwork, sources: Sequence[Source], features: Features, *, seed: int, report: Report
) -> TaskProcess:
    """The Gaussian process fitted to `sources`, our own measurements; values are normal scores within each task."""
    process = TaskProcess()
    process.fit(
        torch.cat([features(source.archs) for source in sources]),
        torch.stack([net.task.inputs(source.task) for source in sources]),
        torch.cat([torch.full((len(source.values),), k) for k, source in enumerate(sources)]),
        torch.cat([torch.as_tensor(normal_scores(source.values)) for source in sources]),
        seed=seed, report=lambda *numbers: report("process", *numbers),
    )  # fmt: skip
    return process


def taught(
    net: CleanNetwork, process: TaskProcess, sources: Sequence[Source], target: TaskFeatures | None, space: SearchSpace, features: Features,
    *, seed: int,
) -> list[Source]:  # fmt: skip
    """Sources that hold predictions of `process` for random architectures, each on the task of one of `sources`.

    If the `target` is known, half of them are on its task.
    """
    rng = np.random.default_rng(seed)
    tasks = [sources[int(k)].task for k in rng.integers(len(sources), size=TAUGHT_TASKS)]
    if target is not None:
        tasks[::2] = [target] * len(tasks[::2])
    pool = random_archs(space, 4 * TAUGHT, seed=seed)
    seen = features(pool)
    lists = []
    for task in tasks:
        chosen = rng.choice(len(pool), TAUGHT, replace=False)
        mean = process.predict(seen[chosen], net.task.inputs(task))
        labels = sum(source.labels for source in sources)
        lists.append(Source("own measurements", task, "small", [pool[k] for k in chosen], mean / (mean.std() + 1e-9), labels // TAUGHT_TASKS))
    return lists


def transfer_error(net: CleanNetwork, sources: Sequence[Source], features: Features, *, seed: int, report: Report) -> float:
    """Standard deviation of the error of standardised scores on a new task.

    With two or more tables among the sources it follows from their correlation. Otherwise it follows from predictions of a process for
    tasks that were left out of its training, and includes the noise of the labels.
    """
    tables = [source.values for source in sources if source.fidelity == "table"]
    if len(tables) > 1:
        agreements = [np.corrcoef(tables[0], tables[1])[0, 1]]
    else:
        small = [source for source in sources if source.fidelity == "small"]
        fold = np.random.default_rng(seed).permutation(len(small)) % 5
        process = own_process(net, [source for source, k in zip(small, fold, strict=True) if k], features, seed=seed, report=report)
        left = [source for source, k in zip(small, fold, strict=True) if not k]
        said = [process.predict(features(source.archs), net.task.inputs(source.task)) for source in left]
        agreements = [np.corrcoef(mean, normal_scores(source.values))[0, 1] for mean, source in zip(said, left, strict=True)]
    return float((2 * (1 - max(0.0, float(np.nanmean(agreements))))) ** 0.5)


def _withheld(net: CleanNetwork, part: _Lists, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Inputs of the tasks with noise, and fidelities, some of either hidden."""
    r = len(part.tasks)
    tasks = part.tasks + JITTER * net.task.spread * torch.randn(part.tasks.shape, generator=generator)
    tasks[torch.rand(r, generator=generator) < WITHHELD, net.task.descriptors :] = torch.nan
    return tasks, torch.where(torch.rand(r, generator=generator) < WITHHELD, -1, part.fidelity)


def standardise(net: CleanNetwork, embeddings: Tensor, archs: Tensor) -> None:
    """Rescale the network's last layers over random architectures `archs (m, inputs)` on tasks with `embeddings (r, size)`.

    Values get mean 0 and standard deviation 1. Then phi gets zero mean and unit covariance, which changes no value; directions that
    hardly vary are not scaled up to 1.
    """
    with torch.no_grad():
        phi = net(archs, embeddings[torch.arange(len(archs)) % len(embeddings)]).double()
        values = net.value(phi.float())[:, 0]
        net.value.weight /= values.std()
        net.value.bias.copy_((net.value.bias - values.mean()) / values.std())
        centre = phi.mean(0)
        power, basis = torch.linalg.eigh(torch.cov(phi.T))
        spread = power.clamp_min(1e-3 * power.max().item()).sqrt()
        to, back = basis / spread, (basis * spread)
        net.value.bias.add_((net.value.weight.double() @ centre).float())
        net.value.weight.copy_(net.value.weight.double() @ back)
        net.features.bias.copy_((net.features.bias.double() - centre) @ to)
        net.features.weight.copy_(to.T @ net.features.weight.double())


def train_noisy(
    net: NoisyNetwork, clean: CleanNetwork, embeddings: Tensor, space: SearchSpace, features: Features, schedule: Schedule,
    *, seed: int, report: Report,
) -> None:  # fmt: skip
    """Fit the distribution of `clean`'s phi given x_t, by normal likelihood on noisy random architectures; no label is involved.

    `embeddings (r, size)` are those of the tasks for which it will be used. The direction of the prior's value, which matters most for
    guidance, is weighted as much as all features together.
    """
    generator = torch.Generator().manual_seed(seed)
    packing, sde = Packing.of(space), net.sde
    archs = random_archs(space, RANDOM_ARCHS, seed=seed)
    pool, seen = ArchBatch.of(archs, space), features(archs)
    x0 = packing.pack(pool.V, pool.E)
    grid = time_grid(sde, 1000)
    weight = clean.value.weight[0].detach()

    def loss_of(_: int) -> Tensor:
        b = schedule.batch_size
        batch = torch.randint(len(x0), (b,), generator=generator)
        task = embeddings[torch.randint(len(embeddings), (b,), generator=generator)]
        t = stratified_times(grid, b, generator=generator)
        with torch.no_grad():
            phi = clean(seen[batch], task)
        x = sde.diffuse(x0[batch], t, torch.randn(b, x0.shape[1], generator=generator))
        alpha, sigma = sde.marginal(t)
        mean, factor = net(*packing.split(x / expand_like(alpha, x)), pool.mask[batch], sigma / alpha, task)
        residual = torch.linalg.solve_triangular(factor, (phi - mean)[..., None], upper=False)[..., 0]
        log_det = torch.diagonal(factor, dim1=1, dim2=2).log().sum(1)
        value_error = ((phi - mean) @ weight).square()
        value_variance = (factor.transpose(1, 2) @ weight).square().sum(1)
        of_features = (0.5 * residual.square().sum(1) + log_det) / phi.shape[1]
        of_value = 0.5 * (value_error / value_variance + value_variance.log())
        return (of_features + of_value).mean()

    _descend(list(net.parameters()), loss_of, schedule, lambda *numbers: report("noisy", *numbers))


def _descend(
    parameters: Sequence[nn.Parameter], loss_of: Callable[[int], Tensor], schedule: Schedule, report: Callable[[int, int, float], None]
) -> None:
    """Minimise `loss_of(step)`; `report(step, steps, loss)` is called at every 20th step and at the last."""
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
