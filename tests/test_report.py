"""report.html, without a browser: what it says, that nothing in it can break out, and what it refuses."""

from __future__ import annotations

import base64
import io
import json
import re
import shutil
import sys
import xml.etree.ElementTree as ElementTree
from html import unescape
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from diffnag.command.running import run_command
from diffnag.drawing.inline import inline_svg
from diffnag.drawing.picture import picture_of
from diffnag.errors import UserError
from diffnag.networks.classifier_file import load_model
from diffnag.plugins import names
from diffnag.report import main
from diffnag.search_loop.report import evaluations
from diffnag.search_loop.report import page as page_module
from diffnag.search_loop.report.files import export_command, kept_files
from diffnag.search_loop.report.mistakes import MISTAKES, mistakes_of, read_mistakes
from diffnag.search_loop.report.page import REPORT, write_report
from diffnag.search_loop.report.run import read_run
from diffnag.spaces.loading import load_space
from tests.report_runs import HOSTILE, TOY, failed_run, front_run, image_run
from tests.stripes import DATA, RESNET, call


@pytest.fixture(scope="module")
def front(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return front_run(tmp_path_factory.mktemp("front"))


@pytest.fixture(scope="module")
def own_images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return image_run(tmp_path_factory.mktemp("own"), tmp_path_factory.mktemp("data"))


@pytest.fixture
def copied(own_images: Path, tmp_path: Path) -> Path:
    """A copy to be changed."""
    return Path(shutil.copytree(own_images, tmp_path / "run"))


def report(*arguments: str | Path) -> int:
    """Run the command line in this process; its exit code."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(sys, "argv", ["report", *map(str, arguments)])
        try:
            run_command(main)
        except SystemExit as end:
            return int(end.code or 0)
    return 0


def data_of(page: str) -> dict[str, Any]:
    """What the script of the page reads."""
    (text,) = re.findall(r'<script type="application/json" id="data">(.*?)</script>', page, flags=re.DOTALL)
    read: dict[str, Any] = json.loads(text)
    return read


class Elements(HTMLParser):
    """The elements of a page with their attributes, and the names of those that were not closed in their order."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.wrong: list[str] = []
        self.feed(page)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))
        if tag not in ("meta", "img"):
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        if self.open.pop() != tag:
            self.wrong.append(tag)


# -- content


def test_a_front(front: Path) -> None:
    page = (front / REPORT).read_text()
    result, data = json.loads((front / "result.json").read_text()), data_of(page)
    assert {point["n"] for point in data["points"] if point["front"]} == {member["number"] for member in result["front"]["members"]}
    assert [axis["name"] for axis in data["axes"]] == ["params", "label"] and data["curve"] == result["incumbent_curve"]
    assert data["hypervolumes"] == result["front"]["hypervolume_curve"] and data["spans"] == ["accuracy", "params"]
    (best,) = [point for point in data["points"] if point["best"]]
    assert (best["arch"], best["y"], best["x"][0]) == (result["best"]["arch"], result["best"]["value"], result["best"]["values"]["params"])
    assert page.count('<template id="drawing-') == 12 and page.count('<svg class="drawing"') == 13
    assert f"a front of {len(result['front']['members'])} networks" in page and "lowest params on cifar10; 12 labels from the toy oracle" in page
    assert page.count('data-number="') == 12 and "front.csv" in page and "<h2 id=\"test-heading\">" not in page
    assert not (front / MISTAKES).exists()


def test_own_images(own_images: Path) -> None:
    page, result = (own_images / REPORT).read_text(), json.loads((own_images / "result.json").read_text())
    assert f"{100 * result['test_accuracy']:.2f} % of 20 test images right" in page
    assert [axis["name"] for axis in data_of(page)["axes"]] == ["params", "seconds", "label"]
    best = next(point for point in data_of(page)["points"] if point["best"])
    assert best["x"][0] == result["final"]["params"]
    counts = [[int(cell) for cell in re.findall(r"<td[^>]*>(\d+)</td>", row)] for row in page.split('class="confusion"')[1].split("<tr>")[2:5]]
    assert sum(map(sum, counts)) == 20 and sum(counts[k][k] for k in range(3)) == round(20 * result["test_accuracy"])
    assert "source labels" in page and "final training" in page and "options.json" in page


