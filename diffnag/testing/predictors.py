"""The contract of predictors."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from diffnag.arch import Arch, ArchBatch, Packing
from diffnag.datasets.tasks import Task
from diffnag.guidance.checked import CheckedPredictor
from diffnag.protocols import HasPrior, HasQuantiles, NeedsSetup, NoisyPredictor, Predictor, RelaxedPredictor, SearchSpace
from diffnag.testing.draws import draws


class PredictorContract:
    """What every predictor must do. Fixtures: `predictor_class`, `space`.

    `dataset` names the task of `setup`, `labels` how many the tests fit.
    """

    dataset = "cifar10"
    labels = 60

    def made(self, predictor_class: type[Predictor], space: SearchSpace, *, seed: int = 0) -> CheckedPredictor:
        """A new predictor, set up, its answers checked."""
        predictor = predictor_class()
        if isinstance(predictor, NeedsSetup):
            predictor.setup(space=space, task=Task.of(self.dataset, space), seed=seed)
        return CheckedPredictor(predictor_class.__name__, predictor)

    def data(self, space: SearchSpace) -> tuple[list[Arch], np.ndarray, list[Arch], np.ndarray]:
        """Labelled architectures and others: 50 plus how often the operator that varies most occurs."""
        archs = draws(space, self.labels + 100)
        counts = ArchBatch.of(archs, space).V.sum(1).numpy()
        y = 50 + counts[:, counts.std(0).argmax()].astype(np.float64)
        return archs[: self.labels], y[: self.labels], archs[self.labels :], y[self.labels :]

    def test_learns(self, predictor_class: type[Predictor], space: SearchSpace) -> None:
        from scipy.stats import kendalltau

        archs, y, others, truth = self.data(space)
        predictor = self.made(predictor_class, space)
        predictor.fit(archs, y)
        mean, _ = predictor.predict(others)
        assert kendalltau(mean, truth).statistic > 0.25
        assert abs(mean.mean() - truth.mean()) < 3 * truth.std(), "predictions are in the units of the labels"

    def test_few_and_constant_labels(self, predictor_class: type[Predictor], space: SearchSpace) -> None:
        archs, y, others, _ = self.data(space)
        predictor = self.made(predictor_class, space)
        for count, labels in ((1, y), (2, y), (5, y), (1, y * 0), (10, y * 0 + 71.5)):
            predictor.fit(archs[:count], labels[:count])
            predictor.predict(others)  # checked: finite and of the right shape

    def test_fit_replaces_and_leaves_its_input(self, predictor_class: type[Predictor], space: SearchSpace) -> None:
        archs, y, others, _ = self.data(space)
        again, fresh, given = self.made(predictor_class, space), self.made(predictor_class, space), y.copy()
        again.predictor.fit(archs, given)
        assert np.array_equal(given, y)
        again.fit(archs, 100 - y)
        fresh.fit(archs, 100 - y)
        for a, b in zip(again.predict(others), fresh.predict(others), strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5)

    def test_same_seed_same_predictions(self, predictor_class: type[Predictor], space: SearchSpace) -> None:
        archs, y, others, _ = self.data(space)
        answers = []
        for _ in range(2):
            predictor = self.made(predictor_class, space, seed=3)
            predictor.fit(archs, y)
            answers.append(predictor.predict(others))
        np.testing.assert_allclose(answers[0], answers[1], rtol=1e-5, atol=1e-5)

    def test_predictions_do_not_depend_on_the_batch(self, predictor_class: type[Predictor], space: SearchSpace) -> None:
        archs, y, others, _ = self.data(space)
        predictor = self.made(predictor_class, space)
        predictor.fit(archs, y)
        whole = np.stack(predictor.predict(others))
        np.testing.assert_allclose(np.stack(predictor.predict(others[::-1]))[:, ::-1], whole, rtol=1e-4, atol=1e-4)
        np.testing.assert_allclose(np.stack(predictor.predict(others[:3])), whole[:, :3], rtol=1e-4, atol=1e-4)

    def test_a_prior_predicts_before_fit(self, predictor_class: type[Predictor], space: SearchSpace) -> None:
        predictor = self.made(predictor_class, space)
        if not isinstance(predictor.predictor, HasPrior):
            pytest.skip("it has no labels_source")
        assert all(count >= 0 and count == int(count) for count in predictor.labels_source.values())
        predictor.predict(draws(space, 10))

    def test_quantiles_are_those_of_the_prediction(self, predictor_class: type[Predictor], space: SearchSpace) -> None:
        archs, y, others, _ = self.data(space)
        predictor = self.made(predictor_class, space)
        if not isinstance(predictor.predictor, HasQuantiles):
            pytest.skip("it has no quantiles")
        predictor.fit(archs, y)
        mean, std = predictor.predict(others)
        found, few = (predictor.quantiles(archs, (0.1, 0.5, 0.9)) for archs in (others, others[:3]))  # checked: finite and ascending
        assert found is not None and few is not None
        assert (np.abs(found[1] - mean) <= std).all() and (found[2] > found[0]).all()
        np.testing.assert_allclose(few, found[:, :3], rtol=1e-4, atol=1e-4)

    def test_forward_agrees_with_predict_and_has_a_gradient(self, predictor_class: type[Predictor], space: SearchSpace) -> None:
        archs, y, others, _ = self.data(space)
        predictor = self.made(predictor_class, space)
        if not isinstance(plugin := predictor.predictor, RelaxedPredictor):
            pytest.skip("it has no forward")
        predictor.fit(archs, y)
        batch = ArchBatch.of(others, space)
        mean, _ = predictor.predict(others)
        value = plugin.forward(batch.V, batch.E, batch.mask)
        np.testing.assert_allclose(value.detach().numpy(), mean, rtol=1e-3, atol=1e-3)
        V, E = (0.9 * part + 0.05 for part in (batch.V, batch.E.triu(1)))
        inside = plugin.forward(V.requires_grad_(), E.requires_grad_(), batch.mask)
        gradient, _ = torch.autograd.grad(inside.sum(), (V, E), allow_unused=True)
        assert inside.isfinite().all() and gradient.isfinite().all() and gradient.abs().sum() > 0

    def test_forward_noisy_is_a_distribution_with_a_gradient(self, predictor_class: type[Predictor], space: SearchSpace) -> None:
        archs, y, others, _ = self.data(space)
        predictor = self.made(predictor_class, space)
        if not isinstance(plugin := predictor.predictor, NoisyPredictor):
            pytest.skip("it has no forward_noisy")
        predictor.fit(archs, y)
        packing, batch = Packing.of(space), ArchBatch.of(others, space)
        x = packing.pack(batch.V, batch.E)
        x = (x + torch.randn(x.shape, generator=torch.Generator().manual_seed(0))).requires_grad_()
        for noise in (0.2, 1.0, 20.0):
            mean, variance = plugin.forward_noisy(*packing.split(x), batch.mask, torch.full((len(x),), noise))
            assert mean.shape == variance.shape == (len(x),)
            assert mean.isfinite().all() and variance.isfinite().all() and (variance >= 0).all()
            (gradient,) = torch.autograd.grad(mean.sum(), x)
            assert gradient.isfinite().all() and gradient.abs().sum() > 0
