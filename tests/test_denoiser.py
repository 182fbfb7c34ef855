"""The denoiser: what its preconditioning promises, masks, and files."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from diffnag.arch import Arch, ArchBatch, Packing
from diffnag.errors import UserError
from diffnag.generators.diffusion.denoiser import Denoiser, load_denoiser
from diffnag.generators.diffusion.options import Config
from diffnag.generators.diffusion.sde import make_sde
from diffnag.generators.transformer import attention_mask
from diffnag.io.checkpoint import load_checkpoint, save_checkpoint

TINY = Config(width=16, layers=1, heads=2)


@pytest.fixture(params=[(0, False), (8, False), (8, True)], ids=["", "joint", "log-odds"])
def tiny(space, request):
    joint, log_odds = request.param
    torch.manual_seed(0)
    return Denoiser(space, make_sde("ve"), replace(TINY, joint=joint, log_odds=log_odds)).eval()


def noised(space, denoiser, t: float, b: int = 64):
    rng = np.random.default_rng(0)
    batch = ArchBatch.of([space.random(rng) for _ in range(b)], space)
    x0 = denoiser.packing.pack(batch.V, batch.E)
    noise = torch.randn(x0.shape, generator=torch.Generator().manual_seed(0))
    times = torch.full((b,), t)
    alpha, sigma = denoiser.sde.marginal(times)
    return x0, alpha[:, None] * x0 + sigma[:, None] * noise, times


def test_packing_round_trip(space):
    rng = np.random.default_rng(0)
    batch = ArchBatch.of([space.random(rng) for _ in range(5)], space)
    packing = Packing.of(space)
    x = packing.pack(batch.V, batch.E)
    assert x.shape == (5, packing.size) == (5, 84) and set(x.unique().tolist()) == {-1.0, 1.0}
    V, E = packing.relaxed(x)
    assert torch.equal(V, batch.V) and torch.equal(E, batch.E.triu(1))


def test_quantise_rules(space):
    packing = Packing.of(space)
    x = torch.full((1, 84), -0.5)
    x[0, 2] = -0.1  # the largest of row 0, and yet under the threshold
    V, _ = packing.quantise(x, "threshold")
    assert V.sum() == 0
    V, E = packing.quantise(x, "argmax")
    assert V[0, 0].tolist() == [0, 0, 1, 0, 0, 0, 0] and E.sum() == 0
    with pytest.raises(ValueError, match="threshold, argmax"):
        packing.quantise(x, "x")


def test_arch_is_a_checked_value():
    assert Arch((0, 1), [(0, 1)]) == Arch((0, 1), ((0, 1),)) and len({Arch((0, 1), ()), Arch((0, 1), ())}) == 1
    with pytest.raises(ValueError, match="0 <= i < j < 2"):
        Arch((0, 1), ((1, 0),))


@pytest.mark.parametrize("sde", ["ve", "vp", "sub-vp"])
def test_estimate_is_a_point_of_the_simplex(space, sde):
    torch.manual_seed(0)
    denoiser = Denoiser(space, make_sde(sde), TINY)
    for t in (denoiser.sde.t_min, 0.5, 1.0):
        _, x, times = noised(space, denoiser, t)
        V, E = denoiser.packing.relaxed(denoiser(x, times))
        assert (V >= 0).all() and (E >= 0).all() and (E <= 1).all()
        torch.testing.assert_close(V.sum(2), torch.ones(V.shape[:2]))


def test_untrained_estimate_is_bayes_rule_for_independent_entries(space, tiny):
    """With the network's own output at zero: p(k | x) ~ exp(-|x - e_k|^2 / 2 sigma^2), rows one-hot in {-1, 1}.

    In evaluation and without a joint head, edges that are constant in the space are certain: here all of them.
    """
    for head in (tiny.operator_head, tiny.edge_head[1]):
        torch.nn.init.zeros_(head.weight)
        torch.nn.init.zeros_(head.bias)
    _, x, t = noised(space, tiny, 0.4)
    V, E = tiny.packing.split(x)
    sigma = tiny.sde.marginal(t[:1])[1]
    corners = 2 * torch.eye(7) - 1
    posterior = (-(V[:, :, None] - corners).square().sum(3) / (2 * sigma**2)).softmax(2)
    edges = torch.stack([-((E + 1) ** 2), -((E - 1) ** 2)]).div(2 * sigma**2).softmax(0)[1]
    wiring = torch.from_numpy(space.encode(space.random(np.random.default_rng(0)))[1]).expand_as(E)
    for training, expected in ((True, edges.triu(1)), (False, wiring if tiny.joint_head is None else edges.triu(1))):
        got_V, got_E = tiny.packing.relaxed(tiny.train(training)(x, t))
        torch.testing.assert_close(got_V, posterior, atol=1e-5, rtol=1e-3)
        torch.testing.assert_close(got_E.triu(1), expected, atol=1e-5, rtol=1e-3)


def test_a_joint_head_lets_every_entry_tell_every_other(space):
    """Node 1 may attend to no node but its ancestors: what node 6 is reaches it by the joint head alone."""
    for joint in (0, 8):
        torch.manual_seed(0)
        denoiser = Denoiser(space, make_sde("ve"), replace(TINY, joint=joint)).eval()
        if joint:
            torch.nn.init.normal_(denoiser.joint_head.last.weight)
        _, x, t = noised(space, denoiser, 0.6, b=2)
        other = x.clone()
        other[:, 6 * 7 + 3] += 3  # an operator of node 6
        first, second = (denoiser.packing.split(denoiser(part, t))[0][:, 1] for part in (x, other))
        assert torch.equal(first, second) == (joint == 0)


def test_log_odds_are_those_of_the_estimate(space):
    denoiser = Denoiser(space, make_sde("ve"), replace(TINY, joint=8, log_odds=True))
    logits = 3 * torch.randn(5, denoiser.packing.size, generator=torch.Generator().manual_seed(0))
    share = ((denoiser.in_cube(logits).double() + 1) / 2).clamp(1e-9, 1 - 1e-9)
    torch.testing.assert_close(5 * denoiser._head_input(logits).double(), share.logit().clamp(-10, 10), atol=1e-3, rtol=1e-3)
    far = denoiser._head_input(1000 * logits)
    assert far.isfinite().all() and far.abs().max() == 2


@pytest.mark.parametrize("b", [1, 2, 3, 4])
def test_log_odds_are_the_same_with_and_without_gradients(space, b):
    """Rows of 7 operators are normalised as columns where those of all 8 b nodes fill vector registers."""
    denoiser = Denoiser(space, make_sde("ve"), replace(TINY, joint=8, log_odds=True))
    logits = torch.randn(b, denoiser.packing.size, generator=torch.Generator().manual_seed(0)) * torch.tensor([0.1, 3, 30, 300])[:b, None]
    with torch.no_grad():
        found = denoiser._head_input(logits)
    torch.testing.assert_close(found, denoiser._head_input(logits), atol=1e-6, rtol=1e-6)


def test_score_is_tweedie(space, tiny):
    _, x, t = noised(space, tiny, 0.6)
    sigma = tiny.sde.marginal(t)[1][:, None]
    torch.testing.assert_close(tiny(x, t), x + sigma**2 * tiny.score(x, t), atol=1e-4, rtol=1e-4)


def test_an_item_does_not_depend_on_its_batch(space, tiny):
    _, x, t = noised(space, tiny, 0.6)
    torch.testing.assert_close(tiny(x, t)[3:5], tiny(x[3:5], t[3:5]))


def test_loss_is_zero_only_for_the_clean_architecture(space, tiny):
    x0, _, t = noised(space, tiny, 0.0)
    quiet = tiny.loss(x0, t, torch.zeros_like(x0))
    loud = tiny.loss(x0, torch.ones_like(t), torch.randn(x0.shape, generator=torch.Generator().manual_seed(1)))
    assert quiet.shape == (64,) and quiet.max() < 1e-3 < loud.min()


def test_cross_entropy_is_that_of_the_estimate(space, tiny):
    """The cross-entropy is that of the probabilities in D, where none of them is rounded to 0 or 1."""
    x0, x, t = noised(space, tiny, 1.0)
    with torch.no_grad():
        share, true = (((part.double() + 1) / 2) for part in (tiny(x, t), x0))
        V, E = slice(0, 8 * 7), slice(8 * 7, None)
        expected = -true.xlogy(share)[:, V].sum(1) - (true.xlogy(share) + (1 - true).xlogy(1 - share))[:, E].sum(1)
        sigma = tiny.sde.marginal(t)[1]
        found = tiny.cross_entropy(x0, t, (x - x0) / sigma[:, None])
    torch.testing.assert_close(found.double(), (1 + 1 / sigma.double() ** 2) * expected / x0.shape[1], rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("tiny", [(0, False)], indirect=True)  # a joint head sees them all: spaces have an operator 'absent' instead
def test_absent_nodes_are_not_attended_to(space, tiny):
    _, x, t = noised(space, tiny, 0.6, b=2)
    mask = torch.ones(2, 8, dtype=torch.bool)
    mask[:, 3] = False
    V, _ = tiny.packing.split(x)
    other = V.clone()
    other[:, 3] += 5
    one, two = (tiny.packing.split(tiny(torch.cat([part.flatten(1), x[:, 56:]], 1), t, mask))[0] for part in (V, other))
    keep = [0, 1, 2, 4, 5, 6, 7]
    assert torch.equal(one[:, keep], two[:, keep])


def test_attention_masks():
    adjacency = torch.zeros(3, 3)
    adjacency[0, 1] = adjacency[1, 2] = 1
    assert attention_mask("ancestors", adjacency).int().tolist() == [[1, 0, 0], [1, 1, 0], [1, 1, 1]]
    assert attention_mask("ancestors", torch.zeros(3, 3)).int().tolist() == [[1, 0, 0], [0, 1, 0], [0, 0, 1]]
    assert attention_mask("causal", adjacency).int().tolist() == [[1, 0, 0], [1, 1, 0], [1, 1, 1]]
    assert attention_mask("full", adjacency).all()


def test_ancestors_are_refused_where_the_wiring_varies(space):
    class Varies(type(space)):
        def __init__(self) -> None:
            super().__init__()
            self.constant = (self.constant[0], np.zeros((8, 8), dtype=bool))

    with pytest.raises(ValueError, match="'ancestors' needs a constant wiring"):
        Denoiser(Varies(), make_sde("ve"), TINY)


def test_file_round_trip(space, tiny, tmp_path):
    path = tmp_path / "d.safetensors"
    tiny.save(path, {"split": "canonical-sha256-0.5"})
    loaded = load_denoiser(space, path)
    x, t = torch.randn(2, 84), torch.full((2,), 0.5)
    assert torch.equal(loaded(x, t), tiny(x, t)) and loaded.split == "canonical-sha256-0.5" and loaded.sde == tiny.sde


def test_bad_files_get_one_sentence(space, tiny, tmp_path):
    path = tmp_path / "d.safetensors"
    tiny.save(path, {"split": "canonical-sha256-0.5"})
    whole = path.read_bytes()
    with pytest.raises(UserError, match="there is no checkpoint"):
        load_denoiser(space, tmp_path / "absent")
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(UserError, match="no readable checkpoint"):
        load_denoiser(space, path)
    path.write_bytes(b"not a checkpoint")
    with pytest.raises(UserError, match="no readable checkpoint"):
        load_denoiser(space, path)
    save_checkpoint(path, {"a": torch.ones(1)}, {"kind": "surrogate"})
    with pytest.raises(UserError, match="holds a surrogate, not a generator"):
        load_denoiser(space, path)
    path.write_bytes(whole)
    tensors, meta = load_checkpoint(path, kind="generator")
    save_checkpoint(path, tensors, {**meta, "space": "other"})
    with pytest.raises(UserError, match="is a network of space 'other', not of 'nasbench201'"):
        load_denoiser(space, path)
    tensors.pop("trunk.token.weight")
    save_checkpoint(path, tensors, meta)
    with pytest.raises(UserError, match="does not hold what its own description asks for"):
        load_denoiser(space, path)
