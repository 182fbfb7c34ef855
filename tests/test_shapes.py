"""Arrays that are kept as they are: any range, any number of channels, any shape; and the networks that are built for them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from diffnag.datasets.images import ImageDataset, Images, fit_arrays, load_images
from diffnag.datasets.images.kept import as_channels_last, resampling, resize
from diffnag.errors import UserError
from diffnag.networks.build import seeded
from diffnag.networks.plan import Skeleton, plan_evaluation, plan_final
from diffnag.networks.stem import take_inputs
from diffnag.networks.training import as_input, channel_statistics
from diffnag.spaces.counting import measured_size
from diffnag.spaces.loading import load_space
from tests.image_sources import noted, npz, pixels, refused, splits

Y = np.arange(40) % 4
SPACES = ("nasbench201", "nasbench101", "darts", "mobilenetv3", "transnasbench101-micro", "transnasbench101-macro")


def floats(*shape: int, scale: float = 1.0, shift: float = 0.0) -> np.ndarray:
    return np.random.default_rng(0).normal(size=shape) * scale + shift


def arrays(*shape: int) -> ImageDataset:
    """A dataset of arrays `(n, h, w, c)`."""
    x = floats(40, *shape).astype(np.float32)
    part = Images(x, Y)
    return ImageDataset(
        name="arrays", classes=tuple("abcd"), train=part, val=part, test=part, channels=shape[2], size=max(shape[:2]),
        original_labels=(0, 1, 2, 3), given_test=False, notes=(), sha256="0" * 64,
    )  # fmt: skip


# -- what is read


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.float16, np.uint16, np.int16])
def test_values_are_kept_as_they_are(tmp_path: Path, dtype: type) -> None:
    x = floats(40, 12, 20, 28, scale=100, shift=2000).astype(dtype)
    data = load_images(npz(tmp_path / "x.npz", x_train=x, y_train=Y))
    assert data.inputs == (12, 20, 28) and data.size == 28 and data.channels == 12 and data.train.unit == 1
    noted(data, "Arrays of 12 channels, 28 x 20 pixels, were kept as they are.")
    wanted = {image.tobytes(): int(y) for image, y in zip(x.transpose(0, 2, 3, 1).astype(np.float32), Y, strict=True)}
    found = {image.tobytes(): int(y) for part in splits(data).values() for image, y in zip(part.x, part.y, strict=True)}
    assert found == wanted


@pytest.mark.parametrize(
    ("shape", "inputs"),
    [
        ((40, 12, 20, 28), (12, 20, 28)), ((40, 20, 28, 12), (12, 20, 28)), ((40, 2, 9, 9), (2, 9, 9)), ((40, 9, 9, 2), (2, 9, 9)),
        ((40, 3, 10, 12), (3, 10, 12)), ((40, 10, 12, 3), (3, 10, 12)), ((40, 10, 12, 1), (1, 10, 12)), ((40, 20, 28), (1, 20, 28)),
        ((40, 3, 100), (3, 1, 100)), ((40, 12, 100), (12, 1, 100)), ((40, 1, 7), (1, 1, 7)), ((40, 12, 1, 100), (12, 1, 100)),
        ((40, 100, 1, 1), (1, 1, 100)),
    ],
)  # fmt: skip
def test_each_layout(tmp_path: Path, shape: tuple[int, ...], inputs: tuple[int, int, int]) -> None:
    data = load_images(npz(tmp_path / "x.npz", x_train=floats(*shape), y_train=Y))
    assert data.inputs == inputs and data.train.x.dtype == np.float32
    noted(data, "Signals of" if inputs[1] == 1 else "Arrays of", "kept as they are")


def test_signals_keep_channels_and_order(tmp_path: Path) -> None:
    x = floats(40, 3, 100)
    three = load_images(npz(tmp_path / "a.npz", x_train=x, y_train=Y))
    four = load_images(npz(tmp_path / "b.npz", x_train=x[:, :, None], y_train=Y))
    assert three.sha256 == four.sha256
    found = {float(signal[0, 5, 1]) for part in splits(three).values() for signal in part.x}
    assert found == {float(value) for value in x[:, 1, 5].astype(np.float32)}


def test_square_photos_are_what_they_were(tmp_path: Path) -> None:
    data = load_images(npz(tmp_path / "x.npz", x_train=pixels(40, 8, 8), y_train=Y))
    assert data.inputs is None and data.train.x.dtype == np.uint8 and data.train.unit == 255 and data.looks is data.train
    flat = npz(tmp_path / "y.npz", x_train=pixels(40, 9, 12, 3), y_train=Y)
    assert load_images(flat).inputs == (3, 9, 12)
    assert load_images(flat, square=True).train.x.shape[1:] == (8, 8, 3)  # for networks that know photos


def test_a_size_resizes_in_proportion(tmp_path: Path) -> None:
    path = npz(tmp_path / "x.npz", x_train=floats(40, 5, 20, 40), y_train=Y)
    assert load_images(path, size=20).inputs == (5, 10, 20)
    large = npz(tmp_path / "y.npz", x_train=pixels(40, 50, 100, 3), y_train=Y)
    assert load_images(large).inputs == (3, 32, 64)  # bytes are photos, and too large to be trained on from scratch
    refused(npz(tmp_path / "z.npz", x_train=floats(40, 3, 100), y_train=Y), "signals of 3 channels and length 100, which keep", size=20)


def test_resampling_is_the_mean_of_what_is_covered() -> None:
    np.testing.assert_allclose(resampling(4, 2), [[0.5, 0.5, 0, 0], [0, 0, 0.5, 0.5]])
    np.testing.assert_allclose(resampling(3, 2), [[2 / 3, 1 / 3, 0], [0, 1 / 3, 2 / 3]])
    for length, side in ((5, 3), (3, 7), (4, 4)):
        np.testing.assert_allclose(resampling(length, side).sum(1), 1)
    x = floats(2, 4, 6, 3)
    np.testing.assert_allclose(resize(x, 2, 3), x.astype(np.float32).reshape(2, 2, 2, 3, 2, 3).mean((2, 4)), atol=1e-6)


@pytest.mark.parametrize(
    ("x", "parts"),
    [
        (floats(40, 5, 6, 7, 8), ["shape (40, 5, 6, 7, 8)", "(n, channels, length)"]),
        (floats(40, 64), ["shape (40, 64)"]),
        (floats(0, 5, 5), ["shape (0, 5, 5)"]),
        (np.where(floats(40, 5, 9, 9) > 3.9, np.nan, floats(40, 5, 9, 9)) * np.inf, ["NaN or infinite pixels in 40 images"]),
        (floats(40, 5, 9, 9) * 1e300, ["infinite pixels in"]),
    ],
)
def test_arrays_that_cannot_be_used(tmp_path: Path, x: np.ndarray, parts: list[str]) -> None:
    refused(npz(tmp_path / "x.npz", x_train=x, y_train=Y[: len(x)]), *parts)


def test_splits_must_agree(tmp_path: Path) -> None:
    x = floats(40, 5, 9, 9)
    refused(npz(tmp_path / "x.npz", x_train=x, y_train=Y, x_test=floats(8, 5, 9, 10), y_test=Y[:8]), "several shapes", "(9, 10, 5)")
    refused(npz(tmp_path / "x.npz", x_train=pixels(40, 9, 9), y_train=Y, x_test=floats(8, 9, 9), y_test=Y[:8]), "x_test", "one range")


def test_more_channels_than_any_sensor(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="2,000 channels"):
        as_channels_last("x", np.zeros((2, 2000, 9000)))


# -- what a model is given later


@pytest.mark.parametrize(("c", "h", "w"), [(12, 6, 8), (1, 6, 8), (12, 12, 12), (3, 1, 50), (1, 1, 50)])
def test_the_same_arrays_are_accepted_one_by_one(c: int, h: int, w: int) -> None:
    x = floats(5, c, h, w).astype(np.float32)
    wanted = x.transpose(0, 2, 3, 1)
    given = x[:, :, 0] if h == 1 else x
    for images in (given, list(given)):
        np.testing.assert_array_equal(fit_arrays(images, inputs=(c, h, w)), wanted)
    np.testing.assert_array_equal(fit_arrays(given[0], inputs=(c, h, w)), wanted[:1])
    if c == 1:
        plain = x[:, 0, 0] if h == 1 else x[:, 0]
        np.testing.assert_array_equal(fit_arrays(plain[0], inputs=(c, h, w)), wanted[:1])
        np.testing.assert_array_equal(fit_arrays(plain, inputs=(c, h, w)), wanted)
    elif h > 1 and c != h:
        np.testing.assert_array_equal(fit_arrays(x.transpose(0, 2, 3, 1), inputs=(c, h, w)), wanted)
    assert fit_arrays([], inputs=(c, h, w)).shape == (0, h, w, c)


def test_other_arrays_are_refused_later() -> None:
    for images, why in ((floats(3, 1, 49), "(channels, length) = (3, 50)"), (np.array(["a"]), "numbers"), (np.full((3, 50), np.nan), "NaN")):
        with pytest.raises(UserError) as caught:
            fit_arrays(images, inputs=(3, 1, 50))
        assert why in str(caught.value)


# -- statistics


def test_statistics_are_those_of_each_channel() -> None:
    x = floats(50, 6, 7, 5, scale=3e4, shift=1e6).astype(np.float32)
    x[..., 4] = 7
    mean, std = channel_statistics(x)
    np.testing.assert_allclose(mean, x.mean((0, 1, 2), dtype=np.float64), rtol=1e-6)
    np.testing.assert_allclose(std[:4], x[..., :4].std((0, 1, 2), dtype=np.float64), rtol=1e-6)
    assert std[4] == 1  # a constant channel is 0, and not infinite
    made = as_input(x, statistics=(mean, std))
    assert made.shape == (50, 5, 6, 7) and made[:, 4].abs().max() == 0
    torch.testing.assert_close(made[:, :4].std((0, 2, 3)), torch.ones(4), atol=1e-2, rtol=0)


def test_tiny_values_are_standardised_too() -> None:
    x = floats(50, 6, 7, 2, scale=1e-9).astype(np.float32)
    torch.testing.assert_close(as_input(x, statistics=channel_statistics(x)).std((0, 2, 3)), torch.ones(2), atol=1e-2, rtol=0)


# -- networks


@pytest.mark.parametrize("name", SPACES)
@pytest.mark.parametrize(("inputs", "stride"), [((12, 20, 28), 2), ((3, 1, 100), 4), ((1, 1, 2), 1), ((2, 9, 64), 4)])
def test_every_space_takes_every_shape(name: str, inputs: tuple[int, int, int], stride: int) -> None:
    space, rng = load_space(name), np.random.default_rng(0)
    skeleton = Skeleton(*space.skeletons[0], stride, inputs=inputs)
    for _ in range(3):
        arch = space.random(rng)
        with seeded(0):
            network = skeleton.build(arch, space, num_classes=5, image_size=max(inputs))
        logits = network(torch.randn(4, *inputs))
        assert logits.shape == (4, 5) and logits.isfinite().all()
        logits.sum().backward()
        assert skeleton.size(arch, space, num_classes=5, image_size=max(inputs)) == measured_size(network, image_size=0, inputs=inputs)


def test_a_network_for_three_square_channels_is_not_changed() -> None:
    space = load_space("nasbench201")
    arch = space.from_str(space.resnet_like)
    plain, arrays = Skeleton(8, 1), Skeleton(8, 1, inputs=(3, 8, 8))
    with seeded(0):
        one = plain.build(arch, space, num_classes=3, image_size=8).state_dict()
    with seeded(0):
        other = arrays.build(arch, space, num_classes=3, image_size=8).state_dict()
    assert all(torch.equal(one[key], other[key]) for key in one)
    assert plain.size(arch, space, num_classes=3, image_size=8) == arrays.size(arch, space, num_classes=3, image_size=8)


def test_no_pixel_is_skipped() -> None:
    network = nn.Sequential(nn.Conv2d(3, 4, 3, 7, padding=1), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    x = torch.zeros(1, 3, 28, 28, requires_grad=True)
    take_inputs(network, (3, 28, 28))(x).sum().backward()
    assert x.grad is not None and bool((x.grad != 0).all())


def test_a_signal_needs_the_middle_row_alone() -> None:
    """A network whose other layers lose the outer rows of their kernels computes what it did on images of one row."""
    with seeded(0):
        network = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.ReLU(), nn.Conv2d(4, 4, 5, 2, padding=4, dilation=2, groups=4))
    x, before = torch.randn(2, 3, 1, 30), sum(p.numel() for p in network.parameters())
    with torch.no_grad():
        expected = network(x)
        torch.testing.assert_close(take_inputs(network, (3, 1, 30))(x), expected)
    assert sum(p.numel() for p in network.parameters()) == before - 3 * 4 * 6 - 4 * 20


def test_a_network_without_a_stem_is_refused() -> None:
    with pytest.raises(UserError, match="no convolution of 3 channels"):
        take_inputs(nn.Sequential(nn.Flatten(), nn.Linear(10, 2)), (12, 8, 8))


@pytest.mark.parametrize("wrong", [(1, 2), (0, 8, 8), (3, 8, 8.0), (3, 8, 10**7)])
def test_inputs_are_checked(wrong: tuple[int, ...]) -> None:
    with pytest.raises(UserError, match="channels, height and width"):
        Skeleton(8, 1, inputs=wrong)  # type: ignore[arg-type]


def test_plans_follow_the_shape() -> None:
    space = load_space("nasbench201")
    flat = plan_evaluation(arrays(1, 1000, 3), space, seconds=0.01)
    assert not flat.skeleton.small and flat.skeleton.stem_stride == 8 and flat.skeleton.inputs == (3, 1, 1000)
    assert not flat.recipe.flip and flat.recipe.shift == 125
    assert plan_evaluation(arrays(20, 28, 12), space, seconds=0.01).skeleton == Skeleton(0, 0, small=True, inputs=(12, 20, 28))
    assert not plan_evaluation(arrays(8, 60, 12), space, seconds=0.01).skeleton.small
    final = plan_final(arrays(40, 80, 3), space, seconds=0.01)
    assert final.skeleton.stem_stride == 3 and final.recipe.flip and final.recipe.shift == 5
    assert final.to_json()["inputs"] == [3, 40, 80] and Skeleton(8, 1, inputs=[3, 20, 40]).inputs == (3, 20, 40)  # type: ignore[arg-type]


def test_predictors_see_arrays_as_photos() -> None:
    for shape in ((20, 28, 12), (1, 50, 3), (9, 9, 1)):
        looks = arrays(*shape).looks
        assert looks.x.dtype == np.uint8 and looks.x.shape[3] == 3 and min(looks.x.shape[1:3]) >= 8
        assert abs(looks.x.mean() - 127.5) < 3 and looks.x.std() > 30
