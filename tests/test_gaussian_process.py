"""The predictor `gp`: path features, the warp of labels, the process with and without a prior, and its quality on the table."""

from __future__ import annotations

import itertools
from pathlib import Path

import networkx as nx
import numpy as np
import pytest
import torch
from scipy.stats import kendalltau, multivariate_normal, norm, rankdata, yeojohnson

from diffnag import load_space
from diffnag.arch import Arch, ArchBatch
from diffnag.errors import UserError
from diffnag.guidance.checked import load_predictor
from diffnag.io.tables import BenchmarkTable, load_table
from diffnag.plugins import names
from diffnag.predictors.adaptation import FLOOR, GAIN_STD, SHIFT_STD, Adaptation, DoubtfulAdaptation, Warp
from diffnag.predictors.gaussian_process import GaussianProcessPredictor
from diffnag.predictors.path_features import MOST_NODES, PathFeatures, RoleMasks, path_features
from diffnag.protocols import Predictor
from diffnag.search_spaces.nasbench201.space import NASBench201
from diffnag.spaces.roles import roles_by_name, roles_of
from diffnag.testing import PredictorContract, draws

CONV1, CONV3, POOL = "nor_conv_1x1", "nor_conv_3x3", "avg_pool_3x3"
COUNTS, LENGTHS = slice(0, 7), slice(7, 17)
MEAN_LENGTH, PATHS, IDENTITIES = 17, 18, 19
SIGNAL = slice(20, 27)


class TestGaussianProcess(PredictorContract):
    @pytest.fixture
    def predictor_class(self) -> type[Predictor]:
        return GaussianProcessPredictor


def features(space: NASBench201, archs: list[Arch]) -> tuple[np.ndarray, ...]:
    batch = ArchBatch.of(archs, space)
    return path_features(batch.V.numpy(), batch.E.numpy(), RoleMasks.of(roles_of(space)))


def cell(space: NASBench201, *names: str) -> Arch:
    """The cell with these operations on 0->1 | 0->2, 1->2 | 0->3, 1->3, 2->3; `-` means none, `=` the identity."""
    a, b, c, d, e, f = ({"-": "none", "=": "skip_connect"}.get(name, name) for name in names)
    return space.from_str(f"|{a}~0|+|{b}~0|{c}~1|+|{d}~0|{e}~1|{f}~2|")


def paths(space: NASBench201, arch: Arch) -> list[list[str]]:
    """Operators of every live path without identities, found by enumeration."""
    graph = nx.DiGraph(arch.edges)
    names = [space.operators[op] for op in arch.ops]
    found = [[names[i] for i in path[1:-1]] for path in nx.all_simple_paths(graph, 0, len(names) - 1)]
    return [[name for name in path if name != "skip_connect"] for path in found if "none" not in path]


def test_paths_equal_an_enumeration(space: NASBench201) -> None:
    archs = draws(space, 60)
    structure, flow = features(space, archs)
    for arch, row, roots in zip(archs, structure, flow, strict=True):
        live = paths(space, arch)
        through, pairs = (roots**2)[:7], (roots**2)[7:].reshape(8, 8)
        assert row[PATHS] == len(live) and row[IDENTITIES] == live.count([])
        weights = [{CONV1, CONV3, POOL}, {CONV1, CONV3}, {CONV3}, {POOL}, {CONV3, POOL}]
        lengths = [[sum(name in counted for name in path) for path in live] or [-1] for counted in weights]
        assert row[LENGTHS].tolist() == [extreme(each) for each in lengths for extreme in (max, min)]
        assert row[MEAN_LENGTH] == pytest.approx(np.mean(lengths[1]) if live else 0)
        names = ["start", *space.operators]
        counted = np.zeros((8, 8))
        for path in live:
            for a, b in itertools.pairwise(["start", *path, "start"]):  # start and end have the same index
                counted[names.index(a) - 1, names.index(b) - 1] += 1
        np.testing.assert_allclose(pairs, counted, atol=1e-12)
        np.testing.assert_allclose(through, counted[:, :7].sum(0), atol=1e-12)


