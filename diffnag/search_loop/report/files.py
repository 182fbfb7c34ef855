"""The files of a run's folder: what each of them is, and the code that loads or deploys it."""

from __future__ import annotations

import json
import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from diffnag.search_loop.report.mistakes import MISTAKES
from diffnag.search_loop.report.run import Run
from diffnag.spaces.inputs import side_of

if TYPE_CHECKING:
    from diffnag.protocols import SearchSpace


@dataclass(frozen=True)
class Kept:
    """One file: its name, what it is, and code for it, empty where it needs none."""

    name: str
    what: str
    code: str = ""


def kept_files(run: Run) -> list[Kept]:
    """The files that there are, those to deploy first. Code in them is to be run in the run's folder."""
    known = [
        Kept("model.pt", "the trained network, for Python with diffnag", _load(run)),
        Kept("model.onnx", _onnx(run), _onnx_code(run)),
        Kept("model.int8.onnx", f"the same network in 8 bits{_eight_bits(run)}", _onnx_code(run).replace("model.onnx", "model.int8.onnx")),
        Kept("front.csv", "the members of the front with all their values", _CSV.format(name="front.csv", value=json.dumps(run.label.name))),
        Kept("trials.csv", "every evaluation: architecture, value, state, seconds", _CSV.format(name="trials.csv", value=json.dumps("value"))),
        Kept("result.json", "what was found and what it cost", _RESULT),
        Kept("options.json", "every option of the search, and the versions of the packages"),
        Kept("study.journal", "the Optuna study; the same command resumes it, a larger --budget continues it", _JOURNAL),
        Kept("study.db", "the Optuna study, in SQLite; the same command resumes it, a larger --budget continues it", _DATABASE),
        Kept(MISTAKES, "confusion counts and the worst mistakes, with their images"),
        Kept("search.png", "the values of the search and the best network"),
        Kept("front.png", "the front and its growth"),
        Kept("confusion.png", "which classes are taken for which others"),
        Kept("compare", "the networks of the comparison, to be loaded as model.pt is"),
    ]
    return [one for one in known if (run.folder / one.name).exists()]


def draw_command(run: Run, arch: str) -> str:
    """The command that draws an architecture."""
    return f"python -m diffnag.draw {shlex.quote(arch)} --space {shlex.quote(run.space)} --out network.svg"


def export_command(run: Run, space: SearchSpace | None) -> str | None:
    """The command that writes the network of the best architecture, untrained; None where its task has no known shape."""
    if run.best is None or space is None:
        return None
    if run.final is not None and "inputs" in run.final.skeleton:
        return None
    if run.final is not None:
        shape = (len(run.final.classes), side_of(space.from_str(run.best), space, run.final.image_size))
    elif run.dataset in space.datasets:
        shape = space.datasets[run.dataset]
    else:
        return None
    return (
        f"python -m diffnag.export {shlex.quote(run.best)} --space {shlex.quote(run.space)} --num-classes {shape[0]} "
        f"--input-size {shape[1]} --out network.onnx"
    )


def size_of(path: Path) -> str:
    """The size of a file in words; that of a folder is the sum of what is in it."""
    parts = path.rglob("*") if path.is_dir() else [path]
    count = float(sum(part.stat().st_size for part in parts if part.is_file()))
    for unit in ("B", "kB"):
        if count < 1000:
            return f"{count:.0f} {unit}"
        count /= 1000
    return f"{count:.1f} MB"


def _space_argument(space: str) -> str:
    """A space of someone else's code is named when a model is loaded, so that a file alone runs no code."""
    return f", space={space!r}" if ":" in space else ""


def _onnx(run: Run) -> str:
    exact = run.final.onnx_difference if run.final else None
    return "the same network for onnxruntime" + ("" if exact is None else f"; its logits differ from torch's by at most {exact:.1g}")


def _eight_bits(run: Run) -> str:
    found = run.final.eight_bits if run.final else {}
    if not found:
        return ""
    accuracy, times = 100 * found["test_accuracy"], (found["milliseconds"], found["milliseconds_in_32_bits"])
    return f": test accuracy {accuracy:.2f} %; {times[0]:.3g} ms an image on one core, {times[1]:.3g} ms in 32 bits"


def _load(run: Run) -> str:
    """Code that loads and uses model.pt."""
    space = _space_argument(run.space)
    return _ARRAYS.format(space=space) if run.final and "inputs" in run.final.skeleton else _MODEL.format(space=space)


def _onnx_code(run: Run) -> str:
    """Code that uses model.onnx."""
    final = run.final
    if final is None:
        return _ONNX.format(size=0, answer="print(classes[logits[0].argmax()])")
    answers = {"R2": "print(dict(zip(classes, logits[0].tolist())))", "accuracy": "print(classes[logits[0].argmax()])"}
    answer = answers.get(final.measure, "print([name for name, logit in zip(classes, logits[0]) if logit > 0])")
    if inputs := final.skeleton.get("inputs"):
        return _ONNX_ARRAYS.format(shape=", ".join(map(str, inputs)), answer=answer)
    return _ONNX.format(size=final.side, answer=answer)


_ARRAYS = """\
import numpy as np
from diffnag import load_model

model = load_model("model.pt"{space})
print(model.predict(np.load("images.npy")))  # arrays like those of the training
"""
_ONNX_ARRAYS = """\
import json
from pathlib import Path

import numpy as np
import onnxruntime

classes = json.loads(Path("result.json").read_text())["classes"]
session = onnxruntime.InferenceSession("model.onnx")
array = np.load("image.npy").astype(np.float32).reshape(1, {shape})
(logits,) = session.run(None, {{session.get_inputs()[0].name: array}})
{answer}
"""
_MODEL = """\
from diffnag import load_model

model = load_model("model.pt"{space})
print(model.predict(["cat.png", "dog.jpg"]))  # files, Pillow images or arrays of any size
"""
_ONNX = """\
import json
from pathlib import Path

import numpy as np
import onnxruntime
from PIL import Image, ImageOps

classes = json.loads(Path("result.json").read_text())["classes"]
session = onnxruntime.InferenceSession("model.onnx")
image = ImageOps.fit(Image.open("cat.png").convert("RGB"), ({size}, {size}), Image.Resampling.BILINEAR)
pixels = np.asarray(image, np.float32).transpose(2, 0, 1)[None] / 255
(logits,) = session.run(None, {{session.get_inputs()[0].name: pixels}})
{answer}
"""
_CSV = """\
import csv

with open("{name}", newline="", encoding="utf-8") as file:
    for row in csv.DictReader(file):
        print(row[{value}], row["arch"])
"""
_RESULT = """\
import json
from pathlib import Path

result = json.loads(Path("result.json").read_text())
print(result["best"]["arch"], result["best"]["values"])
"""
_STUDIES = """\
for name in optuna.get_all_study_names(storage):
    study = optuna.load_study(study_name=name, storage=storage)
    print(name, [trial.values for trial in study.best_trials])
"""
_JOURNAL = (
    """\
import optuna
from optuna.storages.journal import JournalFileBackend

storage = optuna.storages.JournalStorage(JournalFileBackend("study.journal"))
"""
    + _STUDIES
)
_DATABASE = (
    """\
import optuna

storage = "sqlite:///study.db"
"""
    + _STUDIES
)
