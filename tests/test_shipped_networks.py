"""The score networks in the package: small, recorded with how they were made, and good. Figures are in experiments/generation_quality.py."""

from __future__ import annotations

import json

import numpy as np
import pytest

from diffnag.generators.diffusion.denoiser import load_denoiser
from diffnag.generators.diffusion.generator import Generator
from diffnag.generators.diffusion.options import Config
from diffnag.generators.loading import load_family
from diffnag.generators.metrics import GraphStatistics
from diffnag.generators.network import KIND, shipped_network
from diffnag.generators.options import Training
from diffnag.generators.recipes import RECIPES, shipped_recipe
from diffnag.io.checkpoint import load_checkpoint
from diffnag.spaces.loading import load_space

UNIQUE = {
    "nasbench201": 0.95, "transnasbench101-micro": 0.92, "transnasbench101-macro": 0.91,
    "nasbench101": 0.99, "mobilenetv3": 0.995, "efficientnet-lite": 0.995, "darts": 0.995, "gpt-s": 0.995, "gpt-m": 0.995, "gpt-l": 0.995,
}  # fmt: skip
"""Least share of distinct ones among 256 samples; in the small spaces not even random draws are all distinct."""


@pytest.mark.parametrize("name", UNIQUE)
def test_it_is_small_and_says_how_it_was_made(name):
    path = shipped_network(name, "sde")
    _, meta = load_checkpoint(path, kind=KIND)
    assert path.stat().st_size < 2e6
    assert meta["command"].startswith("python -m diffnag.train_score ") and f"--space {name} --recipe shipped" in meta["command"]
    assert meta["training"]["seed"] == 0 and meta["figures_1024_samples"]["validity"] >= 0.99
    recipe = shipped_recipe(name, "sde")
    assert Config(**recipe["config"]) == Config(**meta["config"]) and recipe["out"] == path
    assert Training(**recipe["training"]) == Training(space=name, split=meta["split"], **meta["training"])


@pytest.mark.parametrize(("name", "family"), [
    (name, family) for name, families in json.loads(RECIPES.read_text()).items() for family in families if family != "sde"
])  # fmt: skip
def test_other_families_are_small_and_say_how_they_were_made(name, family):
    path, recipe, config = shipped_network(name, family), shipped_recipe(name, family), load_family(family).Config
    _, meta = load_checkpoint(path, kind=KIND)
    assert path.stat().st_size < 2e6 and recipe["out"] == path
    assert meta["command"].startswith("python -m diffnag.train_score ") and "--recipe shipped" in meta["command"]
    assert config(**recipe["config"]) == config(**meta["config"])
    assert meta["figures_1024_samples"]["validity"] >= (0.7 if path.stem == "adversarial" else 0.9), "adversarial is a baseline"
    assert Training(**recipe["training"]) == Training(space=name, split=meta["split"], **meta["training"])


@pytest.mark.parametrize("name", UNIQUE)
def test_its_samples_are_valid_distinct_and_as_in_the_space(name):
    """Raw, by the paper's rule. Graphs are compared with the space by what a random sample of the same size is off."""
    space = load_space(name)
    made = Generator(space, load_denoiser(space)).sample(256, seed=0)
    assert len(made.archs) >= 0.98 * 256 and len(set(made.archs)) >= UNIQUE[name] * len(made.archs)
    rng = np.random.default_rng(0)
    whole, *same_size = (GraphStatistics.of([space.random(rng) for _ in range(n)], space) for n in (4096, *[256] * 5))
    floor = [sample.distances(whole) for sample in same_size]
    for key, value in GraphStatistics.of(made.archs, space).distances(whole).items():
        assert value <= 3 * np.mean([other[key] for other in floor]) + 1e-9, key
