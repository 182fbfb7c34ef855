"""Measures the image features on classes and sources that the encoder has never seen.

    python -m experiments.encoder_quality [--episodes 500]

`few_shot`: 5-way 5-shot classification by the nearest class mean (Snell et al., 2017, without learning), with the same episodes for all
kinds of features.
`probes`: a linear classifier separates unchanged images from blurred, noisy or grey images of the same classes.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from experiments.shared.common import begin, parser
from experiments.shared.results import made_by, write_result

WAYS, SHOTS, QUERIES = 5, 5, 15
PROBE_TRAIN, PROBE_TEST = 4000, 2000
SOURCES = {"tiny_imagenet16": True, "cifar100_16": True, "cifar10": False, "mnist": False, "fashion_mnist": False}
"""File -> True if only its classes with `label % 5 == 4` are held out, False if all are."""
Features = dict[str, Callable[[np.ndarray], np.ndarray]]


def main() -> None:
    options = parser(__doc__)
    options.add_argument("--episodes", type=int, default=500)
    episodes = options.parse_args().episodes
    folder = begin() / "images"
    from diffnag.datasets.encoder import KIND, PATH
    from diffnag.io.checkpoint import checksum, load_checkpoint

    _, meta = load_checkpoint(PATH, kind=KIND)
    few_shot = {}
    for file in SOURCES:
        images, labels = _held_out(folder, file)
        few_shot[file] = _few_shot(images, labels, _features(), episodes)
        print(file, {name: few_shot[file][name] for name in _features()}, flush=True)
    probes = _probes(_held_out(folder, "tiny_imagenet16")[0], _features())
    content = {
        "made_by": made_by(),
        "encoder": {"sha256": checksum(PATH), **meta},
        "few_shot": {"ways": WAYS, "shots": SHOTS, "queries": QUERIES, "episodes": episodes, "accuracy": few_shot},
        "probes": {"images": PROBE_TRAIN, "test_images": PROBE_TEST, "accuracy": probes},
        "encode_ms_an_image": _speed(),
    }
    write_result("encoder_quality", content)


def _features() -> Features:
    """Name -> function from uint8 images `(b, h, w[, 3])` to features `(b, k)`."""
    from diffnag.datasets.encoder import LEARNED, encode_images, to_pixels
    from experiments.shared.random_features import random_conv_features

    return {
        "encoder": lambda images: encode_images(images).numpy(),
        "encoder, learned features only": lambda images: encode_images(images)[:, :LEARNED].numpy(),
        "encoder, statistics only": lambda images: encode_images(images)[:, LEARNED:].numpy(),
        "random convolutions": lambda images: random_conv_features(images).numpy(),
        "pixels at 16 x 16": lambda images: to_pixels(images).flatten(1).numpy(),
    }


def _held_out(folder: Path, file: str) -> tuple[np.ndarray, np.ndarray]:
    """Images and labels of the held-out classes of a file."""
    with np.load(folder / f"{file}.npz") as arrays:
        images, labels = arrays["x_train"], arrays["y_train"]
    chosen = labels % 5 == 4 if SOURCES[file] else np.ones(len(labels), dtype=bool)
    return images[chosen], labels[chosen]


def _few_shot(images: np.ndarray, labels: np.ndarray, features: Features, episodes: int) -> dict[str, Any]:
    """Accuracy in % of each kind of features with half the width of its 95 % interval, and the paired gain over random convolutions."""
    encoded = {name: encode(images) for name, encode in features.items()}
    members = [np.flatnonzero(labels == label) for label in np.unique(labels)]
    right = {name: np.empty(episodes) for name in features}
    for k in range(episodes):
        rng = np.random.default_rng(k)
        ways = rng.choice(len(members), WAYS, replace=False)
        drawn = np.stack([rng.choice(members[way], SHOTS + QUERIES, replace=False) for way in ways])
        for name, x in encoded.items():
            means = x[drawn[:, :SHOTS]].mean(1)
            distances = np.square(x[drawn[:, SHOTS:], None] - means).sum(3)  # (ways, queries, ways)
            right[name][k] = 100 * (distances.argmin(2) == np.arange(WAYS)[:, None]).mean()
    found: dict[str, Any] = {name: _mean(values) for name, values in right.items()}
    return {**found, "encoder - random convolutions": _mean(right["encoder"] - right["random convolutions"])}


def _mean(values: np.ndarray) -> dict[str, float]:
    return {"mean": round(float(values.mean()), 2), "ci95": round(float(1.96 * values.std(ddof=1) / len(values) ** 0.5), 2)}


def _probes(images: np.ndarray, features: Features) -> dict[str, dict[str, float]]:
    """Test accuracy in % of logistic regression on unchanged and altered images, half of each; chance is 50 %."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    from diffnag.train_image_encoder import blurred, grey, noisy

    changes: dict[str, Callable[..., np.ndarray]] = {
        "blurred, 2 x 2 means": blurred,
        "blurred, binomial filter": _binomial,
        "noisy, 25 levels": noisy,
        "noisy, 10 levels": partial(noisy, deviation=10),
        "grey": grey,
    }
    found: dict[str, dict[str, float]] = {}
    for change, alter in changes.items():
        rng = np.random.default_rng(0)
        chosen = images[rng.choice(len(images), PROBE_TRAIN + PROBE_TEST, replace=False)]
        truth = np.arange(len(chosen)) % 2
        chosen[truth == 1] = alter(chosen[truth == 1], rng)
        found[change] = {}
        for name, encode in features.items():
            x = encode(chosen)
            probe = make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000))
            probe.fit(x[:PROBE_TRAIN], truth[:PROBE_TRAIN])
            found[change][name] = round(100 * float(probe.score(x[PROBE_TRAIN:], truth[PROBE_TRAIN:])), 2)
        print(change, found[change], flush=True)
    return found


def _binomial(images: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Images filtered by (1, 2, 1) / 4 along rows and columns."""
    x = images.astype(np.float64)
    for axis in (1, 2):
        pad = [(1, 1) if k == axis else (0, 0) for k in range(4)]
        padded = np.pad(x, pad, mode="edge")
        before, after = (np.take(padded, range(start, start + x.shape[axis]), axis) for start in (0, 2))
        x = (before + 2 * x + after) / 4
    return x.round().astype(np.uint8)


def _speed() -> float:
    """Milliseconds per image: median of 5 runs over 1,024 images of 32 x 32 pixels."""
    from diffnag.datasets.encoder import encode_images

    images = np.random.default_rng(0).integers(256, size=(1024, 32, 32, 3), dtype=np.uint8)
    seconds = []
    for _ in range(5):
        start = time.perf_counter()
        encode_images(images)
        seconds.append(time.perf_counter() - start)
    return round(1000 * float(np.median(seconds)) / len(images), 4)


if __name__ == "__main__":
    main()