def test_dead_branches_and_identities_leave_no_trace(space: NASBench201) -> None:
    """With `none` on 0->1 all connections from map 1 are dead; so are those to a map without an outgoing one. Identities do not count."""
    choices = ("-", "=", CONV1, CONV3, POOL)
    dead = [cell(space, "-", CONV3, x, "=", y, POOL) for x in choices for y in choices]
    dead += [cell(space, x, CONV3, "-", "=", "-", POOL) for x in choices]
    for group in features(space, dead):
        assert (group == group[0]).all()
    same = [cell(space, "=", "-", CONV3, "-", "-", "="), cell(space, "-", CONV3, "-", "-", "-", "="), cell(space, CONV3, "-", "=", "-", "-", "=")]
    for group in features(space, [*same, cell(space, "-", "-", "-", CONV3, "-", "-")]):
        assert (group == group[0]).all()


def test_a_cell_that_computes_nothing(space: NASBench201) -> None:
    structure, flow = features(space, [cell(space, CONV3, CONV3, "-", "-", "-", "-")])
    assert not structure[0, COUNTS].any() and (structure[0, LENGTHS] == -1).all() and not flow.any()
    assert structure[0, SIGNAL].tolist() == [0, 0, 0, 0, 0, -1, -1]


def test_signal_in_closed_form(space: NASBench201) -> None:
    """Log variance, share of the input, variance from layers, mean depth, mean spatial depth, spread of depth, entropy."""
    archs = [
        cell(space, "-", "-", "-", CONV3, "-", "-"),
        cell(space, "=", "-", "-", CONV3, "=", "-"),  # identity + layer
        cell(space, "=", "=", "-", "-", "=", "="),  # two identities in parallel: amplitudes add
        cell(space, CONV3, "-", CONV1, "-", "-", POOL),  # two layers on one path, then averaged
    ]
    half = np.log(2)
    expected = [
        [0, 0, 1, 1, 1, 0, 0],
        [half, 0.5, 1, 0.5, 0.5, 0.5, half],
        [2 * half, 1, 0, 0, 0, 0, 0],
        [-half, 0, 0.5, 2, 1, 0, 0],
    ]
    np.testing.assert_allclose(features(space, archs)[0][:, SIGNAL], expected, atol=1e-12)


def test_architectures_with_fewer_nodes_and_other_names() -> None:
    """The output is the last node that exists; unknown operators are layers."""
    roles = RoleMasks.of(roles_by_name(("input", "output", "sep_conv_5x5", "max_pool_3x3", "Identity", "gelu", "zero")))
    assert roles.spatial.tolist() == [False, False, True, False, False, False, False]
    assert roles.passes.nonzero()[0].tolist() == [0, 1, 4] and roles.blocks.nonzero()[0].tolist() == [6]
    V, E = Arch((0, 2, 5, 1), ((0, 1), (1, 2), (0, 2), (2, 3))).matrices(nodes=6, operators=7)
    structure, flow = path_features(V[None], E[None], roles)
    assert structure[0, COUNTS].tolist() == [0, 0, 1, 0, 0, 1, 0] and structure[0, PATHS] == 2
    assert structure[0, LENGTHS][:6].tolist() == [2, 1, 2, 1, 1, 0]
    assert (flow[0, :7] ** 2).round(9).tolist() == [0, 0, 1, 0, 0, 2, 0]


def test_scales_of_a_graph_by_hand() -> None:
    roles = RoleMasks.of(roles_by_name(("input", "output", "conv3x3", "double_and_halve", "conv3x3_stride2")))
    assert roles.widens.tolist() == [False, False, False, True, False] and roles.shrinks.tolist() == [False, False, False, True, True]
    edges = ((0, 1), (1, 2), (1, 3), (2, 4), (3, 4), (0, 5), (4, 6))  # node 5 is dead
    V, E = Arch((0, 3, 2, 4, 3, 4, 1), edges).matrices(nodes=8, operators=5)
    *_, scale = path_features(V[None], E[None], roles)
    doublings, halvings = scale[0].reshape(2, 17)
    assert doublings.tolist() == [0, 1, 1, 1, 2, 2, 2, 2, *[0, 3, 1, 0, 0, 0, 0, 0, 0]]
    assert halvings.tolist() == [0, 1, 1, 2, 3, 3, 3, 3, *[0, 2, 1, 1, 0, 0, 0, 0, 0]]


