"""Checkpoints: what is saved is loaded, and whatever is damaged in one is refused in one sentence that names the file."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from diffnag.datasets.encoder import PATH as ENCODER
from diffnag.datasets.encoder import ImageEncoder
from diffnag.errors import UserError
from diffnag.generators.diffusion.denoiser import load_denoiser
from diffnag.generators.network import shipped_network
from diffnag.io.checkpoint import checksum, config_from, load_checkpoint, rebuilding, save_checkpoint, weights_checksum
from diffnag.io.files import PRETRAINED
from diffnag.oracles.surrogate import Surrogate
from diffnag.predictors.meta.predictor import MetaPredictor
from diffnag.search_spaces.nasbench201.space import NASBench201

SPACE = NASBench201()
META = PRETRAINED / "nasbench201" / "sister-tables-cifar10.safetensors"


def load_meta(path: Path) -> None:
    MetaPredictor().load(path, space=SPACE, target="cifar10")


LOADERS: dict[str, tuple[Path, Callable[[Path], object]]] = {
    "denoiser": (shipped_network("nasbench201", "sde"), lambda path: load_denoiser(SPACE, path)),
    "meta": (META, load_meta),
    "surrogate": (PRETRAINED / "nasbench201" / "surrogate.safetensors", Surrogate.load),
    "encoder": (ENCODER, ImageEncoder.load),
}

NEEDED = {
    "denoiser": ("family", "space", "space_fingerprint", "config", "sde", "split"),
    "meta": ("space", "space_fingerprint", "target", "config", "sde", "labels_source", "std", "fidelity"),
    "surrogate": ("space", "space_fingerprint", "features", "outputs", "held_out", "labels", "table_version", "table_sha256"),
    "encoder": (),
}
"""Keys of the description without which the file is of no use."""


def read_raw(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    with safe_open(path, framework="pt") as file:
        return {name: file.get_tensor(name) for name in file.keys()}, json.loads(file.metadata()["diffnag"])  # noqa: SIM118


def write_raw(path: Path, tensors: dict[str, Tensor], text: str) -> None:
    save_file(tensors, path, metadata={"diffnag": text})


def refused(load: Callable[[Path], object], path: Path, *parts: str) -> None:
    with pytest.raises(UserError) as caught:
        load(path)
    said = str(caught.value)
    assert "\n" not in said and str(path) in said and len(said) < 500, said
    assert all(part in said for part in parts), said


@pytest.mark.parametrize("kind", LOADERS)
class TestDamage:
    """Each loader, with a file of its own that is damaged in one place."""

    def test_the_file_itself_loads(self, kind: str) -> None:
        path, load = LOADERS[kind]
        load(path)

    @pytest.mark.parametrize(
        ("text", "said"),
        [
            ("no json", "no readable checkpoint"),
            ("[" * 100_000, "no readable checkpoint"),
            ("[1]", "not a diffnag checkpoint"),
            ("null", "not a diffnag checkpoint"),
            ("{}", "not a diffnag checkpoint"),
            ('{"format": 2}', "its format is 2"),
            ('{"format": 1}', "holds a None, not a"),
            ('{"format": 1, "kind": [1]}', "holds a [1], not a"),
        ],
    )
    def test_the_description(self, kind: str, text: str, said: str, tmp_path: Path) -> None:
        path, load = LOADERS[kind]
        write_raw(tmp_path / "x", read_raw(path)[0], text)
        refused(load, tmp_path / "x", said)

    def test_each_key_missing_and_of_other_types(self, kind: str, tmp_path: Path) -> None:
        path, load = LOADERS[kind]
        tensors, meta = read_raw(path)
        for key in NEEDED[kind]:
            for odd in (None, [None], {"a": None}, True, float("nan")):
                write_raw(tmp_path / "x", tensors, json.dumps({**meta, key: odd}))
                refused(load, tmp_path / "x")
            write_raw(tmp_path / "x", tensors, json.dumps({k: value for k, value in meta.items() if k != key}))
            refused(load, tmp_path / "x", f"lacks {key}")

    def test_the_tensors(self, kind: str, tmp_path: Path) -> None:
        path, load = LOADERS[kind]
        tensors, meta = read_raw(path)
        name = next(name for name, tensor in tensors.items() if tensor.is_floating_point() and tensor.ndim > 1)
        without = {key: tensor for key, tensor in tensors.items() if key != name}
        nan = tensors[name].clone()
        nan.view(-1)[-1] = torch.nan
        for changed in (without, {**tensors, name: tensors[name][:, :-1].contiguous()}, {**without, name: tensors[name].new_zeros(())}):
            write_raw(tmp_path / "x", changed, json.dumps(meta))
            refused(load, tmp_path / "x")
        for bad in (nan, torch.full_like(nan, torch.inf)):
            write_raw(tmp_path / "x", {**tensors, name: bad}, json.dumps(meta))
            refused(load, tmp_path / "x", f"{name} is NaN or infinite")

    def test_the_bytes(self, kind: str, tmp_path: Path) -> None:
        path, load = LOADERS[kind]
        whole = path.read_bytes()
        for content in (b"", b"text", whole[:50], whole[: len(whole) // 2], b"\xff" * 8 + whole[8:], whole + b"more"):
            (tmp_path / "x").write_bytes(content)
            refused(load, tmp_path / "x", "no readable checkpoint")
        refused(load, tmp_path / "absent", "there is no checkpoint")
        refused(load, tmp_path, "there is no checkpoint")


@pytest.mark.parametrize("kind", ["denoiser", "meta"])
def test_a_damaged_configuration(kind: str, tmp_path: Path) -> None:
    path, load = LOADERS[kind]
    tensors, meta = read_raw(path)
    for odd, said in (({"depth": 3}, "has no field 'depth'"), ({"width": "64"}, "width of"), ({"width": 7}, ""), ({"layers": 9}, "")):
        write_raw(tmp_path / "x", tensors, json.dumps({**meta, "config": {**meta["config"], **odd}}))
        refused(load, tmp_path / "x", said)
    for sde in ({}, {"name": "none"}, {"name": "ve", "sigma": 1}, {"name": "ve", "sigma_max": "wide"}):
        write_raw(tmp_path / "x", tensors, json.dumps({**meta, "sde": sde}))
        refused(load, tmp_path / "x")


def test_what_is_not_finite_is_not_saved(tmp_path: Path) -> None:
    for bad in (torch.nan, torch.inf):
        with pytest.raises(UserError, match=r"x was not written: weight is NaN or infinite, so the training diverged; a smaller"):
            save_checkpoint(tmp_path / "x", {"bias": torch.zeros(1), "weight": torch.tensor([1, bad])}, {"kind": "toy"})
    assert not list(tmp_path.iterdir())
    save_checkpoint(tmp_path / "x", {"count": torch.tensor([2**62]), "weight": torch.zeros(1).half()}, {"kind": "toy", "a": 1})
    tensors, meta = load_checkpoint(tmp_path / "x", kind="toy", needs={"a": int})
    assert tensors["count"].item() == 2**62 and meta["a"] == 1
    mask = torch.tensor([0, -torch.inf])
    save_checkpoint(tmp_path / "mask", {"mask": mask}, {"kind": "toy"})
    assert torch.equal(load_checkpoint(tmp_path / "mask", kind="toy")[0]["mask"], mask)


def test_checksums(tmp_path: Path) -> None:
    for name, seed in (("x", 1), ("y", 2)):
        save_checkpoint(tmp_path / name, {"a": torch.ones(2), "b": torch.zeros(1)}, {"kind": "toy", "seed": seed})
    save_checkpoint(tmp_path / "z", {"a": torch.ones(2), "b": torch.ones(1)}, {"kind": "toy", "seed": 1})
    sums = [weights_checksum(tmp_path / name) for name in "xyz"]
    assert sums[0] == sums[1] != sums[2] and len({checksum(tmp_path / name) for name in "xyz"}) == 3
    assert checksum(tmp_path / "x") == hashlib.sha256((tmp_path / "x").read_bytes()).hexdigest()


@dataclass(frozen=True)
class Config:
    width: int
    rate: float = 0.5
    deep: bool = False
    kind: Literal["a", "b"] = "a"
    side: int | None = None


def test_a_configuration_is_made_of_plain_values() -> None:
    assert config_from(Config, {"width": 3, "rate": 1, "deep": True, "kind": "b", "side": 4}) == Config(3, 1, True, "b", 4)
    assert config_from(Config, {"width": 3}) == Config(3)
    for values, said in (
        ({}, "Config lacks width"),
        ({"width": True}, "width of Config is True; expected is a value of type int"),
        ({"width": 3.5}, "width of Config is 3.5"),
        ({"width": 3, "deep": 1}, "deep of Config is 1"),
        ({"width": 3, "kind": "c"}, "kind of Config is 'c'"),
        ({"width": 3, "rate": float("inf")}, "rate of Config is inf"),
        ({"width": 3, "side": "4"}, "side of Config is '4'"),
        ({"width": 3, "height": 3}, "Config has no field 'height'; it has: width, rate, deep, kind, side"),
    ):
        with pytest.raises(ValueError, match=said):
            config_from(Config, values)


def test_errors_while_rebuilding_name_the_file() -> None:
    with pytest.raises(UserError, match="f does not hold what its own description asks for: IndexError: far"), rebuilding("f"):
        raise IndexError("far")
    with pytest.raises(UserError, match="^mine$"), rebuilding("f"):
        raise UserError("mine")
