"""The contract of generators that know probabilities."""

from __future__ import annotations

from itertools import islice

import numpy as np
import pytest

from diffnag.arch import Arch, ArchBatch
from diffnag.errors import UserError
from diffnag.protocols import Generator, HasLikelihood, LogProb
from diffnag.testing.draws import draws


class LikelihoodContract:
    """What a generator that knows probabilities must do, beside `GeneratorContract`, with the same fixture.

    Its samples must follow the law that `log_prob` is of: give the fixture the options that make them.
    """

    asked: int = 100
    """Architectures whose probabilities are compared with each other."""
    most_summed: int = 20_000
    """Spaces of more architectures are not summed over."""
    sampled: int = 1024
    """Samples that the sums are compared with."""
    seeds: int = 4
    """Seeds over which the log probability of a bound is averaged before it is summed."""
    noise: float = 0.03
    """How far their noise may lift a sum of bounds: where a bound averages probabilities, the sum is right on average, not each time."""

    def test_each_architecture_has_a_log_probability(self, generator: Generator) -> None:
        known, archs = _with_likelihood(generator), draws(generator.space, self.asked)
        found = known.log_prob(archs, seed=0)
        assert found.kind in ("exact", "bound") and found.nats.shape == (len(archs),) and len(known.log_prob([], seed=0).nats) == 0
        assert np.isfinite(found.nats).all() and (found.nats <= 1e-5).all()
        assert np.array_equal(found.nats, known.log_prob(archs, seed=0).nats)
        if found.kind == "exact":
            assert known.log_prob(archs, seed=1).nats == pytest.approx(found.nats, abs=1e-4, rel=1e-5)

    def test_the_other_architectures_do_not_matter(self, generator: Generator) -> None:
        """The same ones in another order, a part of them, and one of them again and again: a bound has its noise by architecture."""
        known, archs = _with_likelihood(generator), draws(generator.space, self.asked)
        nats = dict(zip(archs, known.log_prob(archs, seed=0).nats.tolist(), strict=True))
        for others in (archs[::-1], archs[1:3], [archs[0]] * 3):
            assert known.log_prob(others, seed=0).nats == pytest.approx([nats[arch] for arch in others], abs=1e-4, rel=1e-5)

    def test_architectures_of_another_space_are_refused(self, generator: Generator) -> None:
        space, (arch,) = generator.space, draws(generator.space, 1)
        longer = Arch((*arch.ops, *arch.ops[-1:] * space.nodes), arch.edges)
        unknown = Arch((*arch.ops[:-1], len(space.operators)), arch.edges)
        cut = Arch(arch.ops, ())
        for stranger in (longer, unknown, cut):
            with pytest.raises(UserError, match="is no architecture of space"):
                _with_likelihood(generator).log_prob([arch, stranger], seed=0)

    def test_probabilities_sum_to_one_at_most(self, generator: Generator) -> None:
        """Over all architectures of the space; exact ones sum to the share of valid samples, within five standard errors.

        By Gibbs' inequality their mean log probability is at most -ln N: no law is closer to the uniform one than itself.
        """
        archs = self._every(generator)
        found = self._law(generator, archs)
        total = float(np.exp(found.nats).sum())
        assert total <= 1 + (1e-3 if found.kind == "exact" else self.noise)
        assert found.nats.mean() <= np.log(total / len(archs)) + 1e-5
        if found.kind == "exact":
            valid = len(generator.sample(self.sampled, seed=0).archs) / self.sampled
            assert total == pytest.approx(valid, abs=5 * (valid * (1 - valid) / self.sampled) ** 0.5 + 1e-2)

    def test_samples_are_as_frequent_as_the_probabilities_say(self, generator: Generator) -> None:
        """Architectures with an operator at a node or an edge between two: the sum of their probabilities is their share among samples.

        Within five standard errors and .01; what bounds sum to is not above the share, but for their noise.
        """
        archs = self._every(generator)
        found = self._law(generator, archs)
        sums = np.exp(found.nats) @ _entries(archs, generator)
        made = generator.sample(self.sampled, seed=1).archs
        shares = _entries(made, generator).sum(0) / self.sampled
        slack = 5 * (shares * (1 - shares) / self.sampled) ** 0.5 + 1e-2
        assert (sums <= shares + slack + (0 if found.kind == "exact" else self.noise)).all()
        if found.kind == "exact":
            assert (sums >= shares - slack).all()

    def _law(self, generator: Generator, archs: list[Arch]) -> LogProb:
        known = _with_likelihood(generator)
        first = known.log_prob(archs, seed=0)
        if first.kind == "exact":
            return first
        others = [known.log_prob(archs, seed=seed).nats for seed in range(1, self.seeds)]
        return LogProb(np.mean([first.nats, *others], axis=0), first.kind)

    def _every(self, generator: Generator) -> list[Arch]:
        archs = list(islice(generator.space.enumerate() or (), self.most_summed + 1))
        if not 0 < len(archs) <= self.most_summed:
            pytest.skip("its space is too large to sum over")
        return archs


def _with_likelihood(generator: Generator) -> HasLikelihood:
    assert isinstance(generator, HasLikelihood)
    return generator


def _entries(archs: list[Arch], generator: Generator) -> np.ndarray:
    """The entries of (V, E) of each architecture, `(m, d)` in {0, 1}."""
    batch = ArchBatch.of(archs, generator.space)
    entries: np.ndarray = np.concatenate([batch.V.flatten(1).double().numpy(), batch.E.flatten(1).double().numpy()], axis=1)
    return entries
