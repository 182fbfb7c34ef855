"""Files that are whole, with a content that cannot be used."""

from __future__ import annotations

import gzip
import json
import shutil
import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from experiments.endurance.inputs.cells import CELL, OTHER_CELL
from experiments.endurance.inputs.damages import DAMAGES, damage
from experiments.endurance.inputs.planted import Planted

BOMB = 64 * 2**30
"""Bytes that a small archive says it holds."""


def make_bad_contents(bad: Path, good: Path) -> None:
    """Write all of them to `bad`; they start from the files in `good`."""
    _lines(bad)
    _checkpoints(bad, good)
    _devices(bad, good)
    _measurements(bad)
    _arrays(bad)
    _bombs(bad)
    _folders(bad)
    _pickles(bad)
    _runs(bad, good)
    _trainings(bad)
    _data_folders(bad, good)
    _task_folders(bad, good)


def _lines(bad: Path) -> None:
    contents = {
        "other-space": json.dumps({"arch": "conv3x3@0/output@1"}),
        "no-arch": json.dumps({"cell": CELL}),
        "number": json.dumps({"arch": 3}),
        "all-invalid": json.dumps({"arch": None}),
        "nested": json.dumps({"arch": {"arch": CELL}}),
        "unicode": json.dumps({"arch": "∑\ud800"}),
        "blank": "\n\n",
        "nan": "NaN",
        "long-line": json.dumps({"arch": "|" * 1_000_000}),
        "list": json.dumps([CELL]),
    }
    for name, text in contents.items():
        (bad / f"content-{name}.jsonl").write_text(text + "\n")


def _checkpoints(bad: Path, good: Path) -> None:
    import torch
    from safetensors import safe_open
    from safetensors.torch import save_file

    with safe_open(good / "sde.safetensors", framework="pt") as file:
        meta = json.loads(file.metadata()["diffnag"])
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - no mapping
    first = next(iter(tensors))

    def write(name: str, tensors: Mapping[str, torch.Tensor] = tensors, **changes: Any) -> None:
        about = {key: value for key, value in {**meta, **changes}.items() if value is not ...}
        save_file(dict(tensors), bad / f"checkpoint-{name}.safetensors", metadata={"diffnag": json.dumps(about)})

    write("no-config", config=...)
    write("nan", {**tensors, first: torch.full_like(tensors[first], float("nan"))})
    write("huge", config={**meta["config"], "width": 10**9})
    write("deep", config={**meta["config"], "layers": 10**9})
    write("negative", config={**meta["config"], "width": -8})
    write("text", config={**meta["config"], "width": "8"})
    write("extra", {**tensors, "extra": torch.zeros(3)})
    write("missing", {name: tensor for name, tensor in tensors.items() if name != first})
    write("shape", {**tensors, first: torch.zeros(7, 7, 7)})
    write("format", format=99)
    write("renamed", space="nasbench101")
    write("fingerprint", space_fingerprint="0" * 64)
    write("unknown-sde", config={**meta["config"], "sde": "x"})


def _devices(bad: Path, good: Path) -> None:
    content = json.loads((good / "mine.device.json").read_text())
    rows = content["measurements"]
    changes: dict[str, dict[str, Any]] = {
        "other-space": {"space": "nasbench101"},
        "unknown-space": {"space": "x"},
        "dotted-space": {"space": "experiments.endurance.inputs.plug_ins:Leaves"},
        "fingerprint": {"space_fingerprint": "0" * 64},
        "negative": {"measurements": [{**rows[0], "ms": -1}, *rows[1:]]},
        "nan": {"measurements": [{**rows[0], "ms": float("nan")}, *rows[1:]]},
        "text": {"measurements": [{**rows[0], "ms": "fast"}, *rows[1:]]},
        "twice": {"measurements": [*rows, rows[0]]},
        "none": {"measurements": []},
        "one": {"measurements": rows[:1]},
        "arch": {"measurements": [{**rows[0], "arch": "x"}, *rows[1:]]},
        "huge": {"measurements": [{**rows[0], "ms": 1e308}, *rows[1:]]},
        "export": {"export": {"x": 1}},
        "big-export": {"export": {**content["export"], "image_size": 10**12}},
        "format": {"format": 99},
    }
    for name, change in changes.items():
        (bad / f"content-{name}.device.json").write_text(json.dumps({**content, **change}))


