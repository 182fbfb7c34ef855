"""The image encoder: its features, the shipped weights, and their training."""

from __future__ import annotations

import math
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from diffnag import train_image_encoder
from diffnag.command.running import run_command
from diffnag.datasets import encoder as module
from diffnag.datasets.encoder import FEATURES, KIND, LEARNED, PATH, STATISTICS, ImageEncoder, encode_images, image_statistics, to_pixels
from diffnag.errors import UserError
from diffnag.io.checkpoint import load_checkpoint
from diffnag.networks import training
from diffnag.train_image_encoder import altered, blurred, grey, noisy
from experiments.shared.random_features import random_conv_features
from tests.image_sources import coloured_classes


def images(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(256, size=shape, dtype=np.uint8)


# -- features


@pytest.mark.parametrize("shape", [(5, 4, 4), (5, 8, 8), (5, 1500, 1500), (5, 28, 28), (5, 16, 16, 3), (5, 33, 20, 3), (5, 10, 64, 3)])
def test_features_of_any_size_depend_on_the_image_alone(shape: tuple[int, ...], monkeypatch: pytest.MonkeyPatch) -> None:
    x = images(*shape)
    features = encode_images(x)
    assert features.shape == (5, FEATURES) == (5, 64) and features.dtype == torch.float32
    assert features.isfinite().all() and not features.requires_grad
    assert torch.equal(encode_images(x), features)
    torch.testing.assert_close(encode_images(x[[3, 0]]), features[[3, 0]], atol=1e-4, rtol=1e-4)
    monkeypatch.setattr(module, "_CHUNK", 2)
    torch.testing.assert_close(encode_images(x), features, atol=1e-4, rtol=1e-4)


def test_grey_is_rgb_of_equal_channels() -> None:
    x = images(4, 28, 28)
    torch.testing.assert_close(encode_images(np.stack([x] * 3, axis=-1)), encode_images(x))


def test_no_images_and_black_images() -> None:
    assert encode_images(images(0, 8, 8)).shape == (0, FEATURES)
    assert encode_images(np.zeros((2, 8, 8), dtype=np.uint8)).isfinite().all()


@pytest.mark.parametrize("x", [images(2, 3, 9), images(2, 8, 8, 1), images(8, 8), images(2, 8, 8).astype(np.float32)])
def test_other_arrays_are_refused(x: np.ndarray) -> None:
    with pytest.raises(UserError, match="accepted"):
        encode_images(x)


@pytest.mark.parametrize("side", [4, 7, 16, 28, 32, 50])
def test_resizing_keeps_constants_and_the_mean(side: int) -> None:
    constant = np.full((1, side, side), 51, dtype=np.uint8)
    torch.testing.assert_close(to_pixels(constant), torch.full((1, 3, 16, 16), 0.2))
    if side >= 16:
        x = images(3, side, side, 3)
        expected = torch.from_numpy(x / 255).float().mean((1, 2))
        torch.testing.assert_close(to_pixels(x).mean((2, 3)), expected)


def test_resizing_is_block_means_down_and_linear_up() -> None:
    x = images(2, 32, 48, 3)
    expected = x.reshape(2, 16, 2, 16, 3, 3).mean((2, 4)) / 255
    torch.testing.assert_close(to_pixels(x), torch.from_numpy(expected).float().permute(0, 3, 1, 2))
    small = images(2, 8, 5)
    up = torch.nn.functional.interpolate(torch.from_numpy(small / 255).float()[:, None], (16, 16), mode="bilinear", align_corners=False)
    torch.testing.assert_close(to_pixels(small), up.expand(-1, 3, -1, -1))


def test_statistics_in_closed_form() -> None:
    level = 1 / 255
    red = torch.zeros(1, 3, 16, 16)
    red[:, 0] = 1.0
    board = ((torch.arange(16)[:, None] + torch.arange(16)) % 2).float().expand(1, 3, 16, 16)
    ramp = (torch.arange(16) / 16).expand(16, 16).expand(1, 3, 16, 16)
    found = image_statistics(torch.cat([red, board, ramp])).double()
    floor = 2 * math.log(level)
    # the deviation of the channels 1, 0, 0 is sqrt(2)/3; within pairs of columns a ramp of step s loses s/2 each
    step, variance = 1 / 16, (16**2 - 1) / 12 / 16**2
    expected = [
        [1 / 3, 0, 1, 0.5, math.log(2**0.5 / 3 + level), floor, floor, 0],
        [0.5, 0.5, 0, 0, math.log(level), math.log(2 + level**2), floor, 0],
        [
            7.5 / 16, variance**0.5, 0, 0, math.log(level), math.log(step**2 + level**2), math.log(4 * step**2 + level**2),
            math.log((step**2 / 4 + level**2) / (variance + level**2)),
        ],
    ]  # fmt: skip
    torch.testing.assert_close(found, torch.tensor(expected, dtype=torch.float64), atol=1e-5, rtol=1e-5)
    assert found.shape[1] == len(STATISTICS) == FEATURES - LEARNED


def test_alterations() -> None:
    x, rng = images(300, 16, 16, 3), np.random.default_rng(0)
    assert (grey(x, rng) == grey(x, rng)[..., :1]).all()
    assert (blurred(x, rng)[:, ::2, ::2] == blurred(x, rng)[:, 1::2, 1::2]).all()
    flat = np.full((20, 16, 16, 3), 128, dtype=np.uint8)
    assert noisy(flat, rng).std() == pytest.approx(25, rel=0.03) and noisy(flat, rng, deviation=5).std() == pytest.approx(5, rel=0.03)
    changed = altered(x, np.random.default_rng(0))
    assert (changed != x).any((1, 2, 3)).sum() == 75
    assert altered(x[..., 0], np.random.default_rng(0)).shape == x.shape


# -- the shipped weights


def test_what_is_shipped() -> None:
    assert PATH.stat().st_size < 1_000_000
    _, meta = load_checkpoint(PATH, kind=KIND)
    assert meta["held_out"] == "label % 5 == 4" and meta["classes"] == 160
    assert meta["command"].startswith("python -m diffnag.train_image_encoder --images FOLDER")
    assert meta["validation_accuracy"] > 20
    assert len(meta["images_sha256"]) == 64 and meta["train_core_seconds"] < 900 and meta["seed"] == 0


def test_features_are_standardised_over_training_images(data_folder: Path) -> None:
    with np.load(data_folder / "images" / "tiny_imagenet16.npz") as arrays:
        x = arrays["x_train"][arrays["y_train"] % 5 != 4][::10]
    features = encode_images(x)
    torch.testing.assert_close(features.mean(0), torch.zeros(FEATURES), atol=0.07, rtol=0)
    torch.testing.assert_close(features.std(0), torch.ones(FEATURES), atol=0.07, rtol=0)


@pytest.fixture(scope="module")
def unseen(data_folder: Path) -> tuple[np.ndarray, np.ndarray]:
    """Test images of the held-out classes, (40 * 50, 16, 16, 3), and their labels."""
    with np.load(data_folder / "images" / "tiny_imagenet16.npz") as arrays:
        x, y = arrays["x_test"], arrays["y_test"]
    return x[y % 5 == 4], y[y % 5 == 4]


def test_new_classes_lie_further_apart_than_in_random_features(unseen: tuple[np.ndarray, np.ndarray]) -> None:
    x, y = unseen

    def five_shot(features: torch.Tensor) -> float:
        rng, right = np.random.default_rng(0), []
        for _ in range(60):
            ways = rng.choice(np.unique(y), 5, replace=False)
            drawn = np.stack([rng.choice(np.flatnonzero(y == way), 20, replace=False) for way in ways])
            distances = torch.cdist(features[drawn[:, 5:].ravel()], features[drawn[:, :5]].mean(1))
            right.append((distances.argmin(1) == torch.arange(5).repeat_interleave(15)).float().mean().item())
        return 100 * float(np.mean(right))

    assert five_shot(encode_images(x)) > five_shot(random_conv_features(x)) + 5


@pytest.mark.parametrize(
    ("alter", "statistic", "sign"),
    [(grey, "log colourfulness", -1), (blurred, "log share of the highest frequencies", -1), (noisy, "log gradient energy", 1)],
)
def test_features_tell_altered_images(alter: object, statistic: str, sign: int, unseen: tuple[np.ndarray, np.ndarray]) -> None:
    x = unseen[0][::4]
    assert callable(alter)
    gain = encode_images(alter(x, np.random.default_rng(0))) - encode_images(x)
    assert (sign * gain[:, LEARNED + STATISTICS.index(statistic)] > 0).float().mean() > 0.95


# -- the other encoder


def test_unknown_encoders_are_refused() -> None:
    with pytest.raises(UserError, match="unknown image encoder 'vgg'; there are: diffnag, torchvision:resnet18"):
        encode_images(images(1, 8, 8), encoder="vgg")


def test_an_encoder_that_is_not_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torchvision.models", None)
    module._resnet18.cache_clear()
    with pytest.raises(UserError, match="needs a torchvision that fits the installed torch"):
        encode_images(images(1, 8, 8), encoder="torchvision:resnet18")


class Tiny(torch.nn.Module):
    """Stands for ResNet-18: something with a last layer `fc`."""

    def __init__(self) -> None:
        super().__init__()
        self.fc = torch.nn.Linear(3 * 4, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.fc(torch.nn.functional.adaptive_avg_pool2d(x, 2).flatten(1))


def test_features_of_an_encoder_from_elsewhere(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    weights = SimpleNamespace(DEFAULT=SimpleNamespace(url="https://example.org/tiny.pth"))
    fakes = {"models": SimpleNamespace(ResNet18_Weights=weights, resnet18=Tiny),
             "transforms": SimpleNamespace(Normalize=lambda mean, std: torch.nn.Identity())}  # fmt: skip
    for name, fake in fakes.items():
        monkeypatch.setitem(sys.modules, f"torchvision.{name}", fake)
    monkeypatch.setitem(sys.modules, "torchvision", SimpleNamespace(**fakes))
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    module._resnet18.cache_clear()
    x = images(5, 20, 20, 3)
    with pytest.raises(UserError, match="download https://example.org/tiny.pth to"):
        encode_images(x, encoder="torchvision:resnet18")
    (tmp_path / "checkpoints").mkdir()
    torch.save(Tiny().state_dict(), tmp_path / "checkpoints" / "tiny.pth")
    features = encode_images(x, encoder="torchvision:resnet18")
    assert features.shape == (5, FEATURES) and not features.requires_grad
    torch.testing.assert_close(features.mean(1), torch.zeros(5), atol=1e-5, rtol=0)
    torch.testing.assert_close(encode_images(x[2:3], encoder="torchvision:resnet18"), features[2:3], atol=1e-4, rtol=1e-4)
    module._resnet18.cache_clear()


# -- training


def write_images(folder: Path, *, classes: int = 6, side: int = 16, held_out_seed: int = 1) -> None:
    folder.mkdir(exist_ok=True)
    coloured_classes(folder / "tiny_imagenet16.npz", classes=classes, n=20, side=side, held_out_seed=held_out_seed)


def run_main(monkeypatch: pytest.MonkeyPatch, *arguments: object) -> None:
    monkeypatch.setattr("sys.argv", ["train_image_encoder", *map(str, arguments)])
    run_command(train_image_encoder.main)


def test_training_from_the_command_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The same command gives the same weights, whatever the images of the held-out class are."""
    state = torch.get_rng_state()
    for name, held_out_seed in (("a", 1), ("b", 2)):
        write_images(tmp_path / name, held_out_seed=held_out_seed)
        run_main(monkeypatch, "--images", tmp_path / name, "--out", tmp_path / name / "out.safetensors", "--epochs", 2)
    said = capsys.readouterr()
    assert "epoch 1/2  validation" in said.err and " left" in said.err and "epoch 2/2  validation" in said.err
    assert f"wrote {tmp_path / 'b' / 'out.safetensors'}" in said.out and "over 5 classes" in said.out
    assert torch.equal(torch.get_rng_state(), state)
    (a, meta), (b, _) = (load_checkpoint(tmp_path / name / "out.safetensors", kind=KIND) for name in "ab")
    assert all(torch.equal(a[key], b[key]) for key in a)
    assert meta["classes"] == 5 and meta["training_images"] == 100 and meta["recipe"]["epochs"] == 2
    assert str(tmp_path) not in meta["command"]

    with np.load(tmp_path / "a" / "tiny_imagenet16.npz") as arrays:
        x = arrays["x_train"][arrays["y_train"] != 4]
    features = ImageEncoder.load(tmp_path / "a" / "out.safetensors").encode(x)
    torch.testing.assert_close(features.mean(0), torch.zeros(FEATURES), atol=1e-3, rtol=0)


def test_an_interrupted_training_leaves_the_old_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    write_images(tmp_path)
    out = tmp_path / "out.safetensors"
    out.write_bytes(b"old")

    def interrupt(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(training, "augment", interrupt)
    with pytest.raises(SystemExit) as exit_:
        run_main(monkeypatch, "--images", tmp_path, "--out", out, "--epochs", 3)
    assert exit_.value.code == 130
    assert "stopped after epoch 0 of 3; nothing was written" in capsys.readouterr().err
    assert out.read_bytes() == b"old"


def test_mistakes_are_one_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def said(folder: Path, out: Path = tmp_path / "out.safetensors") -> str:
        with pytest.raises(SystemExit) as exit_:
            run_main(monkeypatch, "--images", folder, "--out", out, "--epochs", 1)
        assert exit_.value.code == 2
        return capsys.readouterr().err

    file = tmp_path / "tiny_imagenet16.npz"
    assert f"there is no file {file}; --images names a folder" in said(tmp_path)
    file.write_bytes(b"no zip")
    assert f"{file} is no .npz file with x_train, y_train, x_test and y_test" in said(tmp_path)
    np.savez(file, x_train=np.array([object()], dtype=object), y_train=[0], x_test=[0], y_test=[0], allow_pickle=True)
    assert f"{file} is no .npz file" in said(tmp_path)
    write_images(tmp_path, side=20)
    assert "images of 20 x 20 pixels; accepted is 16 x 16" in said(tmp_path)
    write_images(tmp_path, classes=1)
    assert "has 1 classes outside label % 5 == 4; at least 2 are needed" in said(tmp_path)
    np.savez(file, x_train=images(4, 16, 16), y_train=np.arange(3), x_test=images(2, 16, 16), y_test=np.arange(2))
    assert "has 4 images in x_train and int64 labels of shape (3,) in y_train" in said(tmp_path)
    write_images(tmp_path)
    assert "cannot write" in said(tmp_path, out=tmp_path)
