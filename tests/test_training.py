"""Training on images in memory: the parts in closed form, and the plan that says how much is trained."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from diffnag.datasets.images import ImageDataset, Images
from diffnag.networks import training
from diffnag.networks.build import seeded_build
from diffnag.networks.plan import LONG, MIX, Plan, Skeleton, plan_evaluation, plan_final
from diffnag.networks.targets import Classification
from diffnag.networks.training import (
    Diverged,
    Recipe,
    accuracy,
    all_finite,
    as_input,
    augment,
    channel_statistics,
    epochs,
    exchanged,
    one_cycle,
    train,
)
from diffnag.search_loop.finish.training import until_the_clock
from diffnag.search_spaces.nasbench201.space import NASBench201
from diffnag.spaces.counting import measured_size


def images(*, n: int = 60, classes: int = 3, size: int = 8, colour: bool = False, seed: int = 0) -> ImageDataset:
    """Classes that differ by where a bright stripe is; `n` images for training, a third as many for the other splits."""
    rng = np.random.default_rng(seed)

    def draw(count: int) -> Images:
        y = np.arange(count) % classes
        x = rng.integers(0, 120, (count, size, size, 3), dtype=np.uint8)
        x[..., 1:] = x[..., 1:] if colour else x[..., :1]
        for image, label in zip(x, y, strict=True):
            image[label * size // classes : label * size // classes + 2] = 250
        return Images(x, y.astype(np.int64))

    return ImageDataset(
        name="stripes", classes=tuple("abcdefghij"[:classes]), train=draw(n), val=draw(n // 3), test=draw(n // 3),
        channels=3 if colour else 1, size=size, original_labels=tuple(range(classes)), given_test=False, notes=(), sha256="0" * 64,
    )  # fmt: skip


def linear(seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Flatten(), nn.Linear(3 * 8 * 8, 3))


def test_standardised_by_the_set_or_by_given_statistics() -> None:
    x = images().train.x
    own = as_input(x)
    assert own.shape == (60, 3, 8, 8) and own.is_contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(own.mean((0, 2, 3)), torch.zeros(3), atol=1e-5, rtol=0)
    torch.testing.assert_close(own.std((0, 2, 3)), torch.ones(3), atol=1e-4, rtol=0)
    torch.testing.assert_close(as_input(x, statistics=channel_statistics(x)), own)
    shifted = as_input(x, statistics=(torch.full((3,), 10.0), torch.full((3,), 2.0)))
    torch.testing.assert_close(shifted[0, 0, 0, 0], torch.tensor((float(x[0, 0, 0, 0]) - 10) / 2))


def test_one_cycle_rises_then_falls() -> None:
    assert [one_cycle(p, 0.1) for p in (0.05, 0.1, 0.55, 1.0)] == pytest.approx([0.5, 1.0, 0.5, 0.0])


def test_augmentation_moves_and_mirrors() -> None:
    x = torch.arange(16.0).view(1, 1, 4, 4).expand(200, 3, 4, 4)
    moved = augment(x, shift=1, flip=False, generator=torch.Generator().manual_seed(0))
    assert {tuple(image[0, 1, 1:3].tolist()) for image in moved} == {
        (5.0 + r + c, 6.0 + r + c) for r in (-4, 0, 4) for c in (-1, 0, 1)
    }  # fmt: skip
    mirrored = augment(x, shift=0, flip=True, generator=torch.Generator().manual_seed(0))
    assert {tuple(image[0, 0].tolist()) for image in mirrored} == {(0.0, 1.0, 2.0, 3.0), (3.0, 2.0, 1.0, 0.0)}
    assert augment(x, shift=0, flip=False, generator=torch.Generator()) is x


def test_crops_keep_a_part_of_the_area_within_the_image() -> None:
    rows = torch.arange(32.0)[:, None].expand(32, 32)
    x = torch.stack([rows, rows.T, torch.zeros(32, 32)]).expand(500, 3, 32, 32)
    cropped = augment(x, shift=0, flip=False, crop=0.25, generator=torch.Generator().manual_seed(0))
    sides = torch.stack([cropped[:, 0].amax((1, 2)) - cropped[:, 0].amin((1, 2)), cropped[:, 1].amax((1, 2)) - cropped[:, 1].amin((1, 2))])
    share = ((sides + 1) / 32).prod(0)  # about: pixels of the edge are half outside
    assert cropped.shape == x.shape and cropped.min() >= 0 and cropped[:, :2].max() <= 31
    assert 0.2 < share.min() < 0.3 and 0.9 < share.max() <= 1 and (sides[0] / sides[1]).log().abs().max() < np.log(4 / 3) + 0.05
    same = augment(x, shift=0, flip=False, crop=1.0, generator=torch.Generator())
    assert same is x


def test_exchanged_rectangles_have_the_share_that_is_returned() -> None:
    x, generator = torch.arange(64.0).view(64, 1, 1, 1).expand(64, 3, 10, 16), torch.Generator().manual_seed(0)
    shares, heights = [], set()
    for _ in range(300):
        mixed, others, share = exchanged(x, generator=generator)
        foreign = mixed[:, 0] != x[:, 0]
        moved = others != torch.arange(64)
        assert sorted(others.tolist()) == [*range(64)] and not foreign[~moved].any()
        assert foreign[moved].float().mean((1, 2)).tolist() == pytest.approx([1 - share] * int(moved.sum()))
        assert (mixed[:, 0] == torch.where(foreign, others.view(64, 1, 1), x[:, 0])).all() and torch.equal(mixed[:, 0], mixed[:, 2])
        rows, columns = foreign[moved][0].any(1), foreign[moved][0].any(0)
        assert rows.sum() * columns.sum() == foreign[moved][0].sum()  # a rectangle, without holes
        shares.append(share)
        heights.add(int(rows.sum()))
    assert (x[:, 0, 0, 0] == torch.arange(64)).all() and heights == {*range(11)}
    assert 0.5 < np.mean(shares) < 0.72 and min(shares) < 0.1 and max(shares) > 0.99  # 1/2, and more where the edge cuts


def test_mixed_images_have_the_losses_of_both_labels(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[Tensor] = []

    class Watched(Classification):
        def loss(self, outputs: Tensor, y: Tensor, *, smoothing: float) -> Tensor:
            seen.append(y)
            return super().loss(outputs, y, smoothing=smoothing)

    monkeypatch.setattr(training, "exchanged", lambda x, *, generator: (x, torch.arange(len(x) - 1, -1, -1), 0.75))
    data = images()
    x, y = as_input(data.train.x), torch.from_numpy(data.train.y)
    losses = {}
    for mix in (0.0, 0.5, 1.0):
        seen.clear()
        train(linear(), x, y, Recipe(epochs=20, batch_size=20, mix=mix), generator=torch.Generator().manual_seed(0), target=Watched())
        losses[mix] = [*seen]
    assert len(losses[0.0]) == 60 and len(losses[1.0]) == 120 and 75 < len(losses[0.5]) < 105
    assert all(torch.equal(own, foreign.flip(0)) for own, foreign in zip(losses[1.0][::2], losses[1.0][1::2], strict=True))
    assert not torch.equal(losses[1.0][-2], losses[1.0][-1])


def test_a_training_ends_with_its_time_and_the_rate_falls_for_it(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter(np.arange(0, 1000, 1.0))
    monkeypatch.setattr(training.time, "perf_counter", lambda: next(clock))
    rates: list[float] = []
    monkeypatch.setattr(training, "one_cycle", lambda progress, warm_up: rates.append(progress) or one_cycle(progress, warm_up))
    data = images()
    x, y = as_input(data.train.x), torch.from_numpy(data.train.y)
    recipe, done = Recipe(epochs=100, batch_size=20), []
    train(
        linear(), x, y, recipe, generator=torch.Generator().manual_seed(0), seconds=20.0, on_epoch=lambda epoch, _: done.append(epoch)
    )  # fmt: skip
    assert rates == pytest.approx([0.05, 0.15, 0.25, 0.4, 0.5, 0.6, 0.75, 0.85, 0.95], abs=0.06)
    assert done == [1, 2, 3] or done == [1, 2, 3, 4]


def test_training_learns_the_same_twice_and_can_be_watched() -> None:
    data, recipe = images(), Recipe(epochs=6, batch_size=16, flip=False)
    x, y = as_input(data.train.x), torch.from_numpy(data.train.y)
    seen: list[int] = []
    first = train(linear(), x, y, recipe, generator=torch.Generator().manual_seed(1), on_epoch=lambda done, _: seen.append(done))
    assert seen == [1, 2, 3, 4, 5, 6] and not first.training
    statistics = channel_statistics(data.train.x)
    assert accuracy(first, as_input(data.val.x, statistics=statistics), torch.from_numpy(data.val.y)) > 90
    *_, second = epochs(linear(), x, y, recipe, generator=torch.Generator().manual_seed(1))
    assert all(torch.equal(a, b) for a, b in zip(first.parameters(), second.parameters(), strict=True))


def test_divergence_is_reported() -> None:
    data = images()
    with pytest.raises(Diverged, match="(the loss is (nan|inf)|there are weights that are not finite) after epoch"):
        train(linear(), as_input(data.train.x) * 1e20, torch.from_numpy(data.train.y), Recipe(epochs=3, learning_rate=1e20),
              generator=torch.Generator())  # fmt: skip


def test_weights_that_are_not_finite_are_a_divergence_even_if_the_loss_is_finite() -> None:
    data, model = images(), nn.Sequential(nn.BatchNorm2d(3), *linear())  # its variance overflows, its outputs do not
    with pytest.raises(Diverged, match="weights that are not finite after epoch 1"):
        train(model, as_input(data.train.x) * 1e25, torch.from_numpy(data.train.y), Recipe(epochs=1), generator=torch.Generator())
    assert all_finite(linear()) and not all_finite(model)


# -- seeded weights


def test_a_seeded_build_repeats_itself_and_leaves_the_global_generator_alone(space: NASBench201) -> None:
    arch, skeleton = space.from_str(space.resnet_like), Skeleton(channels=4, cells=1)
    before = torch.random.get_rng_state()
    first, same, other = (
        seeded_build(skeleton, arch, space, num_classes=3, image_size=8, seed=seed, device="cpu").state_dict() for seed in (5, 5, 6)
    )
    assert torch.equal(torch.random.get_rng_state(), before)
    torch.manual_seed(5)
    expected = space.build(arch, channels=4, cells=1, num_classes=3, stem_stride=1).state_dict()
    torch.random.set_rng_state(before)
    assert all(torch.equal(first[name], tensor) and torch.equal(same[name], tensor) for name, tensor in expected.items())
    assert any(not torch.equal(first[name], other[name]) for name in expected)


# -- the plan


@pytest.mark.parametrize("arch", ["resnet", "random"])
@pytest.mark.parametrize(("size", "stride"), [(8, 1), (28, 2), (27, 2), (30, 1), (64, 4)])
def test_size_in_closed_form_is_the_networks(arch: str, size: int, stride: int, space: NASBench201) -> None:
    cell = space.from_str(space.resnet_like) if arch == "resnet" else space.of_operations((3, 3, 2, 3, 1, 2))
    skeleton = Skeleton(channels=4, cells=2, stem_stride=stride)
    network = skeleton.build(cell, space, num_classes=5, image_size=size)
    assert measured_size(network, image_size=size) == skeleton.size(cell, space, num_classes=5, image_size=size)


def test_the_resnet_like_cell_uses_both_convolutions(space: NASBench201) -> None:
    assert space.canonical(space.from_str(space.resnet_like)) == "nor_conv_3x3(nor_conv_3x3(x))+x"


def test_more_time_never_trains_less() -> None:
    space = NASBench201()
    space.shipped = None
    data = images(n=600, classes=10, size=12, colour=True)
    plans = [plan_evaluation(data, space, seconds=seconds) for seconds in (0.1, 1, 4, 15, 60, 1000)]
    assert plans[0].skeleton.small and plans[0].recipe.epochs == 8 and plans[0].images == 600
    widths = [(plan.skeleton.channels, plan.skeleton.cells) for plan in plans]
    assert widths == sorted(widths) and widths[-1] == (32, 3)
    assert plans[-1].recipe.flip and not plan_evaluation(images(), space, seconds=4).recipe.flip
    finals = [plan_final(data, space, seconds=seconds) for seconds in (0.01, 45, 1000, 1e6)]
    assert finals[0].skeleton == Skeleton(8, 1) and finals[0].recipe.epochs == 3
    assert finals[-1].skeleton == Skeleton(64, 3) and {plan.images for plan in finals} == {800}
    assert finals[-1].recipe.epochs == 80 and all(40 <= plan.recipe.epochs <= 80 for plan in finals[1:])


def test_long_final_trainings_mix_photos_that_are_not_tiny(space: NASBench201) -> None:
    data = images(size=24, colour=True)
    assert plan_final(images(size=24), space, seconds=1e6).recipe.mix == 0
    assert plan_final(data, space, seconds=1e6).recipe.mix == MIX and plan_evaluation(data, space, seconds=1e6).recipe.mix == 0
    assert plan_final(images(size=23, colour=True), space, seconds=1e6).recipe.mix == 0
    assert [plan_final(data, space, seconds=1, epochs=n).recipe.mix for n in (LONG - 1, LONG)] == [0, MIX]
    numbers = dataclasses.replace(data, task="regression")
    assert plan_final(numbers, space, seconds=1e6).recipe.mix == 0
    recipe = plan_final(data, space, seconds=1e6).recipe
    assert [until_the_clock(recipe, fitting, most=200).mix for fitting in (LONG - 1, LONG, 100)] == [0, MIX, MIX]


def test_many_images_are_left_out_where_they_do_not_fit(space: NASBench201) -> None:
    data = images(n=6_000, classes=10, size=32)
    plan = plan_evaluation(data, space, seconds=4)
    assert plan.recipe.epochs == 8 and 1_000 <= plan.images < 6_000
    assert plan_final(data, space, seconds=4).skeleton.stem_stride == 2


def test_epochs_that_were_asked_for(space: NASBench201) -> None:
    plan = plan_evaluation(images(), space, seconds=4, epochs=2)
    assert plan.recipe.epochs == 2 and plan.rungs == (1, 2)
    assert [Plan(plan.skeleton, 60, dataclasses.replace(plan.recipe, epochs=n)).rungs for n in (1, 3, 10)] == [
        (1,), (1, 2, 3), (4, 7, 10)
    ]  # fmt: skip
