"""Training-free proxies: closed forms on small networks, all spaces, the reference table, adaptation to labels."""

from __future__ import annotations

import csv
import gzip
import json
import math
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.stats import spearmanr
from torch import Tensor, nn
from torch.nn import functional

from diffnag import generate
from diffnag.command.running import run_command
from diffnag.datasets.tasks import Task
from diffnag.errors import UserError
from diffnag.guidance.checked import load_predictor
from diffnag.plugins import load_class, names
from diffnag.predictors.proxies.predictor import LOWEST, PRIOR_STD, NaswotPredictor, ParamsPredictor, ProxyPredictor, SynflowPredictor
from diffnag.predictors.proxies.scores import naswot, synflow, zen
from diffnag.protocols import Predictor, SearchSpace, TakesTokens, WithoutNetworks
from diffnag.search_spaces.nasbench201.space import NASBench201
from diffnag.spaces.counting import measured_size
from diffnag.spaces.loading import load_space
from diffnag.testing import PredictorContract, draws

PROXIES = ("naswot", "synflow", "zen", "params", "flops")
MEASURED = PROXIES[:3]


def proxy(name: str, space: SearchSpace, dataset: str = "cifar10", *, seed: int = 0) -> ProxyPredictor:
    plugin: ProxyPredictor = load_class("predictor", name)()
    plugin.setup(space=space, task=Task.of(dataset, space), seed=seed)
    return plugin


class TestContract(PredictorContract):
    """The contract for the fastest proxy; apart from the score all proxies share their code."""

    @pytest.fixture
    def predictor_class(self) -> type[Predictor]:
        return ParamsPredictor


# -- closed forms


class Calls(nn.Module):
    """A network that calls a function."""

    def __init__(self, function: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: Tensor) -> Tensor:
        return self.function(x)


@pytest.mark.parametrize(
    "activation", [nn.ReLU(), nn.ReLU(inplace=True), nn.Hardswish(), nn.GELU(), *map(Calls, (torch.relu, functional.relu_, Tensor.relu))]
)
def test_naswot_counts_common_activations(activation: nn.Module) -> None:
    images = torch.tensor([[1.0, 1, 1, -1], [1, 1, -1, 1], [-1, -1, -1, 1]]).reshape(3, 1, 2, 2)
    common = np.array([[4, 2, 0], [2, 4, 2], [0, 2, 4]])
    assert naswot(nn.Sequential(activation, nn.Identity()), images.clone()) == pytest.approx(np.linalg.slogdet(common + np.eye(3))[1])
    twice = nn.Sequential(nn.ReLU(), Calls(lambda x: x - 0.5), activation)  # both layers distinguish the same images
    assert naswot(twice, images.clone()) == pytest.approx(np.linalg.slogdet(2 * common + np.eye(3))[1])


def test_naswot_of_images_with_equal_activations_is_finite() -> None:
    same = naswot(nn.ReLU(), torch.ones(3, 1, 2, 2))
    assert same == pytest.approx(math.log(np.linalg.det(np.full((3, 3), 4) + np.eye(3))))
    assert naswot(nn.Identity(), torch.ones(3, 1, 2, 2)) == 0.0


def test_synflow_is_conserved_from_layer_to_layer() -> None:
    """Each layer of a chain passes all of R on; normalisation and bias do not change it."""
    torch.manual_seed(0)
    first, second, third = nn.Conv2d(3, 5, 1, bias=False), nn.Conv2d(5, 4, 1, bias=False), nn.Linear(4, 2, bias=False)
    norm = nn.BatchNorm2d(5)
    nn.init.constant_(norm.weight, 7.0)
    network = nn.Sequential(first, norm, nn.ReLU(), second, nn.AdaptiveAvgPool2d(1), nn.Flatten(), third)
    flow = torch.ones(3, dtype=torch.float64)
    for layer in (first, second, third):
        flow = layer.weight.detach().double().abs().flatten(1) @ flow
    assert synflow(network, image_size=4) == pytest.approx(math.log(3 * float(flow.sum())), abs=1e-4)  # 1e-5 of the norm's eps