def _measurements(bad: Path) -> None:
    contents = {
        "no-column": f"cell,ms\n{CELL},1\n",
        "head": "arch,ms\n",
        "few": f"arch,ms\n{CELL},1\n{OTHER_CELL},2\n",
        "twice": f"arch,ms\n{CELL},1\n{CELL},2\n{OTHER_CELL},2\n",
        "negative": f"arch,ms\n{CELL},-1\n{OTHER_CELL},2\n",
        "nan": f"arch,ms\n{CELL},nan\n{OTHER_CELL},2\n",
        "words": f"arch,ms\n{CELL},fast\n{OTHER_CELL},2\n",
        "zero": f"arch,ms\n{CELL},0\n{OTHER_CELL},2\n",
        "infinite": f"arch,ms\n{CELL},1e999\n{OTHER_CELL},2\n",
        "arch": "arch,ms\nx,1\ny,2\nz,3\n",
        "ragged": f"arch,ms\n{CELL},1,2\n{OTHER_CELL}\n",
        "quote": f'arch,ms\n"{CELL},1\n{OTHER_CELL},2\n',
        "header-twice": f"arch,ms,ms\n{CELL},1,2\n{OTHER_CELL},2,3\n",
        "other-space": "arch,ms\nconv3x3@0/output@1,1\n",
    }
    for name, text in contents.items():
        (bad / f"content-{name}.csv").write_text(text)


def _arrays(bad: Path) -> None:
    rng = np.random.default_rng(0)
    x, y = rng.integers(256, size=(40, 12, 12, 3), dtype=np.uint8), np.arange(40) % 2

    def write(name: str, **arrays: Any) -> None:
        np.savez(bad / f"arrays-{name}.npz", **arrays)

    write("no-y", x_train=x)
    write("no-x", y_train=y)
    write("other-names", images=x, labels=y)
    write("lengths", x_train=x, y_train=y[:-1])
    write("one-class", x_train=x, y_train=np.zeros(40, int))
    write("one-each", x_train=x, y_train=np.arange(40))
    write("nan", x_train=np.full((40, 12, 12, 3), np.nan), y_train=y)
    write("infinite", x_train=np.full((40, 12, 12, 3), 1e300), y_train=y)
    write("nan-labels", x_train=x, y_train=np.full(40, np.nan))
    write("float-labels", x_train=x, y_train=rng.random(40))
    write("negative-labels", x_train=x, y_train=y - 5)
    write("objects", x_train=x, y_train=np.array([{}] * 40, dtype=object))
    write("object-images", x_train=np.array([{}] * 40, dtype=object), y_train=y)
    write("complex", x_train=x.astype(complex), y_train=y)
    write("dates", x_train=x, y_train=np.array(["2020-01-01"] * 40, dtype="datetime64[D]"))
    write("two-axes", x_train=x.reshape(40, -1), y_train=y)
    write("five-axes", x_train=x[:, None, None], y_train=y)
    write("no-images", x_train=x[:0], y_train=y[:0])
    write("no-pixels", x_train=x[:, :0], y_train=y)
    write("scalar", x_train=np.float32(3), y_train=y)
    write("channels", x_train=np.zeros((40, 2000, 3, 3), np.uint8), y_train=y)
    write("test-only", x_test=x, y_test=y)
    write("stranger", x_train=x, y_train=y, x_test=x, y_test=y + 7)
    write("test-shape", x_train=x, y_train=y, x_test=x[:, :6], y_test=y)
    write("test-scale", x_train=x, y_train=y, x_test=x / 255.0, y_test=y)
    write("label-matrix", x_train=x, y_train=rng.random((40, 3, 3)))
    write("thousands", x_train=x, y_train=np.arange(40) * 10**12)


