"""Devices: features, the model in closed form, the design, timing, device files, bundles, and the command."""

from __future__ import annotations

import sys
from collections.abc import Callable
from itertools import count
from pathlib import Path

import numpy as np
import pytest

from diffnag import train_latency
from diffnag.arch import Arch
from diffnag.devices import design, fewshot
from diffnag.devices.design import choose
from diffnag.devices.export import Export
from diffnag.devices.features import Features
from diffnag.devices.fewshot import FewShot
from diffnag.devices.prior import Fit, Prior, best_fit, general_prior, learned_prior
from diffnag.devices.runner import REPEATS, timed_rounds
from diffnag.devices.shipped import known_devices, model_for, prior_for
from diffnag.devices.tables import full_name, latencies
from diffnag.errors import UserError
from diffnag.io.property_tables import PropertyTable
from diffnag.search_spaces.nasbench201.space import NASBench201
from diffnag.spaces.draws import random_archs
from diffnag.spaces.loading import load_space

SPACE = NASBench201()
DEAD = SPACE.from_str("|nor_conv_3x3~0|+|avg_pool_3x3~0|none~1|+|skip_connect~0|none~1|nor_conv_1x1~2|")
"""The 3x3 convolution leads nowhere."""
CUT = SPACE.from_str("|none~0|+|none~0|nor_conv_3x3~1|+|skip_connect~0|none~1|nor_conv_1x1~2|")
"""Both convolutions lead to the output, and the input reaches none of them."""
ARCHS = list(dict.fromkeys(random_archs(SPACE, 60, seed=1)))
WEIGHTS = np.array([0.4, 0.0, 0.1, 0.3, 0.05])


def shipped() -> tuple[Features, Prior]:
    return prior_for(SPACE, lambda arch: SPACE.size(arch, num_classes=10, image_size=32))


def timed(counting: str, level: float = 10.0) -> Callable[[list], np.ndarray]:
    """A device without noise that counts in one way."""
    features = Features(SPACE)
    return lambda archs: level * features(archs, counting).columns @ WEIGHTS


# -- features and priors


def test_operators_are_counted_in_three_ways() -> None:
    features = Features(SPACE)
    assert features.names == ("base", "count skip_connect", "count nor_conv_1x1", "count nor_conv_3x3", "count avg_pool_3x3")
    counts = {counting: features([DEAD, CUT], counting).columns.tolist() for counting in features.countings}
    assert counts["all"] == [[1, 1, 1, 1, 1], [1, 1, 1, 1, 0]]
    assert counts["leading"] == [[1, 1, 1, 0, 1], [1, 1, 1, 1, 0]]
    assert counts["live"] == [[1, 1, 1, 0, 1], [1, 1, 0, 0, 0]]


def test_details_have_mean_zero_and_length_one() -> None:
    features = Features(SPACE)
    detail = features(features.reference, "all").detail
    assert detail.shape[1] == 8 * 4
    np.testing.assert_allclose(detail.mean(0), 0, atol=1e-12)
    np.testing.assert_allclose((detail**2).sum(1).mean(), 1)


@pytest.mark.parametrize("name", ["darts", "mobilenetv3", "transnasbench101-macro"])
def test_features_of_spaces_without_devices(name: str) -> None:
    space = load_space(name)
    export = Export.of(space)
    features, prior = prior_for(space, lambda arch: export.size(arch, space))
    columns = features(features.reference, "all").columns
    assert features.names[:4] == ("base", "flops", "params", "depth") and np.isfinite(columns).all()
    np.testing.assert_allclose(columns[:, :3].mean(0), 1)
    assert prior.level == pytest.approx(1e3 * features.mean_flops / 7e9)


def test_a_fit_finds_the_weights_and_the_way_to_count() -> None:
    features = Features(SPACE)
    columns = {counting: features(ARCHS, counting).columns for counting in features.countings}
    ms = timed("leading")(ARCHS)
    found = best_fit(columns, ms)
    assert found.counting == "leading" and found.level == pytest.approx(ms.mean())
    np.testing.assert_allclose(found.weights * found.level, 10 * WEIGHTS, atol=1e-9)
    assert found.noise < 1e-9