def test_synflow_has_room_for_many_layers() -> None:
    deep = nn.Sequential(*(nn.Conv2d(3, 3, 1, bias=False) for _ in range(100)), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    for layer in list(deep)[:100]:
        nn.init.constant_(layer.weight, 100.0)
    assert synflow(deep, image_size=2) == pytest.approx(math.log(3 * 100) + 100 * math.log(300), rel=1e-6)


def test_zen_is_the_response_without_the_effect_of_normalisation() -> None:
    def score(*layers: nn.Module) -> float:
        return zen(nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1)), batch=64, image_size=8, generator=torch.Generator().manual_seed(0))

    conv = nn.Conv2d(3, 1, 1, bias=False)
    plain = score(conv)
    assert plain == pytest.approx(math.log(0.01 * float(conv.weight.detach().norm()) * 8), abs=0.02)  # of 64 normal pixels
    assert score(conv, nn.BatchNorm2d(1)) == pytest.approx(plain, abs=0.01)
    norm = nn.BatchNorm2d(1)
    nn.init.constant_(norm.weight, 5.0)  # is reset
    assert score(conv, norm, nn.BatchNorm2d(1)) == pytest.approx(plain, abs=0.01)
    assert score(conv, nn.ReLU()) < plain - 0.2


def test_dropout_does_not_change_scores() -> None:
    images = torch.randn(6, 3, 4, 4, generator=torch.Generator().manual_seed(0))
    assert naswot(nn.Sequential(nn.Dropout(0.9), nn.ReLU()), images) == naswot(nn.ReLU(), images)
    plain, dropped = (
        zen(nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1)), batch=4, image_size=4, generator=torch.Generator().manual_seed(0))
        for layers in ([nn.ReLU()], [nn.Dropout(0.9), nn.ReLU()])
    )
    assert plain == dropped


def test_zen_looks_before_the_last_pooling() -> None:
    """A squeeze before it changes nothing; for a network without pooling the output counts."""
    generator = torch.Generator()
    conv = nn.Conv2d(3, 2, 1, bias=False)
    scores = [
        zen(nn.Sequential(*layers), batch=16, image_size=8, generator=generator.manual_seed(0))
        for layers in (
            [conv, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(2, 4, bias=False)],
            [conv, Calls(lambda x: x + 0 * x.mean((2, 3), keepdim=True)), Calls(lambda x: x.mean((2, 3)))],
            [conv],
        )
    ]
    assert scores[1] == pytest.approx(scores[2], abs=1e-4)
    assert scores[0] != pytest.approx(scores[2], abs=1e-4)  # x is drawn after the weights, and this network has more of them
    assert abs(scores[0] - scores[2]) < 0.2


# -- spaces


@pytest.mark.parametrize("space_name", [name for name in names("space") if not isinstance(load_space(name), WithoutNetworks)])
def test_all_spaces_have_all_proxies(space_name: str) -> None:
    """Where networks take tokens there are those that only count."""
    space = load_space(space_name)
    archs = draws(space, 6)
    for name in ("params", "flops") if isinstance(space, TakesTokens) else PROXIES:
        before = torch.random.get_rng_state()
        scores = proxy(name, space).scores(archs)
        assert np.isfinite(scores).all() and len(set(scores)) > 3
        assert np.array_equal(proxy(name, space).scores(archs[::-1])[::-1], scores), "whatever was asked before"
        assert torch.equal(torch.random.get_rng_state(), before)


def test_sizes_are_those_of_the_built_network(space: NASBench201) -> None:
    for operations in ((3, 2, 3, 1, 4, 2), (2, 3, 1, 4, 2, 3)):  # in other cells the benchmark counts dead connections as well
        arch = space.of_operations(operations)
        size = measured_size(space.build(arch, num_classes=100), image_size=32)
        assert proxy("params", space, "cifar100").scores([arch])[0] == pytest.approx(math.log(size.params))
        assert proxy("flops", space, "cifar100").scores([arch])[0] == pytest.approx(math.log(size.flops))


@pytest.mark.parametrize("name", PROXIES)
def test_a_dead_cell_is_last(name: str, space: NASBench201) -> None:
    archs = [space.of_operations((0,) * 6), *draws(space, 30)]
    predictor = proxy(name, space)
    alive = [score for arch, score in zip(archs, predictor.scores(archs), strict=True) if space.canonical(arch) != "0"]
    assert np.isfinite(predictor.scores(archs[:1])).all() and predictor.scores(archs[:1])[0] <= min(alive)
    assert predictor.predict(archs)[0].min() >= LOWEST


