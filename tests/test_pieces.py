"""Evaluation in pieces, on threads, and in sequences of several rows: the values are those of one row at a time."""

import multiprocessing

import pytest
import torch

from diffnag.generators.pieces import PIECE, Pieces
from diffnag.generators.transformer import GELU, GraphTransformer, attention_mask


def doubled(x: torch.Tensor) -> torch.Tensor:
    return torch.cat([2 * x, x.new_full((len(x), 1), float(len(x)))], dim=1)


@pytest.mark.parametrize("rows", [1, PIECE, PIECE + 1, 3 * PIECE + 5])
@pytest.mark.parametrize("threads", [1, 2])
def test_pieces_are_put_together_in_order(rows, threads):
    x, pieces, before = torch.arange(2.0 * rows).reshape(rows, 2), Pieces(), torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        with torch.no_grad(), pieces.cores(PIECE + 1, "none"):
            assert torch.get_num_threads() == 1, "operations in between have one thread"
            found = pieces(doubled, x)
        assert torch.get_num_threads() == threads
    finally:
        torch.set_num_threads(before)
    assert torch.equal(found[:, :2], 2 * x)
    assert found[:, 2].max() <= PIECE


@pytest.mark.parametrize("kind", ["none", "gradient"])
def test_few_rows_have_one_thread(kind):
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        with Pieces().cores(PIECE, kind):
            assert torch.get_num_threads() == 1
        assert torch.get_num_threads() == 2
        with Pieces().cores(PIECE + 1, "gradient"):
            assert torch.get_num_threads() == 2, "a predictor may need them"
    finally:
        torch.set_num_threads(before)


def test_with_gradients_a_batch_is_one_piece():
    assert (Pieces()(doubled, torch.zeros(3 * PIECE, 1))[:, 1] == 3 * PIECE).all()


def test_errors_of_a_piece_are_raised():
    def fails(x):
        raise ArithmeticError("no value")

    before = torch.get_num_threads()
    pieces = Pieces()
    with pytest.raises(ArithmeticError), torch.no_grad(), pieces.cores(PIECE + 1, "none"):
        pieces(fails, torch.zeros(3 * PIECE, 1))
    assert torch.get_num_threads() == before


def in_a_fork(x):
    pieces = Pieces()
    with torch.no_grad(), pieces.cores(PIECE + 1, "none"):
        return pieces(doubled, x).sum().item()


def test_a_forked_process_has_threads_of_its_own():
    x = torch.ones(3 * PIECE, 1)
    torch.set_num_threads(2)
    try:
        expected = in_a_fork(x)
        with multiprocessing.get_context("fork").Pool(1) as pool:
            assert pool.apply_async(in_a_fork, (x,)).get(timeout=20) == expected
    finally:
        torch.set_num_threads(1)


@pytest.mark.parametrize(("n", "rows"), [(8, 6), (8, 5), (7, 4), (5, 9), (20, 3)])
def test_rows_that_share_a_sequence_do_not_see_each_other(n, rows):
    torch.manual_seed(0)
    E = torch.ones(n, n).triu(1)
    net = GraphTransformer(nodes=n, operators=4, width=16, layers=2, heads=2, allowed=attention_mask("causal", E)).eval()
    for parameter in net.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    V, E, condition = torch.randn(rows, n, 4), E.expand(rows, n, n), torch.randn(1, 16)
    with torch.no_grad():
        together = net(V, E, None, condition)
        alone = torch.cat([net(V[k : k + 1], E[k : k + 1], None, condition) for k in range(rows)])
        repeated = net(V, E, None, condition.expand(rows, -1))
        masked = net(V, E, torch.ones(rows, n, dtype=torch.bool), condition)
    for other in (alone, repeated, masked):
        torch.testing.assert_close(together, other, atol=1e-4, rtol=1e-4)


def test_gelu_by_the_sigmoid_is_that_by_tanh():
    x = torch.linspace(-20, 20, 4001)
    with torch.no_grad():
        torch.testing.assert_close(GELU()(x), torch.nn.functional.gelu(x, approximate="tanh"), atol=1e-6, rtol=1e-5)
