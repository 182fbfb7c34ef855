"""Edges that demand or exclude each other: which they are, and their probabilities by enumeration."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pytest
import torch

from diffnag.arch import ArchBatch
from diffnag.generators.diffusion.denoiser import Denoiser, load_denoiser
from diffnag.generators.diffusion.options import Config
from diffnag.generators.diffusion.sde import make_sde
from diffnag.generators.edge_groups import EdgeGroups
from diffnag.search_spaces.darts.space import DARTS
from diffnag.search_spaces.efficientnet_lite.space import EfficientNetLite
from diffnag.search_spaces.mobilenetv3.space import MobileNetV3
from diffnag.search_spaces.nasbench201.space import NASBench201
from diffnag.testing import draws

SPACE = DARTS()
CONFIG = Config(width=16, layers=1, heads=2, edge_groups=True)


@pytest.fixture(name="groups", scope="module")
def _groups() -> EdgeGroups:
    return EdgeGroups.of(SPACE)


@pytest.fixture(name="denoiser")
def _denoiser(groups: EdgeGroups, request: pytest.FixtureRequest) -> Denoiser:
    torch.manual_seed(0)
    return Denoiser(SPACE, make_sde("ve"), CONFIG, groups).eval()


def _wiring(groups: EdgeGroups, picks: tuple[int, ...]) -> torch.Tensor:
    return torch.stack([groups.patterns[g, k] for g, k in enumerate(picks)]).sum(0)


def test_those_of_darts_are_the_pairs_of_states_that_a_state_reads(groups: EdgeGroups) -> None:
    """States 3, 4 and 5 of each cell have 3, 6 and 10; all else is constant."""
    assert (groups.offset == 0).sum(1).tolist() == [3, 6, 10] * 2
    i, j = np.triu_indices(SPACE.nodes, 1)
    constant = SPACE.constant[1][i, j]
    assert (groups.grouped.numpy() == ~constant).all()
    E = ArchBatch.of(draws(SPACE, 200, seed=1), SPACE).E.numpy()[:, i, j]  # of other draws
    for patterns, offset in zip(groups.patterns.numpy(), groups.offset, strict=True):
        known = {row.tobytes() for row, least in zip(patterns, offset, strict=True) if least == 0}
        assert {row.tobytes() for row in (E * patterns.any(0)).astype(np.float32)} <= known


def test_without_groups_each_edge_is_by_itself() -> None:
    none, logits, there = EdgeGroups.none(5), torch.randn(7, 5, generator=torch.Generator().manual_seed(0)), torch.eye(7, 5)
    pair = EdgeGroups(torch.zeros(1, 1, 5), torch.zeros(1, 1), torch.zeros(5, dtype=torch.bool))  # the formulas for groups, with one of no edge
    for name in ("probabilities", "log_odds", "likeliest"):
        torch.testing.assert_close(getattr(none, name)(logits), getattr(pair, name)(logits))
    torch.testing.assert_close(none.cross_entropy(logits, there), pair.cross_entropy(logits, there))
    torch.testing.assert_close(none.probabilities(logits), 1 / (1 + (-logits).exp()))


def test_those_of_mobilenetv3_are_the_depths_of_its_stages() -> None:
    assert (EdgeGroups.of(MobileNetV3()).offset == 0).sum(1).tolist() == [3] * 5


def test_rare_edges_do_not_join_groups_that_are_independent() -> None:
    """In EfficientNet-Lite0 each stage has a group of its own: 1 to 3 of its blocks can be left out, all of them with probability 1/729."""
    assert (EdgeGroups.of(EfficientNetLite()).offset == 0).sum(1).tolist() == [2, 2, 4, 4, 8]


def test_a_space_of_one_wiring_has_none() -> None:
    groups, logits = EdgeGroups.of(NASBench201()), torch.linspace(-3, 3, 28)[None]
    assert not groups.grouped.any()
    torch.testing.assert_close(groups.probabilities(logits), logits.sigmoid())
    entropy = torch.nn.functional.binary_cross_entropy_with_logits(logits, (logits > 1).float(), reduction="sum")
    torch.testing.assert_close(groups.cross_entropy(logits, (logits > 1).float()), entropy[None])


def test_probabilities_by_enumeration(groups: EdgeGroups) -> None:
    """All 180^2 wirings, each as likely as the sum of the logits of its edges says."""
    logits = torch.randn(1, 210, generator=torch.Generator().manual_seed(0)).double()
    groups = EdgeGroups(groups.patterns.double(), groups.offset.double(), groups.grouped)
    ways = list(itertools.product(*(range(count) for count in (groups.offset == 0).sum(1).tolist())))
    wirings = torch.stack([_wiring(groups, picks) for picks in ways])
    log_p = (wirings @ logits[0]).log_softmax(0)
    expected = log_p.exp() @ wirings
    found = groups.probabilities(logits)[0]
    torch.testing.assert_close(found[groups.grouped], expected[groups.grouped])
    alone = ~groups.grouped
    torch.testing.assert_close(found[alone], logits[0, alone].sigmoid())
    best = torch.where(alone, logits[0] > 0, wirings[log_p.argmax()] > 0)
    assert torch.equal(groups.likeliest(logits)[0], best)
    there = torch.where(alone, 1.0, wirings[123])
    entropy = -log_p[123] - torch.nn.functional.logsigmoid(logits[0, alone]).sum()
    torch.testing.assert_close(groups.cross_entropy(logits, there[None]), entropy[None])


def test_an_untrained_network_is_bayes_rule(denoiser: Denoiser) -> None:
    """Where all architectures are equally likely, D is their posterior mean: here of the pair that state 3 reads."""
    with torch.no_grad():
        for last in (denoiser.operator_head, denoiser.edge_head[1]):
            last.weight.zero_()
            last.bias.zero_()
    batch = ArchBatch.of(draws(SPACE, 8), SPACE)
    x0, t = denoiser.packing.pack(batch.V, batch.E), torch.full((8,), 0.4)
    x = denoiser.sde.diffuse(x0, t, torch.randn(x0.shape, generator=torch.Generator().manual_seed(0)))
    sigma = denoiser.sde.marginal(t)[1]
    edges = 21 * 9 + torch.nonzero(denoiser.patterns[0].any(0))[:, 0]
    kinds = 2 * denoiser.patterns[0, :3][:, edges - 21 * 9] - 1
    distances = (x[:, None, edges] - kinds).square().sum(2)
    expected = (-distances / (2 * sigma[:, None] ** 2)).softmax(1) @ kinds
    torch.testing.assert_close(denoiser(x, t)[:, edges], expected, atol=1e-4, rtol=1e-3)


def test_given_log_odds_are_those_of_the_estimate(groups: EdgeGroups) -> None:
    torch.manual_seed(0)
    denoiser = Denoiser(SPACE, make_sde("ve"), Config(width=16, layers=1, heads=2, joint=8, log_odds=True, edge_groups=True), groups)
    logits = 2 * torch.randn(5, denoiser.packing.size, generator=torch.Generator().manual_seed(0))
    share = ((denoiser.in_cube(logits).double() + 1) / 2).clamp(1e-9, 1 - 1e-9)
    torch.testing.assert_close(5 * denoiser._head_input(logits).double(), share.logit().clamp(-10, 10), atol=1e-2, rtol=1e-2)
    denoiser(logits, torch.full((5,), 0.3)).sum().backward()
    assert all(p.grad is None or p.grad.isfinite().all() for p in denoiser.parameters())


def test_groups_are_saved_with_the_weights(denoiser: Denoiser, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    denoiser.save(tmp_path / "d.safetensors", {"split": "canonical-sha256-0.5"})
    monkeypatch.setattr(EdgeGroups, "of", None)  # not read off the space again
    loaded = load_denoiser(SPACE, tmp_path / "d.safetensors")
    x, t = torch.randn(3, denoiser.packing.size, generator=torch.Generator().manual_seed(0)), torch.full((3,), 0.5)
    assert torch.equal(loaded(x, t), denoiser(x, t))