def test_the_worst_mistakes_are_those_of_the_highest_confidence(own_images: Path) -> None:
    model = load_model(own_images / "model.pt")
    with torch.no_grad():
        likely = model(torch.from_numpy(DATA.test.x).permute(0, 3, 1, 2).float() / 255).softmax(1).numpy()
    chosen = (likely.argmax(1) + (np.arange(20) < 4)) % 3  # the first four labels are made wrong, whatever the model has learned
    images = type(DATA.test)(DATA.test.x, chosen.astype(np.int64))
    counts = np.zeros((3, 3), int)
    np.add.at(counts, (chosen, likely.argmax(1)), 1)
    found = mistakes_of(model, images, counts)
    assert {one.image for one in found.worst} == {0, 1, 2, 3} and np.array(found.counts).sum() == 20
    assert [one.confidence for one in found.worst] == sorted((round(float(likely[k].max()), 4) for k in range(4)), reverse=True)
    for one in found.worst:
        assert (one.true, one.chosen) == (model.classes[chosen[one.image]], model.classes[likely[one.image].argmax()])
        assert np.array_equal(np.asarray(Image.open(io.BytesIO(base64.b64decode(one.png)))), DATA.test.x[one.image])


def test_mistakes_of_another_model_are_not_shown(copied: Path) -> None:
    best = json.loads((copied / "result.json").read_text())["best"]["arch"]
    kept = json.loads((copied / MISTAKES).read_text())
    assert read_mistakes(copied / MISTAKES, arch=best)
    for wrong in ({**kept, "arch": RESNET + "x"}, {**kept, "counts": [[1]]}, {**kept, "worst": [{"png": '"><script>'}]}, [], None):
        (copied / MISTAKES).write_text(json.dumps(wrong))
        assert read_mistakes(copied / MISTAKES, arch=best) is None
        page = write_report(copied).read_text()
        assert "The mistakes of this network were not stored" in page and 'alt="Confusion matrix"' in page and "data:image/png;base64," in page


def test_many_classes_and_a_comparison(copied: Path) -> None:
    """More classes than a table can show: the picture, and the most frequent errors. With rivals, their table."""
    kept, result = (json.loads((copied / name).read_text()) for name in (MISTAKES, "result.json"))
    counts = np.eye(25, dtype=int) * 4
    counts[3, 7] = 2
    (copied / MISTAKES).write_text(json.dumps({**kept, "classes": [f"class {k}" for k in range(25)], "counts": counts.tolist(), "worst": []}))
    (copied / "result.json").write_text(json.dumps({**result, "compare": [result["final"], {**result["final"], "name": "rival", "params": 1234}]}))
    page = write_report(copied).read_text()
    assert '<th scope="row">class 3</th><td>class 7</td><td>2</td><td>6</td>' in page and 'class="confusion"' not in page
    assert 'alt="Confusion matrix"' in page and "No test image was given a wrong class" in page
    assert re.search(r'<th scope="row">rival</th><td>[\d.]+ %</td><td>1,234</td>', page)


def test_a_final_network_that_is_not_the_one_that_was_found(copied: Path) -> None:
    """As where a linear probe is better: the page says so, and shows the mistakes of that network."""
    kept, result = (json.loads((copied / name).read_text()) for name in (MISTAKES, "result.json"))
    (copied / MISTAKES).write_text(json.dumps({**kept, "arch": RESNET}))
    (copied / "result.json").write_text(json.dumps({**result, "final": {**result["final"], "name": "rival", "arch": RESNET, "params": 1234}}))
    page = write_report(copied).read_text()
    assert "another one, which was better on the validation images: rival, with 1,234 parameters" in page
    assert "The final network, rival, classifies" in page and 'class="confusion"' in page


