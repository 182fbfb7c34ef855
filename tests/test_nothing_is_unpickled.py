"""Pickles that would leave a mark, under the name of every file that the package reads: none of them is loaded without the flag."""

from __future__ import annotations

import gzip
import pickle
import zipfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import diffnag
from diffnag.data import import_oracle_file, import_properties, import_table
from diffnag.datasets.images import load_images
from diffnag.datasets.labelled import read_labelled
from diffnag.datasets.meta_dataset import read_together
from diffnag.datasets.sources import imagenet32_tuples
from diffnag.devices.file import DeviceFile, read_measurements
from diffnag.devices.predictions import read_archs
from diffnag.errors import UserError
from diffnag.generators.loading import load_family
from diffnag.generators.options import Training
from diffnag.generators.training import TrainingRun
from diffnag.io.checkpoint import load_checkpoint
from diffnag.io.property_tables import PropertyTable
from diffnag.io.tables import BenchmarkTable
from diffnag.search_loop.loop import Search
from diffnag.search_loop.options import SearchOptions
from diffnag.search_loop.report.run import read_run
from diffnag.search_spaces.shared.weights import read_weights
from diffnag.spaces.loading import load_space
from experiments.endurance.inputs.planted import Planted
from tests.search_fakes import ToyOracle


def plain(planted: Any) -> bytes:
    return pickle.dumps(planted)


def zipped_by_torch(planted: Any) -> bytes:
    return _written(lambda path: torch.save({"net": planted, "state_dict": {"x": planted}, "options": planted, "data": {"micro": planted}}, path))


def legacy_torch(planted: Any) -> bytes:
    return _written(lambda path: torch.save({"net": planted}, path, _use_new_zipfile_serialization=False))


def array(planted: Any) -> bytes:
    return _written(lambda path: np.save(path, np.array([planted] * 4, dtype=object), allow_pickle=True), ".npy")


def archive(planted: Any) -> bytes:
    names = ("x_train", "y_train", "x_test", "y_test", "head", "archs", "rows", "adjacency", "ops", "num_vertices")
    return _written(lambda path: np.savez(path, **{name: np.array([planted] * 4, dtype=object) for name in names}), ".npz")


def in_zip(planted: Any) -> bytes:
    def write(path: Path) -> None:
        with zipfile.ZipFile(path, "w") as file:
            for name in ("x_train.npy", "data.pkl", "archive/data.pkl", "head.npy"):
                file.writestr(name, pickle.dumps(planted))

    return _written(write)


def gzipped(planted: Any) -> bytes:
    return gzip.compress(pickle.dumps(planted))


def _written(write: Callable[[Path], object], suffix: str = ".x") -> bytes:
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        write(path := Path(folder) / f"file{suffix}")
        return path.read_bytes()


PICKLES = (plain, zipped_by_torch, legacy_torch, array, archive, in_zip, gzipped)


def _search(storage: str) -> None:
    with Search(SearchOptions(dataset="cifar10", method="random", budget=1), storage=storage, oracle=ToyOracle()) as search:
        search.work()


def _resume(path: Path) -> None:
    family, space = load_family("sde"), load_space("nasbench201")
    config = family.Config(width=8, layers=1, heads=1)
    TrainingRun(family, family.build(space, config, seed=0), Training(), config).load(path)


def _pair(path: Path, *, labels: bool) -> None:
    np.save(other := path.with_name("other.npy"), np.arange(4))
    load_images(f"{other},{path}" if labels else f"{path},{other}")


def _pictures(path: Path) -> None:
    for label in ("a", "b"):
        for number in range(6):
            (copy := path.parent / "folder" / label / f"{number}.png").parent.mkdir(parents=True, exist_ok=True)
            copy.write_bytes(path.read_bytes())
    load_images(path.parent / "folder")


def _run(path: Path) -> None:
    read_run(path.parent)


def _tuples(path: Path) -> None:
    imagenet32_tuples(load_space("nasbench201"), path.parent)


READERS: dict[str, Callable[[Path], object]] = {
    "a.safetensors": partial(load_checkpoint, kind="generator"),
    "b.safetensors": read_weights,
    "weights.pt": read_weights,
    "weights.pth": read_weights,
    "model.pt": diffnag.load_model,
    "n.safetensors.state": _resume,
    "images.npz": load_images,
    "labelled.npz": lambda path: read_labelled(path, "train"),
    "x.npy": partial(_pair, labels=False),
    "y.npy": partial(_pair, labels=True),
    "paths.csv": load_images,
    "picture.png": _pictures,
    "mine.device.json": DeviceFile.load,
    "measured.csv": lambda path: read_measurements(path, load_space("nasbench201")),
    "archs.jsonl": lambda path: read_archs(path, load_space("nasbench201")),
    "archs.csv": lambda path: read_archs(path, load_space("nasbench201")),
    "nasbench201.npz": BenchmarkTable.load,
    "nasbench201-latency.npz": PropertyTable.load,
    "NAS-Bench-201-v1_1-096897.pth": lambda path: import_table("nasbench201", path),
    "nas_bench_201.csv.gz": lambda path: import_table("nasbench201", path),
    "nas_bench_101.npz": lambda path: import_table("nasbench101", path),
    "nasbench_only108.tfrecord": lambda path: import_table("nasbench101", path),
    "transnas-bench_v10141024.pth": lambda path: import_table("transnasbench101-micro", path),
    "latency.csv": lambda path: import_properties("nasbench201", "latency", path),
    "robustness.npz": lambda path: import_properties("nasbench201", "robustness", path),
    "hw_gpt_bench.npz": lambda path: import_oracle_file(load_space("gpt-s"), path),
    "imagenet32_tasks.csv.gz": _tuples,
    "measured.jsonl": lambda path: read_together([path]),
    "result.json": _run,
    "study.db": lambda path: _search(f"sqlite:///{path}"),
    "study.log": lambda path: _search(f"journal:{path}"),
}


@pytest.mark.parametrize("name", READERS)
def test_no_pickle_is_loaded(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for made in PICKLES:
        (path := tmp_path / name).write_bytes(made(Planted(tmp_path / "planted")))
        with pytest.raises(UserError) as caught:
            READERS[name](path)
        assert str(caught.value) and not (tmp_path / "planted").exists(), made.__name__


def test_the_mark_is_left_by_a_pickle_that_is_loaded(tmp_path: Path) -> None:
    pickle.loads(plain(Planted(tmp_path / "planted"))).close()
    assert (tmp_path / "planted").exists()