def _bombs(bad: Path) -> None:
    """Archives and pictures that say they hold far more than they should."""
    header = np.lib.format.magic(1, 0)
    shape = f"{{'descr': '|u1', 'fortran_order': False, 'shape': ({BOMB // (1024 * 1024 * 3)}, 1024, 1024, 3), }}"
    text = shape.ljust(117) + "\n"
    array = header + len(text).to_bytes(2, "little") + text.encode()
    with zipfile.ZipFile(bad / "bomb-header.npz", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("x_train.npy", array)
        archive.writestr("y_train.npy", array)
    zeros = bytes(2**20)
    with zipfile.ZipFile(bad / "bomb-zeros.npz", "w", zipfile.ZIP_DEFLATED) as archive:
        for name in ("x_train.npy", "y_train.npy"):
            with archive.open(name, "w", force_zip64=True) as member:
                member.write(array)
                for _ in range(256):
                    member.write(zeros)
    (bad / "bomb.npy").write_bytes(array + zeros)
    with gzip.open(bad / "bomb.csv.gz", "wb", compresslevel=1) as file:
        file.write(b"arch,ms\n")
        for _ in range(10 * 1024):
            file.write(zeros)

    def chunk(kind: bytes, data: bytes) -> bytes:
        return len(data).to_bytes(4, "big") + kind + data + zlib.crc32(kind + data).to_bytes(4, "big")

    side = (60_000).to_bytes(4, "big")
    head = chunk(b"IHDR", side + side + b"\x08\x00\x00\x00\x00")
    picture = b"\x89PNG\r\n\x1a\n" + head + chunk(b"IDAT", zlib.compress(zeros)) + chunk(b"IEND", b"")
    for label in ("a", "b"):
        (bad / "bomb-folder" / label).mkdir(parents=True)
        for number in range(12):
            (bad / "bomb-folder" / label / f"{number}.png").write_bytes(picture)


def _folders(bad: Path) -> None:
    from PIL import Image

    def picture(name: str, value: int = 0) -> None:
        path = bad / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.full((12, 12, 3), value, np.uint8)).save(path)

    (bad / "folder-empty").mkdir()
    (bad / "folder-hollow" / "a").mkdir(parents=True)
    (bad / "folder-hollow" / "b").mkdir()
    for number in range(12):
        picture(f"folder-loose/{number}.png", number)
        picture(f"folder-one-class/a/{number}.png", number)
        picture(f"folder-no-train/val/a/{number}.png", number)
        picture(f"folder-no-train/val/b/{number}.png", number + 100)
    for split in ("train", "test"):
        for label in ("a", "b", *(["c"] if split == "test" else [])):
            for number in range(12):
                picture(f"folder-stranger/{split}/{label}/{number}.png", number)
    picture("folder-one-each/a/0.png")
    picture("folder-one-each/b/0.png", 9)
    for label in ("a", "b"):
        for number in range(12):
            path = bad / "folder-damaged" / label / f"{number}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(number))
            path = bad / "folder-texts" / label / f"{number}.txt"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text("no picture")
    (bad / "run-empty").mkdir()
    for name, text in {"garbage": "{", "list": "[]", "empty-object": "{}", "nulls": json.dumps({"best": None, "front": None, "trials": 3})}.items():
        (bad / f"run-{name}").mkdir()
        (bad / f"run-{name}" / "result.json").write_text(text)
        (bad / f"run-{name}" / "trials.csv").write_text("number\nx\n")
        (bad / f"run-{name}" / "options.json").write_text(text)


def _pickles(bad: Path) -> None:
    """Pickles under the names of files that hold none."""
    import pickle

    import torch

    planted = Planted(Path("planted"))
    torch.save({"weight": planted}, bad / "planted.pt")
    np.savez(bad / "planted.npz", x_train=np.array([planted] * 40, dtype=object), y_train=np.arange(40) % 2)
    np.save(bad / "planted.npy", np.array([planted] * 40, dtype=object), allow_pickle=True)
    (bad / "planted.safetensors").write_bytes(pickle.dumps(planted))
    (bad / "planted.device.json").write_bytes(pickle.dumps(planted))
    (bad / "planted.jsonl").write_bytes(pickle.dumps(planted))
    (bad / "planted.csv").write_bytes(pickle.dumps(planted))
    (bad / "planted.pth").write_bytes(pickle.dumps(planted))