def test_a_network_that_takes_images_of_another_size(copied: Path) -> None:
    """As parts of a pretrained network do: code and commands name its own pixels a side."""
    result = json.loads((copied / "result.json").read_text())
    assert result["final"]["image_size"] == result["images"]["size"] == 8
    arch = "128:3-6_3-6:5-6_5-6:3-6_3-6_3-6:5-6_5-6_5-6:5-6_5-6_5-6_5-6:3-6"
    changed = {"space": "efficientnet-lite", "best": {**result["best"], "arch": arch}, "final": {**result["final"], "image_size": 64}}
    (copied / "result.json").write_text(json.dumps({**result, **changed}))
    run = read_run(copied)
    assert run.final and (run.final.side, run.final.image_size) == (64, 8)
    code = next(one.code for one in kept_files(run) if one.name == "model.onnx")
    assert 'convert("RGB"), (64, 64), Image.Resampling.BILINEAR' in code
    assert (export_command(run, load_space("efficientnet-lite")) or "").endswith("--num-classes 3 --input-size 128 --out network.onnx")
    del changed["final"]["image_size"]  # of an earlier version
    (copied / "result.json").write_text(json.dumps({**result, **changed}))
    run = read_run(copied)
    assert run.final and run.final.side == 8


def test_the_code_on_the_page_runs(own_images: Path, front: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    for name, image in zip(("cat.png", "dog.jpg"), DATA.test.x, strict=False):
        Image.fromarray(image).save(own_images / name)
    said = {}
    for folder in (own_images, front):
        monkeypatch.chdir(folder)
        for one in kept_files(read_run(folder)):
            exec(compile(one.code, one.name, "exec"), {})
            said[one.name] = capsys.readouterr().out
    (own_images / "cat.png").unlink()
    (own_images / "dog.jpg").unlink()
    assert eval(said["model.pt"])[0] == said["model.onnx"].strip()
    assert len(said["front.csv"].splitlines()) == len(json.loads((front / "result.json").read_text())["front"]["members"])
    assert said["study.journal"].startswith("front")
    page = unescape((own_images / REPORT).read_text())
    assert 'load_model("model.pt")' in page and "--num-classes 3 --input-size 8" in page


@pytest.mark.parametrize("name", names("space"))
def test_drawings_of_every_space(name: str) -> None:
    space = load_space(name)
    arch = space.random(np.random.default_rng(0))
    drawn = ElementTree.fromstring(inline_svg(arch, space, title='a "quoted" <title>'))
    boxes = [element for element in drawn.iter("rect") if "box" in str(element.get("class")).split()]
    picture = picture_of(arch, space)
    assert len(boxes) == len(picture.texts) and drawn.get("aria-label") == 'a "quoted" <title>'
    assert len([element for element in drawn.iter("path") if "edge" in str(element.get("class")).split()]) == len(picture.edges)
    _, _, width, height = map(float, str(drawn.get("viewBox")).split())
    assert width > 50 and height > 20


def test_a_large_search_draws_its_front_and_its_best(front: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(evaluations, "BOXES", 20)  # two cells of eight boxes
    run = read_run(front)
    drawings, why = evaluations.drawings_of(run, load_space(run.space))
    members = {row.number for row in run.rows if row.on_front}
    assert why is None and members <= set(drawings) and len(drawings) == len(members) + 2


# -- safety


def test_nothing_breaks_out(copied: Path) -> None:
    """Names with markup, in every place where a user's names stand."""
    hostile = json.dumps(HOSTILE)[1:-1]
    for name in ("result.json", MISTAKES):
        kept = json.loads((copied / name).read_text())
        kept["classes"] = [HOSTILE, '" onload="alert(1)', "</template></script><img src=x>"]
        if name == "result.json":
            kept |= {"dataset": f"a/{HOSTILE.replace('/', '')}", "method": HOSTILE, "limits": [HOSTILE], "labels_source": {HOSTILE: 3}}
        else:
            kept["worst"] = [{"image": 0, "true": HOSTILE, "chosen": '"><b>', "confidence": 0.9, "png": ""}]
        (copied / name).write_text(json.dumps(kept))
    trials = (copied / "trials.csv").read_text().splitlines()
    cells = trials[1].split(",")
    cells[2], cells[3], cells[4], cells[6] = HOSTILE, "", "failed", HOSTILE
    (copied / "trials.csv").write_text("\n".join([trials[0], ",".join(cells), *trials[2:]]) + "\n")
    before = Elements((copied / REPORT).read_text())
    page = write_report(copied).read_text()
    after = Elements(page)
    assert HOSTILE not in page and hostile not in page and "&lt;script&gt;alert(1)&lt;/script&gt;" in page
    assert [each for each in after.found if each[0] == "script"] == [each for each in before.found if each[0] == "script"]
    assert not after.wrong and not after.open and not any("onload" in attributes for _, attributes in after.found)


def test_an_architecture_with_markup_in_the_data(front: Path, tmp_path: Path) -> None:
    """What the script reads cannot end its element; the drawing of such an architecture is missing."""
    copy = Path(shutil.copytree(front, tmp_path / "run"))
    lines = (copy / "trials.csv").read_text().replace("|+|", f"{HOSTILE}<!--")
    (copy / "trials.csv").write_text(lines)
    page = write_report(copy).read_text()
    assert HOSTILE not in page and "<!--" not in page
    assert all(HOSTILE in point["arch"] for point in data_of(page)["points"])


def test_the_page_needs_nothing_else(front: Path, own_images: Path) -> None:
    for folder in (front, own_images):
        page = (folder / REPORT).read_text()
        elements = Elements(page)
        assert not elements.wrong and not elements.open
        asked = [value for _, attributes in elements.found for key, value in attributes.items() if key in ("src", "href", "action", "data", "srcset")]
        assert asked and all(value == "#main" or str(value).startswith("data:image/png;base64,") for value in asked)
        assert not any(name in ("link", "iframe", "object", "base", "form") for name, _ in elements.found)
        assert re.findall(r"https?://[^\"]*", page) == ["http://www.w3.org/2000/svg"]  # a name, and nothing to ask for
        assert not re.search(r"@import|url\(|fetch\(|XMLHttpRequest|innerHTML", page)
        assert "default-src &#x27;none&#x27;" in page or "default-src 'none'" in page


def test_code_of_a_space_is_run_only_if_it_is_named(front: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    copy = Path(shutil.copytree(front, tmp_path / "run"))
    name = "diffnag.search_spaces.nasbench201.space:NASBench201"
    result = json.loads((copy / "result.json").read_text())
    (copy / "result.json").write_text(json.dumps({**result, "space": name}))
    assert report(copy) == 0
    page = (copy / REPORT).read_text()
    assert "<template" not in page and f"the code of space {name} was not loaded; --space {name} loads it" in page
    assert report(copy, "--space", name) == 0 and "<template" in (copy / REPORT).read_text()
    assert report(copy, "--space", "nasbench101") == 2
    assert "is a search in space 'diffnag.search_spaces.nasbench201.space:NASBench201', not in 'nasbench101'" in capsys.readouterr().err


def test_colours_can_be_read() -> None:
    """Contrast of text by WCAG 2, level AA: at least 4.5; of marks and outlines at least 3."""
    style = (Path(page_module.__file__).parent / "page.css").read_text()
    schemes = [dict(re.findall(r"--(\w+): (#\w{6});", part)) for part in re.findall(r":root \{(.*?)\}", style, flags=re.DOTALL)]
    assert len(schemes) == 2

    def luminance(rgb: np.ndarray) -> float:
        linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
        return float(linear @ (0.2126, 0.7152, 0.0722))

    def contrast(one: np.ndarray, other: np.ndarray) -> float:
        light, dark = sorted((luminance(one), luminance(other)), reverse=True)
        return (light + 0.05) / (dark + 0.05)

    for scheme in schemes:
        rgb = {name: np.array([int(text[k : k + 2], 16) / 255 for k in (1, 3, 5)]) for name, text in scheme.items()}
        for ground in ("page", "panel"):
            assert min(contrast(rgb[name], rgb[ground]) for name in ("text", "soft")) >= 4.5
            assert min(contrast(rgb[name], rgb[ground]) for name in ("blue", "red", "gold", "mark")) >= 3
        for name, kind in (("blue", "hit"), ("red", "miss")):
            for share in re.findall(rf"\.{kind}-\d .*?(\d+)%", style):
                assert contrast(rgb["text"], int(share) / 100 * rgb[name] + (1 - int(share) / 100) * rgb["page"]) >= 4.5


# -- failures


def test_a_page_that_fails_costs_the_page_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def fails(*_: object) -> str:
        raise ZeroDivisionError

    monkeypatch.setattr("diffnag.search_loop.report.page.filled", fails)
    (tmp_path / REPORT).write_text("of an earlier run")
    assert call(*TOY, "--budget", "2", "--out", tmp_path) == 0
    assert "note: report.html could not be made: ZeroDivisionError" in capsys.readouterr().out
    assert (tmp_path / "result.json").is_file() and not (tmp_path / REPORT).exists()


def test_a_search_without_a_result_has_a_page(tmp_path: Path) -> None:
    page = (failed_run(tmp_path) / REPORT).read_text()
    assert "nothing: every evaluation failed" in page and data_of(page)["points"] == [] and data_of(page)["failed"] == [1, 2, 3]


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        (None, "is damaged"), ([], "is damaged"), ({"objectives": []}, "no objectives"), ({"best": {"arch": "a"}}, "'value'"),
        ({"wall_s": "7"}, "'7' is no finite number"), ({"wall_s": True}, "True is no finite number"), ({"front": 3}, "is damaged"),
        ({"space": "nowhere"}, "unknown space 'nowhere'"), ({"incumbent_curve": ["x"]}, "no finite number"), ({"final": 1}, "is damaged"),
    ],
)  # fmt: skip
def test_a_damaged_result_is_one_sentence(front: Path, tmp_path: Path, changes: Any, said: str, capsys: pytest.CaptureFixture[str]) -> None:
    copy = Path(shutil.copytree(front, tmp_path / "run"))
    result = json.loads((copy / "result.json").read_text())
    text = "{" if changes is None else json.dumps({**result, **changes} if changes else changes)
    (copy / "result.json").write_text(text)
    assert report(copy) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ") and error.count("\n") == 1 and said in error


def test_a_folder_that_is_no_run_is_one_sentence(tmp_path: Path, front: Path, capsys: pytest.CaptureFixture[str]) -> None:
    copy = Path(shutil.copytree(front, tmp_path / "run"))
    assert report(tmp_path / "nowhere") == report(tmp_path) == 2
    (copy / "trials.csv").write_text("number,arch\n1,a\n")
    assert report(copy) == 2
    (copy / "trials.csv").unlink()
    assert report(copy) == 2
    lines = capsys.readouterr().err.splitlines()
    for line, said in zip(lines, ("there is no folder", "is not the folder of a search that has ended", "trials.csv is damaged", "has no trials.csv"),
                          strict=True):  # fmt: skip
        assert line.startswith("error: ") and said in line
    with pytest.raises(UserError, match="is damaged"):
        (copy / "result.json").write_bytes(b"\xff\xfe")
        write_report(copy)
