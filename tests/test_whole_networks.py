"""What generators learn of whole networks: crossed examples, and shapes; and how generated networks are measured."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch

from diffnag.arch import ArchBatch
from diffnag.errors import UserError
from diffnag.generators.loading import load_family, load_generator
from diffnag.generators.options import Training
from diffnag.generators.pointers.family import PointerFamily
from diffnag.generators.pointers.shapes import UNKNOWN, Shapes
from diffnag.generators.training import Crossing, training_set
from diffnag.networks import onnx_file
from diffnag.protocols import CrossesExamples, TracksShapes
from diffnag.search_spaces.network_zoo.crossing import joints
from diffnag.search_spaces.network_zoo.growth import random_growth
from diffnag.search_spaces.network_zoo.operators import INPUT, NAMES
from diffnag.search_spaces.network_zoo.space import NetworkZoo
from diffnag.search_spaces.shared.programs import neighbours_of
from diffnag.spaces.loading import load_space
from diffnag.spaces.split import CanonicalSplit
from experiments.large.figures import shares
from experiments.whole_networks import outcome

SPACE = NetworkZoo()
BLOCK = SPACE.from_str("conv3-act@0/conv1-x4-act@1/depthwise3@2/gate@3/conv1-d4@4/add@1,5/output@6")
TWICE = SPACE.from_str(
    "conv3-act@0/conv1-x4-act@1/depthwise3@2/gate@3/conv1-d4@4/add@1,5/conv1-x4-act@6/depthwise3@7/gate@8/conv1-d4@9/add@6,10/output@11"
)
STEM = SPACE.from_str("conv3-act@0/output@1")


# -- crossed networks


def test_joints_are_where_all_paths_meet() -> None:
    assert isinstance(SPACE, CrossesExamples)
    for arch, expected in ((BLOCK, [1, 6]), (TWICE, [1, 6, 11]), (STEM, [1])):
        assert joints(neighbours_of(len(arch.ops), arch.edges)[0]) == expected


def test_a_network_crossed_with_itself_repeats_a_part_or_leaves_it_out() -> None:
    assert {SPACE.crossed(BLOCK, BLOCK, np.random.default_rng(seed)) for seed in range(20)} == {TWICE, STEM}
    assert SPACE.crossed(STEM, STEM, np.random.default_rng(0)) == STEM, "no other pair of maps fits"


def test_crossed_networks_begin_as_one_and_end_as_the_other() -> None:
    rng, archs = np.random.default_rng(0), SPACE.examples()
    for _ in range(50):
        one, other = (archs[k] for k in rng.integers(len(archs), size=2))
        made = SPACE.crossed(one, other, rng)
        assert SPACE.decode(*SPACE.encode(made)) == (made, None)
        begun, ended = common(made.ops, one.ops), common(made.ops[::-1], other.ops[::-1])
        assert made == one or begun + ended >= len(made.ops)


def common(one: Sequence[int], other: Sequence[int]) -> int:
    """How many operators are equal at the beginning."""
    return next((k for k, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), min(len(one), len(other)))


def test_batches_are_crossed_alike_for_a_seed() -> None:
    data, archs = training_set(SPACE, CanonicalSplit(0.1))
    crossing = Crossing.of(SPACE, archs, Training(space="network-zoo", crossed=0.5), conditional=False)
    assert crossing is not None
    rows = list(range(16))
    batch = data[torch.tensor(rows)]
    one, two = (crossing(batch, rows, np.random.default_rng(3)) for _ in range(2))
    assert torch.equal(one.V, two.V) and torch.equal(one.E, two.E)
    changed = (one.V != batch.V).flatten(1).any(1) | (one.E != batch.E).flatten(1).any(1)
    assert 2 <= changed.sum() <= 14
    assert all(SPACE.decode(V, E).arch is not None for V, E in zip(one.V.numpy(), one.E.numpy(), strict=True))
    assert Crossing.of(SPACE, archs, Training(), conditional=False) is None


def test_what_cannot_be_crossed_is_refused() -> None:
    with pytest.raises(UserError, match="--crossed is for spaces that cross architectures, and 'nasbench201' does not; leave it out"):
        Crossing.of(load_space("nasbench201"), [], Training(crossed=0.5), conditional=False)
    with pytest.raises(UserError, match="--crossed is for families without conditions"):
        Crossing.of(SPACE, [BLOCK], Training(crossed=0.5), conditional=True)


# -- random networks


def test_random_networks_end_where_slots_run_out() -> None:
    """Nothing but a way to the output is drawn then: what else the masks allow may be too wide for a random network, over and over."""
    rng = np.random.default_rng(0)
    for _ in range(40):
        growth = random_growth(24, rng, most=24)
        assert growth.done and len(growth.ops) <= 24


# -- shapes


def test_shapes_are_those_behind_the_nodes() -> None:
    assert isinstance(SPACE, TracksShapes)
    seen = Shapes(SPACE, 8, 2)
    batch = ArchBatch.of([BLOCK, STEM], SPACE)
    found = seen.every(batch.V.argmax(2)[:, :8], batch.E[:, :8, :8])
    assert found[0].tolist() == [[0, 0], [16, 0], [64, 0], [64, 0], [64, 0], [16, 0], [16, 0], [16, 0]]
    assert found[1].tolist() == [[0, 0], [16, 0], [16, 0], *[[UNKNOWN, UNKNOWN]] * 5]


def test_what_takes_no_such_shape_has_none() -> None:
    seen = Shapes(SPACE, 8, 2)
    add, conv = map(NAMES.index, ("add", "conv3-act"))
    assert seen.behind(INPUT, []) == (0, 0)
    assert seen.behind(add, [(16, 1), (24, 1)]) == seen.behind(conv, [(UNKNOWN, UNKNOWN)]) == [UNKNOWN, UNKNOWN]
    shapes = torch.tensor([[[16, 1], [16, 1], [24, 2]]])
    assert seen.next(torch.tensor([add]), torch.tensor([[True, True, False]]), shapes).tolist() == [[16, 1]]


def test_networks_of_other_spaces_have_no_shapes() -> None:
    family, space = load_family("pointers"), load_space("tpu-tiles")
    assert family.build(space, family.Config(width=16, layers=1), seed=0).shapes is None


# -- figures


def test_the_shipped_network_draws_valid_and_new_networks() -> None:
    """Nothing is repaired. With a few unlikely choices left out hardly any draw breaks a rule."""
    generator = load_generator(SPACE)
    trained = {SPACE.canonical(arch) for arch in CanonicalSplit(0.5).training_archs(SPACE)}
    for least, valid in ((0.0, 0.87), (0.01, 0.92)):
        made = generator.sample(256, seed=0, sampling=PointerFamily.Sampling(least=least))
        found = shares(made.archs, 256, SPACE, trained)
        assert found["valid"] >= valid and found["valid_unique_novel"] >= 0.6 and found["novel"] >= 0.75


def test_shares() -> None:
    known = {SPACE.canonical(STEM)}
    found = shares([STEM, STEM, BLOCK], 4, SPACE, known)
    assert found == {"valid": 0.75, "unique": 0.5, "valid_unique_novel": 0.25, "novel": 0.5}
    assert np.isnan(shares([], 4, SPACE, known)["novel"])


def test_outcome_of_a_network() -> None:
    assert outcome(SPACE, BLOCK) == {"runs": True, "differentiable": True, "lowers_loss": True}


def test_large_logits_may_be_rounded_more(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A difference counts as a share of the largest logit where that is above 1."""

    def write(difference: float, largest: float) -> float:
        monkeypatch.setattr(onnx_file, "_difference", lambda *arguments, **options: (difference, largest))
        images = [torch.zeros(2, 3)]
        return onnx_file.write_onnx(tmp_path / "n.onnx", torch.nn.Linear(3, 2), images, name="images", axes={0: "batch"}, facts={})

    assert write(3e-4, 700.0) == 3e-4
    with pytest.raises(RuntimeError, match=r"differ from torch's by 0\.0003; accepted is 0\.0001"):
        write(3e-4, 0.5)