def _runs(bad: Path, good: Path) -> None:
    """Folders of a search whose results or trials are damaged."""
    whole = json.loads((good / "run" / "result.json").read_text())
    changes: Mapping[str, Mapping[str, Any]] = {
        "nan": {"wall_s": float("nan")}, "no-space": {"space": None}, "other-space": {"space": "nasbench101"}, "space-dotted": {"space": "os:path"},
        "arch": {"best": {**whole["best"], "arch": "x"}}, "front-text": {"front": "all"}, "best-text": {"best": "all"}, "budget": {"budget": "many"},
        "trials-none": {"trials": None}, "seconds": {"seconds_target": []},
    }  # fmt: skip
    for name, change in changes.items():
        _copied(good / "run", bad / f"run-result-{name}", "result.json").write_text(json.dumps({**whole, **change}))
    for how in DAMAGES:
        for name in ("result.json", "trials.csv"):
            damage(_copied(good / "run", bad / f"run-{name.partition('.')[0]}-{how}", name), how)
    path = _copied(good / "run", bad / "run-trials-nan", "trials.csv")
    rows = path.read_text().splitlines()
    path.write_text("\n".join([rows[0], *(row.replace(".", "x") for row in rows[1:])]) + "\n")


def _copied(whole: Path, folder: Path, name: str) -> Path:
    """A file within a copy of a run."""
    folder.mkdir(exist_ok=True)
    for path in whole.iterdir():
        if path.name in ("result.json", "trials.csv", "front.csv", "options.json"):
            shutil.copy(path, folder)
    return folder / name


def _trainings(bad: Path) -> None:
    """States of interrupted trainings."""
    import torch

    for how in ("empty", "noise", "text", "truncated", "directory", "pipe", "planted", "loop", "zeros", "json", "pickled"):
        folder = bad / f"resume-{how}"
        folder.mkdir()
        state = folder / "n.safetensors.state"
        torch.save({"options": {}, "step": 1, "planted": Planted(Path("planted"))} if how == "planted" else {"options": {}}, state)
        if how != "planted":
            damage(state, how)


def _data_folders(bad: Path, good: Path) -> None:
    """Folders for `$DIFFNAG_DATA` in which every file is damaged."""
    names = (
        "nas_bench_201.csv.gz", "nas_bench_101.npz", "nas_bench_201_latency.csv.gz", "nas_bench_201_robustness.npz", "trans_nas_bench_101.csv.gz",
        "hw_gpt_bench.npz", "imagenet32_tasks.csv.gz", "images/tiny_imagenet16.npz", "nasbench201.npz",
    )  # fmt: skip
    for how in DAMAGES:
        for name in names:
            path = bad / f"data-{how}" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(good / ("latency.csv" if ".csv" in name else "images.npz"), path)
            damage(path, how)
        for name in ("nasbench201.npz", "nasbench201-latency.npz", "nasbench101.npz", "hw_gpt_bench.npz"):
            path = bad / f"cache-{how}" / "tables" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(good / "images.npz", path)
            damage(path, how)


def _task_folders(bad: Path, good: Path) -> None:
    """Folders of image sources in which one file is damaged, or all have a content that cannot be used."""
    for how in DAMAGES:
        folder = bad / f"tasks-{how}"
        shutil.copytree(good / "tasks", folder)
        for path in folder.iterdir():
            damage(path, how)
    for name, source in {"no-y": "no-y", "nan": "nan", "objects": "objects", "lengths": "lengths", "no-images": "no-images", "two-axes": "two-axes",
                         "float-labels": "float-labels", "one-class": "one-class", "complex": "complex"}.items():  # fmt: skip
        (bad / f"tasks-{name}").mkdir()
        with np.load(bad / f"arrays-{source}.npz", allow_pickle=True) as file:
            arrays = {key: file[key] for key in file.files}
        more = {f"{key[0]}_test": array for key, array in arrays.items()}
        for path in (good / "tasks").iterdir():
            np.savez(bad / f"tasks-{name}" / path.name, **arrays, **more)
    (bad / "tasks-bomb").mkdir()
    for path in (good / "tasks").iterdir():
        shutil.copy(bad / "bomb-header.npz", bad / "tasks-bomb" / path.name)