def test_only_networks_that_choose_their_scales_have_a_third_group() -> None:
    spaces = [space for space in map(load_space, names("space")) if space.nodes <= MOST_NODES]
    groups = {space.name: len(PathFeatures(space, plain=False)(draws(space, 5))) for space in spaces}
    assert {name for name, count in groups.items() if count == 3} == {"transnasbench101-macro"}
    assert set(groups.values()) == {2, 3}


def test_large_graphs_are_refused() -> None:
    with pytest.raises(UserError, match="of at most 64 nodes, 'tpu-tiles' has 160; use random-forest"):
        load_predictor("gp", space=load_space("tpu-tiles"), dataset="tpu", seed=0)


def test_features_are_standardised(space: NASBench201) -> None:
    for group in PathFeatures(space)(draws(space, 2000, seed=1)):
        assert abs(group.mean(0)).max() < 0.15 and abs(group.std(0) - 1).max() < 0.3


@pytest.mark.parametrize("power", [0.0, 0.5, 1.0, 2.0, 3.2])
def test_warp(power: float) -> None:
    y = np.random.default_rng(0).gamma(2.0, 3.0, 100) * -1 + 95
    warp = Warp.of(y, power)
    t = warp(y)
    scale = 1.4826 * np.median(np.abs(y - np.median(y)))
    reference = yeojohnson((y - np.median(y)) / scale, power)
    np.testing.assert_allclose(t, (reference - reference.mean()) / reference.std(), atol=5e-6)
    np.testing.assert_allclose(warp.inverse(t), y, rtol=1e-9)
    wide = np.linspace(-60 if power > 0 else -5, 5, 500)
    assert (np.diff(warp.inverse(wide)) > 0).all() and np.isfinite(warp.inverse(wide)).all()
    assert warp(np.array([-1e9]))[0] == pytest.approx(warp(np.array([warp.median + FLOOR * warp.scale]))[0])


def made(m: int, *, noise: float = 0.0) -> tuple[np.ndarray, list[np.ndarray], np.ndarray]:
    rng = np.random.default_rng(5)
    prior, groups = rng.normal(size=m), [rng.normal(size=(m, 3)), rng.normal(size=(m, 2))]
    return prior, groups, 80 + 2 * (prior + np.sin(groups[0][:, 0]) + noise * rng.normal(size=m))


