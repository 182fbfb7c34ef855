"""Letters drawn with fonts."""

from __future__ import annotations

from string import ascii_letters

import numpy as np
import pytest

from diffnag.datasets.letters import OF_EACH, letter_images


@pytest.fixture(scope="module")
def letters() -> tuple[np.ndarray, np.ndarray]:
    return letter_images(16)


@pytest.mark.timeout(120)
def test_letters_are_always_the_same_and_differ_within_a_class(letters: tuple[np.ndarray, np.ndarray]) -> None:
    x, y = letters
    assert x.shape == (52 * OF_EACH, 16, 16) and x.dtype == np.uint8 and np.bincount(y).tolist() == [OF_EACH] * 52
    assert (letter_images(16)[0] == x).all()
    assert len(np.unique(x[y == 0], axis=0)) > 0.95 * OF_EACH


def test_letters_can_be_told_apart(letters: tuple[np.ndarray, np.ndarray]) -> None:
    """Classify A, D, K, S and W by the nearest other image."""
    x, y = letters
    chosen = np.isin(y, [ascii_letters.index(letter) for letter in "ADKSW"])
    x, y = x[chosen].reshape(chosen.sum(), -1).astype(float), y[chosen]
    squares = (x**2).sum(1)
    apart = squares[:, None] + squares - 2 * x @ x.T
    np.fill_diagonal(apart, np.inf)
    assert (y[apart.argmin(1)] == y).mean() > 0.9