def test_the_learned_prior_by_hand() -> None:
    """Two devices: mean, covariance of the sample, widened by a fifth of the mean weight, and by a fiftieth at least."""
    fits = [Fit("all", np.array([1.0, 0.0]), 2.0, 0.1), Fit("all", np.array([3.0, 0.0]), 8.0, 0.3)]
    prior = learned_prior(fits, ("base", "x"))
    assert prior.mean.tolist() == [2, 0] and prior.noise == 0.2 and prior.level == pytest.approx(4)
    np.testing.assert_allclose(prior.covariance, [[2 + 0.4**2, 0], [0, 0.02**2]])


def test_shipped_devices(data_folder: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The file is what its command makes of the table, and predicts the devices."""
    monkeypatch.setenv("DIFFNAG_DATA", str(data_folder))
    monkeypatch.setattr(sys, "argv", ["train_latency", "--out", str(tmp_path / "latency.safetensors")])
    train_latency.main()
    known, ours = known_devices(SPACE), type(known_devices(SPACE)).load(tmp_path / "latency.safetensors", SPACE)
    assert list(known.fits) == list(ours.fits) and len(known.fits) == 21
    for device_, fit in known.fits.items():
        np.testing.assert_allclose(fit.weights, ours.fits[device_].weights, rtol=1e-3, atol=1e-4)
        assert fit.counting == ours.fits[device_].counting == ("leading" if device_ == "pixel3" else "all")


def test_a_prior_of_other_columns_is_refused() -> None:
    features, prior = shipped()
    with pytest.raises(UserError, match="does not fit the operators"):
        FewShot(Features(load_space("darts")), prior)
    assert general_prior(Features(SPACE, lambda arch: SPACE.size(arch, num_classes=10, image_size=32))).names != features.names


# -- the model


def test_the_model_is_the_gaussian_process_of_its_prior(monkeypatch: pytest.MonkeyPatch) -> None:
    """One hypothesis: posterior of a process with covariance `columns S columns^T` and noise in proportion to the expectation."""
    monkeypatch.setattr(fewshot, "NOISES", (1.0,))
    features = Features(SPACE)
    S = np.diag([0.1, 0.02, 0.05, 0.08, 0.03]) ** 2
    prior = Prior(features.names, WEIGHTS, S, 0.05, level=10.0, level_spread=0.1, counted={"all": 1.0})
    measured, others = ARCHS[:7], ARCHS[7:]
    ms = timed("all")(measured) * np.random.default_rng(0).uniform(0.9, 1.1, 7)
    model = FewShot(features, prior)
    model.fit(measured, ms)
    mean, std = model.predict(others)

    A, B = features(measured, "all").columns, features(others, "all").columns
    S = S + 0.1**2 * np.outer(WEIGHTS, WEIGHTS)
    K = A @ S @ A.T + np.diag((0.05 * np.maximum(A @ WEIGHTS, 0.2)) ** 2)
    expected = B @ WEIGHTS + B @ S @ A.T @ np.linalg.solve(K, ms / 10 - A @ WEIGHTS)
    variance = np.diag(B @ S @ B.T - B @ S @ A.T @ np.linalg.solve(K, A @ S @ B.T)) + (0.05 * np.maximum(expected, 0.2)) ** 2
    np.testing.assert_allclose(mean, 10 * expected)
    np.testing.assert_allclose(std, 10 * np.sqrt(variance))


@pytest.mark.parametrize("counting", ["all", "leading", "live"])
@pytest.mark.parametrize("level", [0.01, 300.0])
def test_ten_measurements_find_how_a_device_counts(counting: str, level: float) -> None:
    features, prior = shipped()
    chosen, device_ = choose(features, prior, 10, seed=0), timed(counting, level)
    model = FewShot(features, prior)
    model.fit(chosen, device_(chosen))
    mean, std = model.predict(ARCHS)
    assert sum(share for hypothesis, share in model.hypotheses.items() if hypothesis.counting == counting) > 0.9
    assert np.median(np.abs(mean / device_(ARCHS) - 1)) < 0.02 and (std > 0).all()


def test_nothing_measured_is_uncertain_by_the_level() -> None:
    model = FewShot(*shipped())
    mean, std = model.predict(ARCHS)
    assert (mean > 0).all() and (std > mean).all()
    model.fit(ARCHS[:3], timed("all", 1000.0)(ARCHS[:3]))
    assert model.predict(ARCHS[3:])[0].min() > 200


def test_many_measurements_of_one_device() -> None:
    """The evidence of hundreds of them is far outside of what a float can hold."""
    model = FewShot(*shipped())
    archs = list(dict.fromkeys(random_archs(SPACE, 600, seed=2)))
    model.fit(archs, timed("live")(archs))
    np.testing.assert_allclose(model.predict(ARCHS)[0], timed("live")(ARCHS), rtol=0.01)


class Few(NASBench201):
    """A space of five architectures."""

    name = "few"

    def random(self, rng: np.random.Generator) -> Arch:
        """One of the five."""
        return ARCHS[rng.integers(5)]


# -- the design


def test_the_design_minimises_the_variance(monkeypatch: pytest.MonkeyPatch) -> None:
    """The first choice is the candidate after which the summed variance, computed afresh, is the least; the second goes on from there."""
    monkeypatch.setattr(design, "CANDIDATES", 30)
    features, prior = shipped()
    candidates = list(dict.fromkeys(random_archs(SPACE, 30, seed=5)))
    K, noise = design._known(features, prior, candidates)

    def variance(places: list[int]) -> float:
        A = K[:, places]
        return np.trace(K) - np.trace(A @ np.linalg.solve(K[np.ix_(places, places)] + np.diag(noise[places]), A.T))

    expected: list[int] = []
    for _ in range(3):
        expected.append(min((place for place in range(len(candidates)) if place not in expected), key=lambda place: variance([*expected, place])))
    assert choose(features, prior, 3, seed=5) == [candidates[place] for place in expected]
    assert choose(features, prior, 2, seed=5, measured=[candidates[expected[0]]]) == [candidates[place] for place in expected[1:]]


def test_more_samples_than_architectures() -> None:
    with pytest.raises(UserError, match="20,000 samples are asked for; up to 500 are accepted at a time"):
        choose(*shipped(), 20_000, seed=0)
    space = Few()
    with pytest.raises(UserError, match="6 samples are asked for, and space 'few' has 5"):
        choose(*prior_for(space, lambda arch: SPACE.size(arch, num_classes=10, image_size=32)), 6, seed=0)


# -- timing


def test_rounds_by_a_fake_clock() -> None:
    """`a` takes 1 s, `b` takes 2 s and in the first round 9 s: medians in ms, untimed runs not counted."""
    now, calls = 0.0, {"a": 0, "b": 0}

    def run(name: str) -> None:
        nonlocal now
        calls[name] += 1
        now += 1.0 if name == "a" else 9.0 if calls["b"] <= 1 + REPEATS else 2.0

    rounds = list(timed_rounds({name: (lambda name=name: run(name)) for name in calls}, rounds=3, clock=lambda: now))
    assert rounds == [{"a": 1000, "b": 9000}, {"a": 1000, "b": 5500}, {"a": 1000, "b": 2000}]
    assert calls == {"a": 3 * (1 + REPEATS), "b": 3 * (1 + REPEATS)}


# -- tables, spaces without devices


def test_names_of_devices() -> None:
    known = ["pixel3", "2080ti_1", "2080ti_32"]
    assert [full_name(name, known) for name in ("pixel3", "pixel3_1", "2080ti", "2080ti_32", "2080ti_2")] == [
        "pixel3", "pixel3", "2080ti_1", "2080ti_32", None
    ]  # fmt: skip


def test_tables_with_wrong_latencies() -> None:
    numbers = count()
    for values in ([1.0, 0.0], [1.0, np.nan], [-1.0, 1.0]):
        with pytest.raises(UserError, match="not above 0 ms"):
            latencies(PropertyTable("s", "latency", ("a", "b"), {f"d{next(numbers)}_ms": np.array(values)}, ""))


def test_a_model_of_a_space_without_devices_learns() -> None:
    space = load_space("mobilenetv3")
    export = Export.of(space)
    model = model_for(space, lambda arch: export.size(arch, space))
    archs = random_archs(space, 60, seed=0)
    true = np.array([3 + export.size(arch, space).flops / 1e8 for arch in archs])
    model.fit(archs[:10], true[:10])
    assert np.median(np.abs(model.predict(archs[10:])[0] / true[10:] - 1)) < 0.03