def test_predictions_follow_the_textbook_formulas() -> None:
    """Posterior and density of the warped labels, computed directly with the fitted hyper-parameters."""
    prior, groups, y = made(60, noise=0.2)
    adaptation = Adaptation()
    adaptation.fit(prior[:40], [group[:40] for group in groups], y[:40])
    *log_lengths, log_amplitude, log_noise, _ = adaptation._theta
    p = (prior - prior[:40].mean()) / prior[:40].std()
    squared = sum(
        ((x[:, None] - x) ** 2).mean(2) / np.exp(2 * log_length) / 3
        for x, log_length in zip((p[:, None], *groups), log_lengths, strict=True)
    )
    r = np.sqrt(5 * squared)
    K = np.exp(2 * log_amplitude) * (1 + r + r**2 / 3) * np.exp(-r) + GAIN_STD**2 * np.outer(p, p) + SHIFT_STD**2
    noisy = K[:40, :40] + np.exp(2 * log_noise) * np.eye(40)
    residual = adaptation._warp(y[:40]) - p[:40]
    mean = p[40:] + K[40:, :40] @ np.linalg.solve(noisy, residual)
    variance = np.diag(K)[40:] + np.exp(2 * log_noise) - np.einsum("ij,ji->i", K[40:, :40], np.linalg.solve(noisy, K[:40, 40:]))
    low, middle, high = adaptation.quantiles(prior[40:], [group[40:] for group in groups], (0.158655254, 0.5, 0.841344746))
    answer, std = adaptation.predict(prior[40:], [group[40:] for group in groups])
    np.testing.assert_allclose(adaptation._warp(answer), mean, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose((adaptation._warp(high) - adaptation._warp(low)) / 2, np.sqrt(variance), rtol=1e-4)
    np.testing.assert_allclose(std, high - middle, rtol=1e-6)
    np.testing.assert_allclose(answer, middle)
    worse = multivariate_normal(cov=noisy + 0.5 * np.eye(40)).logpdf(residual)
    assert multivariate_normal(cov=noisy).logpdf(residual) > worse + 5  # the fitted hyper-parameters have a larger evidence


@pytest.mark.parametrize("kind", [Adaptation, DoubtfulAdaptation])
def test_labels_that_agree_with_the_prior_confirm_it(kind: type[Adaptation] | type[DoubtfulAdaptation]) -> None:
    prior, groups, _ = made(80)
    adaptation = kind()
    adaptation.fit(prior[:30], [group[:30] for group in groups], 60 + 3 * prior[:30])
    mean, std = adaptation.predict(prior, groups)
    assert abs(mean - 60 - 3 * prior).max() < 0.6 and std.max() < 0.7
    if isinstance(adaptation, DoubtfulAdaptation):
        assert adaptation.trust > 0.99


def test_a_refuted_prior_is_forgotten() -> None:
    prior, groups, _ = made(300)
    y = 60 + 3 * groups[0][:, 0]
    doubtful, scratch = DoubtfulAdaptation(), Adaptation()
    paid, rest = ([group[part] for group in groups] for part in (slice(40), slice(40, None)))
    doubtful.fit(prior[:40], paid, y[:40])
    scratch.fit(np.zeros(40), paid, y[:40])
    assert doubtful.trust < 0.05
    mean, std = doubtful.predict(prior[40:], rest)
    bare, bare_std = scratch.predict(np.zeros(260), rest)
    assert np.corrcoef(mean, bare)[0, 1] > 0.97 and np.median(std / bare_std) < 1.3


def test_two_labels_raise_no_doubt() -> None:
    prior, groups, _ = made(20)
    adaptation = DoubtfulAdaptation()
    adaptation.fit(prior[:2], [group[:2] for group in groups], np.array([70.0, 71.0]))
    assert adaptation.trust == 1


def test_a_prior_is_dropped_after_its_number_of_labels() -> None:
    prior, groups, y = made(20)
    brief, doubtful, scratch = DoubtfulAdaptation(prior_labels=2), DoubtfulAdaptation(), Adaptation()
    for adaptation in (brief, doubtful):
        adaptation.fit(prior[:2], [group[:2] for group in groups], y[:2])
    assert (brief.predict(prior, groups)[0] == doubtful.predict(prior, groups)[0]).all()
    brief.fit(prior[:3], [group[:3] for group in groups], y[:3])
    scratch.fit(np.zeros(3), [group[:3] for group in groups], y[:3])
    for mine, bare in zip(brief.predict(prior, groups), scratch.predict(np.zeros(20), groups), strict=True):
        assert (mine == bare).all()
    assert brief.trust == 0 and (brief.quantiles(prior, groups, [0.1]) == scratch.quantiles(np.zeros(20), groups, [0.1])).all()


def test_labels_correct_a_prior_along_features() -> None:
    prior, groups, y = made(400)
    adaptation = Adaptation()
    adaptation.fit(prior[:100], [group[:100] for group in groups], y[:100])
    mean, _ = adaptation.predict(prior[100:], [group[100:] for group in groups])
    assert kendalltau(mean, y[100:]).statistic > 0.9 > 0.75 > kendalltau(prior[100:], y[100:]).statistic


def test_of_many_labels_some_decide_on_the_hyper_parameters_and_all_on_the_values(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    features, prior = [rng.standard_normal((40, 2))], np.zeros(40)
    y = np.sin(features[0]).sum(1)
    few, every_third, whole = Adaptation(), slice(None, None, 3), Adaptation()
    monkeypatch.setattr("diffnag.predictors.adaptation.SHOWN", 14)
    whole.fit(prior, features, y)
    few.fit(prior[every_third], [features[0][every_third]], y[every_third])
    assert whole._theta == pytest.approx(few._theta) and whole.log_evidence == pytest.approx(few.log_evidence)
    errors = [np.abs(one.predict(prior, features)[0] - y).max() for one in (few, whole)]
    assert errors[1] < errors[0] / 3


def test_one_label_only_shifts_the_prior() -> None:
    prior, groups, _ = made(50)
    adaptation = Adaptation()
    adaptation.fit(prior[:1], [group[:1] for group in groups], np.array([70.0]))
    mean, std = adaptation.predict(prior, groups)
    assert kendalltau(mean, prior).statistic > 0.95 and mean[0] == pytest.approx(70, abs=0.5) and (std > 0).all()


def test_one_failure_does_not_dominate(space: NASBench201) -> None:
    rng = np.random.default_rng(0)
    archs, y = draws(space, 20), rng.normal(90, 1, 20)
    y[0] = 10
    predictor = load_predictor("gp", space=space, dataset="cifar10", seed=0)
    predictor.fit(archs, y)
    mean, _ = predictor.predict(draws(space, 200, seed=1))
    assert np.median(mean) > 87 and mean.max() < 95


def test_order_of_labels_does_not_matter(space: NASBench201) -> None:
    archs, others = draws(space, 40), draws(space, 50, seed=1)
    y = ArchBatch.of(archs, space).V.sum(1)[:, 5].numpy() + 0.1 * np.random.default_rng(0).normal(size=40)
    answers = []
    for order in (range(40), reversed(range(40))):
        predictor = load_predictor("gp", space=space, dataset="cifar10", seed=0)
        chosen = list(order)
        predictor.fit([archs[i] for i in chosen], y[chosen])
        answers.append(predictor.predict(others)[0])
    np.testing.assert_allclose(answers[0], answers[1], atol=2e-2)



@pytest.fixture(scope="module")
def table(space: NASBench201, data_folder: Path) -> BenchmarkTable:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DIFFNAG_DATA", str(data_folder))
        return load_table(space)


def test_39_labels_rank_the_table(space: NASBench201, table: BenchmarkTable) -> None:
    archs, y = [space.from_str(text) for text in table.archs], table.values["cifar10/test/200"].astype(np.float64)
    taus, covered = [], []
    for seed in range(4):
        order = np.random.default_rng(seed).permutation(len(y))
        paid, rest = order[:39], order[39:3039]
        predictor = load_predictor("gp", space=space, dataset="cifar10", seed=0)
        predictor.fit([archs[i] for i in paid], y[paid])
        mean, std = predictor.predict([archs[i] for i in rest])
        taus.append(kendalltau(mean, y[rest]).statistic)
        covered.append(np.mean(abs(y[rest] - mean) < 1.645 * std))
    assert np.mean(taus) > 0.75, taus
    assert 0.8 < np.mean(covered) < 0.97, covered


def test_few_labels_sharpen_copied_ranks(space: NASBench201, table: BenchmarkTable) -> None:
    chosen = np.random.default_rng(0).permutation(len(table.archs))[:3100]
    y, *sisters = (table.values[f"{name}/test/200"][chosen].astype(np.float64) for name in ("cifar10", "cifar100", "ImageNet16-120"))
    prior = np.mean([norm.ppf(rankdata(sister) / (len(sister) + 1)) for sister in sisters], axis=0)
    groups = PathFeatures(space)([space.from_str(table.archs[i]) for i in chosen])
    adaptation = Adaptation()
    adaptation.fit(prior[:100], [group[:100] for group in groups], y[:100])
    mean, std = adaptation.predict(prior[100:], [group[100:] for group in groups])
    assert kendalltau(mean, y[100:]).statistic > max(0.89, kendalltau(prior[100:], y[100:]).statistic + 0.01)
    assert 0.8 < np.mean(abs(y[100:] - mean) < 1.645 * std) < 0.97


def test_fit_leaves_the_global_generator(space: NASBench201) -> None:
    state = torch.get_rng_state()
    predictor = load_predictor("gp", space=space, dataset="cifar10", seed=0)
    predictor.fit(draws(space, 12), np.arange(12.0))
    assert torch.equal(state, torch.get_rng_state())