def test_own_images_are_used(space: NASBench201) -> None:
    archs = draws(space, 5)
    assert not np.allclose(proxy("naswot", space, "digits").scores(archs), proxy("naswot", space).scores(archs))
    digits, elsewhere = proxy("flops", space, "digits").scores(archs), proxy("flops", space, "elsewhere").scores(archs)
    assert (digits < elsewhere).all()  # 8 pixels a side, not 32
    with pytest.raises(UserError, match="nowhere.npz does not exist"):
        proxy("naswot", space, "nowhere.npz")


def test_the_seed_draws_weights_and_noise(space: NASBench201) -> None:
    archs = draws(space, 5)
    for name in MEASURED:
        assert not np.array_equal(proxy(name, space, seed=1).scores(archs), proxy(name, space).scores(archs))


def test_images_that_a_network_cannot_take_are_refused(space: NASBench201) -> None:
    class Large(NASBench201):
        def build_small(self, arch: object, *, num_classes: int, image_size: int) -> nn.Module:
            return nn.Sequential(nn.Conv2d(3, 8, 20), nn.Flatten())

    for name in MEASURED:
        predictor = load_predictor(name, space=Large(), dataset="cifar10", seed=0)
        with pytest.raises(UserError, match=rf"'{name}'.* the network of \|.* cannot take images of 16 pixels a side: Calculated padded"):
            predictor.predict(draws(space, 1))


# -- quality


@pytest.fixture(scope="module")
def rows(data_folder: Path) -> list[dict[str, str]]:
    with gzip.open(data_folder / "nas_bench_201.csv.gz", "rt") as file:
        table = list(csv.DictReader(file))
    return [table[i] for i in np.random.default_rng(0).choice(len(table), 80, replace=False)]


@pytest.mark.parametrize(
    ("name", "with_table", "with_accuracy"), [("naswot", 0.8, 0.55), ("synflow", 0.95, 0.65), ("zen", 0.5, 0.65), ("params", 0.999, 0.6)]
)
def test_they_rank_as_the_benchmark_does(
    name: str, with_table: float, with_accuracy: float, space: NASBench201, rows: list[dict[str, str]]
) -> None:
    scores = proxy(name, space).scores([space.from_str(row["arch_str"]) for row in rows])
    column = {"params": "cifar10_params_m"}.get(name, f"cifar10_{name}")
    assert spearmanr(scores, [float(row[column]) for row in rows]).statistic > with_table
    assert spearmanr(scores, [float(row["cifar10_test_200"]) for row in rows]).statistic > with_accuracy


def test_labels_correct_or_reject_a_score(space: NASBench201) -> None:
    archs = draws(space, 90)
    predictor = load_predictor("params", space=space, dataset="cifar10", seed=0)
    assert predictor.knows_something and predictor.labels_source == {}
    before, std = predictor.predict(archs)
    assert (std == PRIOR_STD).all() and abs(np.median(before)) < 0.3
    for y in (80 + 5 * np.tanh(before), 80 - 5 * np.tanh(before)):
        predictor.fit(archs[:40], y[:40])
        mean, _ = predictor.predict(archs[40:])
        assert spearmanr(mean, y[40:]).statistic > 0.9 and 74 < mean.min() < mean.max() < 86


def test_each_architecture_is_measured_once(space: NASBench201, monkeypatch: pytest.MonkeyPatch) -> None:
    measured = []
    monkeypatch.setattr(SynflowPredictor, "_score_of", lambda self, network, images: measured.append(0) or 1.0)
    predictor = proxy("synflow", space)
    archs = draws(space, 20)
    for _ in range(3):
        predictor.scores([*archs, *archs])
    assert len(measured) == len(set(archs))


def test_generation_is_steered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "a.jsonl"
    monkeypatch.setattr(sys, "argv", ["generate", "--n", "64", "--predictor", "flops", "--dataset", "cifar10", "--out", str(out)])
    run_command(generate.main)
    found = [json.loads(line)["predicted"] for line in out.read_text().splitlines()]
    assert "predictor flops: 0 source labels\nguidance: particles" in capsys.readouterr().out
    assert np.mean([value for value in found if value is not None]) > 0.6  # unguided about 0


def test_naswot_noise_has_its_own_generator() -> None:
    images = [proxy("naswot", load_space("darts"), seed=seed)._images for seed in (0, 0, 1)]
    assert isinstance(NaswotPredictor(), ProxyPredictor) and torch.equal(images[0], images[1]) and not torch.equal(images[0], images[2])
