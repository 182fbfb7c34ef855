"""An elastic network: statistics, the order of channels, the probe, the adaptation, and the oracle that uses it."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from diffnag.datasets.images import load_images
from diffnag.errors import UserError
from diffnag.networks import adapted, elastic, training
from diffnag.networks.classifier_file import load_model
from diffnag.networks.elastic import (
    Adaptation,
    Resized,
    adapt,
    fit_probe,
    logistic,
    rebase,
    recalibrate,
    resized,
    with_better_statistics,
    write_classifier,
)
from diffnag.networks.training import accuracy
from diffnag.oracles.inherit import InheritOracle
from diffnag.search_loop.finish import finishing
from diffnag.search_loop.finish.finished import Share
from diffnag.search_loop.finish.finishing import finish
from diffnag.search_loop.loop import Search, first_as_good, standard_error
from diffnag.search_loop.options import SearchOptions
from diffnag.search_loop.trial import Trial
from diffnag.search_spaces.efficientnet_lite import space as module
from diffnag.search_spaces.efficientnet_lite.network import Block, Network, full, narrowed, sort_channels
from diffnag.search_spaces.efficientnet_lite.space import EfficientNetLite
from diffnag.search_spaces.nasbench201.space import NASBench201
from diffnag.spaces.inputs import whole_networks
from tests.image_sources import bright_classes
from tests.trained_norms import network_of

BLOCKS = (Block(32, 16, 32, 3, 1, expand=False), Block(16, 24, 48, 5, 2), Block(24, 24, 48, 3, 1))
SMALL = (BLOCKS[0], narrowed(BLOCKS[1], share=1 / 3, kernel=3), None)


@pytest.fixture(name="network")
def _network() -> Network:
    return network_of(BLOCKS, num_classes=3)


class Parts:
    """The part of an elastic space that `adapt` uses."""

    smallest = 0
    side = 24

    def random(self, rng: np.random.Generator) -> int:
        return int(rng.integers(2))

    def resolution(self, arch: int) -> int:
        return 16 + 8 * arch

    def member(self, arch: int) -> tuple[Block | None, ...]:
        return BLOCKS if arch else SMALL


def images_of(count: int, *, side: int = 16, seed: int = 1) -> Tensor:
    return torch.randn(count, 3, side, side, generator=torch.Generator().manual_seed(seed))


@torch.no_grad()
def test_a_new_base_changes_the_statistics_and_not_the_outputs(network: Network) -> None:
    images, others = images_of(16), images_of(4, seed=2)
    before, statistics = network(others), network.stem.norm.running_mean.clone()
    rebase(network, images)
    assert torch.allclose(network(others), before, atol=1e-4)
    assert not torch.allclose(network.stem.norm.running_mean, statistics)
    # the statistics of the same images are now those that the network has: a recalibration changes nothing
    again = recalibrate(copy.deepcopy(network), images)
    assert torch.allclose(again(others), before, atol=2e-3)


@torch.no_grad()
def test_recalibrated_statistics_are_the_moments_of_the_images(network: Network) -> None:
    images = images_of(16)
    given: list[Tensor] = []
    network.stem.norm.register_forward_pre_hook(lambda _, inputs: given.append(inputs[0]))
    recalibrate(network, images)
    assert torch.allclose(network.stem.norm.running_mean, given[-1].mean((0, 2, 3)), atol=1e-5)
    assert torch.allclose(network.stem.norm.running_var, given[-1].var((0, 2, 3)), rtol=1e-4)


@torch.no_grad()
def test_the_statistics_with_the_smaller_loss_are_used(network: Network) -> None:
    images, labels = images_of(32), torch.arange(32) % 3
    rebase(network, images)
    for norm in network.modules():
        if isinstance(norm, nn.BatchNorm2d):
            norm.running_var.mul_(4.0)
    own = recalibrate(copy.deepcopy(network), images)
    for fitted in (network, own):
        weight, bias = logistic(fitted.features(images).numpy(), labels.numpy(), 1.0)
        for one in (network, own):
            write_classifier(one, weight, bias)
        losses = [functional.cross_entropy(one(images), labels) for one in (network, own)]
        chosen = with_better_statistics(network, images, labels)
        assert functional.cross_entropy(chosen(images), labels) == min(losses)
        assert (chosen is network) == (fitted is network)


@torch.no_grad()
def test_sorting_channels_keeps_the_outputs_and_puts_the_important_first(network: Network) -> None:
    images = images_of(8)
    before = network(images)
    sort_channels(network, images)
    assert torch.allclose(network(images), before, atol=1e-4)
    block = network.blocks[1]
    middle: list[Tensor] = []
    block.project.register_forward_pre_hook(lambda _, inputs: middle.append(inputs[0]))
    network(images)
    importance = middle[0].mean((0, 2, 3)) * block.project.conv.weight.abs().sum((0, 2, 3))
    assert (importance.diff() <= 1e-5).all()


def test_a_probe_is_a_logistic_regression_on_standardised_features() -> None:
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    rng = np.random.default_rng(0)
    for classes in (2, 3):
        y, y_val = (np.arange(count) % classes for count in (60, 30))
        x, x_val = (rng.normal(size=(len(labels), 5)) * [1, 2, 3, 4, 5] + labels[:, None] for labels in (y, y_val))
        probe = fit_probe(x, y, x_val, y_val)
        by_strength = {
            strength: make_pipeline(StandardScaler(), LogisticRegression(C=strength, max_iter=1000)).fit(x, y) for strength in elastic.STRENGTHS
        }
        assert probe.accuracy == pytest.approx(100 * max(model.score(x_val, y_val) for model in by_strength.values()), abs=3.4)
        layer = nn.Linear(5, classes)
        write_classifier(nn.ModuleDict({"classifier": layer}), probe.weight, probe.bias)
        with torch.no_grad():
            mine = layer(torch.from_numpy(x_val).float()).softmax(1).numpy()
        assert np.allclose(mine, by_strength[probe.strength].predict_proba(x_val), atol=5e-3)


def test_images_are_resized_as_torch_resizes_them() -> None:
    images = images_of(2, side=12)
    assert resized(images, 12).equal(images)
    assert resized(images, 6).equal(functional.interpolate(images, size=(6, 6), mode="bilinear", antialias=True))


    assert Resized(nn.Identity(), 24)(images).shape[-1] == 24


def trained(network: Network, how: Adaptation) -> tuple[Network, list[float]]:
    network = copy.deepcopy(network)
    labels = torch.arange(24) % 3
    images = images_of(24) + 2 * labels[:, None, None, None]  # brighter for larger labels
    rebase(network, resized(images, 24))
    return network, list(adapt(network, Parts(), images, labels, how, seed=0))  # type: ignore[arg-type]


def test_an_adaptation_teaches_the_parts_and_keeps_the_statistics(network: Network) -> None:
    how = Adaptation(epochs=100, batch_size=8, flip=False, shift=0)
    after, shares = trained(network, how)
    assert shares[-1] == 1.0 and shares == sorted(shares) and len(shares) == 301
    labels = torch.arange(60) % 3
    images = images_of(60, seed=3) + 2 * labels[:, None, None, None]
    for model, least, most in ((network, 0, 50), (after, 90, 100)):
        part = recalibrate(module.extract(model, SMALL), images)
        assert least <= accuracy(part, images, labels) <= most
    first, again = (trained(network, replace(how, epochs=2))[0] for _ in range(2))
    assert after.stem.norm.running_mean.equal(first.stem.norm.running_mean)
    assert after.blocks[1].expand.norm.running_var.equal(first.blocks[1].expand.norm.running_var)
    assert all(a.equal(b) for a, b in zip(first.state_dict().values(), again.state_dict().values(), strict=True))


def test_an_adaptation_ends_in_time(network: Network, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter(np.arange(0, 1000, 10.0))
    monkeypatch.setattr(training.time, "perf_counter", lambda: next(clock))
    _, shares = trained(network, Adaptation(epochs=1000, batch_size=8, seconds=100.0))
    assert shares == pytest.approx([0.1, 0.3, 0.5, 0.7, 0.9, 1.0])  # the clock is read twice a step


# -- the oracle


@pytest.fixture(name="photos")
def _photos(tmp_path: Path) -> Path:
    return bright_classes(tmp_path / "photos.npz", count=36, side=8)


@pytest.fixture(name="weights", autouse=True)
def _weights(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[int]]:
    """Random weights in place of the published ones, and small resolutions; the list counts how often they are loaded."""
    loaded: list[int] = []

    def load(path: Path | None) -> Network:
        assert path is None
        loaded.append(1)
        torch.manual_seed(0)
        return Network(full(), num_classes=1000).eval()

    monkeypatch.setattr(module, "load_network", load)
    monkeypatch.setattr(module, "RESOLUTIONS", (16, 16, 24, 32, 32))
    monkeypatch.setattr(EfficientNetLite, "side", 24)
    yield loaded


def made(photos: Path, **options: Any) -> InheritOracle:
    oracle = InheritOracle()
    oracle.setup(space=EfficientNetLite())
    given = {"dataset": "mine", "seconds": None, "epochs": 1, "seed": 0, "device": "cpu"} | options
    oracle.set_images(load_images(photos), **given)
    return oracle


def test_an_answer_is_the_validation_accuracy_of_the_inherited_network(photos: Path) -> None:
    space, oracle = EfficientNetLite(), made(photos)
    reported: list[tuple[int, int]] = []
    oracle.prepare(on_progress=lambda what, done, of: reported.append((done, of)))
    assert reported[0] == (0, 100) and reported[-1] == (100, 100)
    arch = space.random(np.random.default_rng(0))
    value = oracle.query(arch, dataset="mine", split="val")
    network = oracle.network(arch)
    assert sum(p.numel() for p in network.parameters()) == space.size(arch, num_classes=3).params
    images = load_images(photos).val
    mean, std = (torch.tensor(part).view(1, 3, 1, 1) for part in (space.mean, space.std))
    x = (torch.from_numpy(images.x).permute(0, 3, 1, 2) / 255 - mean) / std
    assert value == round(accuracy(network, resized(x, space.resolution(arch)), torch.from_numpy(images.y)), 4)
    whole, probe, accurate = oracle.probe()
    assert space.to_str(whole).startswith("24:3-6_3-6") and 0 <= accurate <= 100
    assert probe(x).shape == (len(x), 3)
    assert {"sha256", "epochs", "learning_rate"} <= oracle.provenance().keys()


def test_the_adapted_network_is_kept_for_the_same_images_and_plan(photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    arch = EfficientNetLite().smallest
    first = made(photos)
    value = first.query(arch, dataset="mine", split="val")
    adapting: list[int] = []
    monkeypatch.setattr(adapted, "adapt", lambda *_, **__: adapting.append(1) or iter(()))
    again = made(photos)
    assert again.query(arch, dataset="mine", split="val") == value and again.probe()[2] == first.probe()[2]
    assert not adapting
    made(photos, seed=1).prepare()
    made(photos, epochs=2).prepare()
    assert len(adapting) == 2


def test_a_file_of_weights_may_be_named(monkeypatch: pytest.MonkeyPatch) -> None:
    named: list[Path | None] = []
    monkeypatch.setattr(module, "load_network", lambda path: named.append(path) or Network(full(), num_classes=9))
    space = EfficientNetLite()
    space.weights = Path("mine.pt")
    assert space.pretrained(num_classes=4).classifier.out_features == 4 and named == [Path("mine.pt")]


def test_it_needs_a_space_that_inherits_and_its_weights(photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UserError, match="oracle 'inherit' needs a space whose architectures inherit pretrained weights"):
        InheritOracle().setup(space=NASBench201())

    def absent(path: Path | None) -> Network:
        raise UserError("the published weights of EfficientNet-Lite0 are not installed")

    monkeypatch.setattr(module, "load_network", absent)
    with pytest.raises(UserError, match="weights of EfficientNet-Lite0 are not installed"):
        made(photos)
    with pytest.raises(UserError, match="val"):
        replace(SearchOptions(dataset=str(photos), space="efficientnet-lite", method="random"), reward="test").resolved()
        Search(SearchOptions(dataset=str(photos), space="efficientnet-lite", method="random", reward="test"))


@pytest.mark.slow
@pytest.mark.timeout(120)
def test_a_search_fine_tunes_what_it_finds_beside_a_probe(photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    options = SearchOptions(dataset=str(photos), space="efficientnet-lite", method="random", budget=2, epochs=1)
    assert [adapted_and_finished(options, tmp_path, monkeypatch, accuracy) for accuracy in (-1.0, 101.0)] == ["random", "linear probe"]
    limited = replace(options, limit=("params<=1e9",))  # a probe may be beyond a limit
    assert adapted_and_finished(limited, tmp_path, monkeypatch, 101.0) == "random"


def adapted_and_finished(options: SearchOptions, folder: Path, monkeypatch: pytest.MonkeyPatch, probed: float) -> str:
    """Run a search whose probe has the validation accuracy `probed`; returns the name of the network that is kept."""
    notes: list[str] = []
    probe, from_scratch = InheritOracle.probe, finishing._from_scratch
    with monkeypatch.context() as patch, Search(options) as search:
        patch.setattr(InheritOracle, "probe", lambda self: (*probe(self)[:2], probed))
        patch.setattr(Share, "of_percent", classmethod(lambda cls, value, images: None if value is None else cls(round(value), 100)))
        worst = {"name": "from scratch", "validation": Share(0, 100)}
        patch.setattr(finishing, "_from_scratch", lambda *given, **more: replace(from_scratch(*given, **more), **worst))
        if probed > 0:  # once is enough: it takes seconds
            patch.setattr(finishing, "write_eight_bits", lambda path, *_, **__: path.touch())
        found = finish(
            search, search.run(), folder=folder, storage="", compare=probed < 0, on_progress=lambda *_: None, on_note=notes.append
        )
    assert found is not None
    kept = load_model(folder / "model.pt")
    assert kept.description.arch == found.best.arch and kept.description.image_size in (16, 24, 32)
    rivals = {"fine-tuning", "plain ResNet"} if probed < 0 else set()
    scratch = set() if options.limit else {"from scratch"}
    assert {one.name for one in (found.best, *found.others)} == {"random", "linear probe"} | rivals | scratch
    for name in rivals:
        rival = next(one for one in found.others if one.name == name)
        assert rival.labels == 0 and rival.epochs >= 1 and (rival.validation is None) == (name == "plain ResNet")
        assert load_model(folder / "compare" / f"{name}.pt").description.arch == rival.arch
    assert found.best.test.images == 6 and found.best.confusion.sum() == 6
    assert load_model(folder / "compare" / "random.pt").description.image_size in (16, 24, 32)
    assert any("linear probe" in note for note in notes) == (found.best.name == "linear probe")
    if probed < 0:
        assert (folder / "model.int8.onnx").stat().st_size < 0.5 * (folder / "model.onnx").stat().st_size
        assert found.eight_bits and found.eight_bits.test.images == 6
    return found.best.name


def test_the_standard_error_of_a_share_is_that_of_agresti_and_coull() -> None:
    assert standard_error(1.0, 20) == pytest.approx((22 / 24 * 2 / 24 / 24) ** 0.5)
    assert standard_error(0.5, 10_000) == pytest.approx(0.005, rel=1e-3)


def test_few_images_do_not_lead_away_from_the_whole_network() -> None:
    space, rng = EfficientNetLite(), np.random.default_rng(0)
    wholes = whole_networks(space)
    archs = [space.random(rng), wholes[1], wholes[0], space.random(rng)]
    trials = [
        Trial(i, i, arch, worth, None, None, None, 0.0) for i, (arch, worth) in enumerate(zip(archs, (88.0, 90.0, 91.0, 95.0), strict=True))
    ]
    notes: list[str] = []
    found = [first_as_good(trials, trials[3], wholes, judged=judged, on_note=notes.append).number for judged in (20, 300, 1000)]
    assert found == [1, 3, 3]  # for three rivals, 2.4 standard errors are 15, 3.1 and 1.7 points
    assert notes == ["as far as 20 validation images can tell, 90 % is as good as 95 %, and what was tried first is taken"]
    assert first_as_good(trials[:3], trials[2], wholes, judged=10_000, on_note=notes.append).number == 2 and len(notes) == 1
    poor = [replace(trials[0], number=number, value=80.0) for number in range(4, 60)]  # the best of 59 was luckier: 3.4 standard errors, 4.4 points
    assert first_as_good([*trials, *poor], trials[3], wholes, judged=300, on_note=notes.append).number == 2
