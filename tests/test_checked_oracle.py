"""Plug-in oracles behind their checks: whatever one raises or returns, an evaluation fails or a sentence names the class."""

from __future__ import annotations

import math
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from diffnag import plugins
from diffnag.arch import Arch
from diffnag.errors import DataNotFound, UserError
from diffnag.oracles.checked import CheckedOracle, EvaluationFailed, checked_oracle, load_oracle
from diffnag.oracles.training import TrainingOracle
from diffnag.protocols import MultiFidelity, NeedsImages
from diffnag.search_spaces.nasbench201.space import NASBench201
from diffnag.testing import OracleContract
from tests.search_fakes import StagedOracle, ToyOracle, value

ARCH = NASBench201().random(np.random.default_rng(0))


def leaves() -> Any:
    """End the process, as a plug-in that takes itself for a script does."""
    sys.exit(0)


def raises(error: BaseException) -> Any:
    raise error


class Odd(StagedOracle):
    """A staged oracle; each member is what `answers` has for it, or what a function there returns."""

    def __init__(self, **answers: Any) -> None:
        super().__init__()
        self.answers = answers

    def _answer(self, member: str, default: Any) -> Any:
        answer = self.answers.get(member, default)
        return answer() if callable(answer) else answer

    def setup(self, *, space: object) -> None:
        self._answer("setup", None)

    @property
    def kind(self) -> str:  # type: ignore[override]
        return self._answer("kind", "odd")

    @property
    def epochs(self) -> int:  # type: ignore[override]
        return self._answer("epochs", 4)

    @property
    def available(self) -> Mapping[str, tuple[str, ...]]:
        return self._answer("available", {"cifar10": ("val",)})

    def provenance(self) -> Mapping[str, str | float]:
        return self._answer("provenance", {"version": "1"})

    def query(self, arch: Arch, *, dataset: str, split: str, epochs: int | None = None) -> float:
        return self._answer("query", 90.0)

    def stages(self, arch: Arch, *, dataset: str, split: str) -> Iterator[tuple[int, float]]:
        return self._answer("stages", iter([(1, 50.0), (4, 60.0)]))

    def set_images(self, images: object, **_: object) -> None:
        self._answer("set_images", None)


def checked(**answers: Any) -> Any:
    return checked_oracle("mine", Odd(**answers))


def asked(**answers: Any) -> float:
    return checked(**answers).query(ARCH, dataset="cifar10", split="val")


def watched(**answers: Any) -> list[tuple[int, float]]:
    return list(checked(**answers).stages(ARCH, dataset="cifar10", split="val"))


class TestAGoodOracleStaysOne(OracleContract):
    @pytest.fixture
    def oracle(self) -> CheckedOracle:
        """One whose datasets and splits are checked by the plug-in itself."""

        class Strict(ToyOracle):
            def query(self, arch: Arch, *, dataset: str, split: str, epochs: int | None = None) -> float:
                for kind, name, known in (("dataset", dataset, [*self.available]), ("split", split, ["val"]), ("epochs", epochs, [None])):
                    if name not in known:
                        raise UserError(f"unknown {kind} {name!r}; there are: {', '.join(map(str, known))}")
                return super().query(arch, dataset=dataset, split=split)

            @property
            def available(self) -> Mapping[str, tuple[str, ...]]:
                return {"cifar10": ("val",)}

        oracle = checked_oracle("toy", Strict())
        oracle.setup(space=NASBench201())
        return oracle


def test_answers_pass_unchanged() -> None:
    oracle = checked_oracle("toy", ToyOracle())
    assert (oracle.kind, oracle.available) == ("toy", {"cifar10": ("val", "test"), "no-test": ("val",)})
    assert oracle.provenance() == {"version": "1"} and oracle.query(ARCH, dataset="cifar10", split="val") == value(ARCH)
    assert checked_oracle("toy", oracle) is oracle
    assert not isinstance(oracle, MultiFidelity | NeedsImages)
    staged = checked_oracle("staged", StagedOracle())
    assert isinstance(staged, MultiFidelity) and not isinstance(staged, NeedsImages) and staged.epochs == 4
    assert list(staged.stages(ARCH, dataset="cifar10", split="val")) == [(k, value(ARCH) * k / 4) for k in (1, 2, 3, 4)]
    assert isinstance(checked_oracle("training", TrainingOracle()), NeedsImages)
    assert asked(query=np.float32(1.5)) == 1.5 and type(asked(query=np.float32(1.5))) is float
    assert checked(available={"cifar10": ["val"]}).available == {"cifar10": ("val",)}


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (math.nan, "the oracle returned nan"),
        (-math.inf, "the oracle returned -inf"),
        (1e308, r"the oracle returned 1e\+308; accepted are numbers up to 1e\+15 in size"),
        (None, "the oracle returned a NoneType, which is no number"),
        ("90.0", "the oracle returned a str, which is no number"),
        (np.zeros(2), "the oracle returned a ndarray, which is no number"),
        (lambda: raises(RuntimeError("\n\nout of memory\nand a long story")), "^RuntimeError: out of memory$"),
        (leaves, "^SystemExit: 0$"),
    ],
)
def test_a_failed_evaluation(answer: Any, message: str) -> None:
    with pytest.raises(EvaluationFailed, match=message) as caught:
        asked(query=answer)
    assert "\n" not in str(caught.value)


def points(*given: Any) -> Iterator[Any]:
    for point in given:
        if isinstance(point, BaseException):
            raise point
        yield point


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (lambda: raises(ValueError("no\nidea")), "^ValueError: no$"),
        (leaves, "^SystemExit: 0$"),
        (7, "^TypeError: 'int' object is not iterable$"),
        (lambda: points((1, 5.0), SystemExit(0)), "^SystemExit: 0$"),
        (lambda: points((1, 5.0), 6.0), r"stages gave 6.0; accepted is \(epochs, value\), with more than 1 and at most 4 epochs"),
        (lambda: points((1, 5.0), (1, 6.0)), r"stages gave \(1, 6.0\); accepted is"),
        (lambda: points((5, 5.0)), r"stages gave \(5, 5.0\); accepted is"),
        (lambda: points((1.5, 5.0)), r"stages gave \(1.5, 5.0\); accepted is"),
        (lambda: points((1, 1e308)), r"the oracle returned 1e\+308"),
        (lambda: points((1, "high")), "the oracle returned a str"),
    ],
)
def test_a_failed_evaluation_in_stages(given: Any, message: str) -> None:
    with pytest.raises(EvaluationFailed, match=message):
        watched(stages=given)


def test_stages_end() -> None:
    def endless() -> Iterator[tuple[int, float]]:
        while True:
            yield 1, 50.0

    with pytest.raises(EvaluationFailed, match="stages gave"):
        watched(stages=endless)
    assert watched(stages=lambda: points((np.int64(2), np.float32(0.5)), (4, math.inf))) == [(2, 0.5), (4, math.inf)]
    assert watched(stages=lambda: points()) == []


def test_an_evaluation_that_is_stopped_is_closed() -> None:
    closed = []

    def given() -> Iterator[tuple[int, float]]:
        try:
            yield from points((1, 5.0), (2, 6.0))
        finally:
            closed.append(True)
            raise RuntimeError("cannot clean up")

    stages = checked(stages=given).stages(ARCH, dataset="cifar10", split="val")
    assert next(stages) == (1, 5.0)
    stages.close()
    assert closed == [True]


NAMED = r"^oracle 'mine' \(tests\.test_checked_oracle\.Odd\): "


@pytest.mark.parametrize(
    ("member", "answer", "message"),
    [
        ("setup", lambda: raises(IndexError("off by one\nand more")), "setup raised IndexError: off by one$"),
        ("setup", leaves, "setup raised SystemExit: 0$"),
        ("kind", 7, "kind is 7; accepted is one word, a str"),
        ("kind", "two words", "kind is 'two words'; accepted is one word"),
        ("kind", lambda: raises(KeyError("kind")), "kind raised KeyError: 'kind'$"),
        ("available", None, "available is None; accepted is a mapping of dataset names to tuples of split names"),
        ("available", ["cifar10"], r"available is \['cifar10'\]; accepted"),
        ("available", {"cifar10": "val"}, "available is {'cifar10': 'val'}; accepted"),
        ("available", {"cifar10": (1,)}, "accepted is a mapping"),
        ("available", {3: ("val",)}, "accepted is a mapping"),
        ("available", leaves, "available raised SystemExit: 0"),
        ("provenance", None, "provenance is None; accepted is a mapping of names to texts and finite numbers"),
        ("provenance", {"sha": b"0"}, "provenance is {'sha': b'0'}; accepted"),
        ("provenance", {"best": math.nan}, "provenance is {'best': nan}; accepted"),
        ("provenance", {1: "x"}, "provenance is {1: 'x'}; accepted"),
        ("provenance", {"plan": {"epochs": 3}}, "accepted is a mapping"),
        ("provenance", {"text": "x", "bytes": b"0" * 1000}, "…; accepted is a mapping"),
        ("provenance", lambda: raises(OSError("disk")), "provenance raised OSError: disk"),
        ("epochs", 0, "epochs is 0; accepted is a whole number of at least 1"),
        ("epochs", "4", "epochs is '4'; accepted"),
        ("set_images", lambda: raises(RuntimeError("CUDA error\nlong")), "set_images raised RuntimeError: CUDA error$"),
        ("set_images", leaves, "set_images raised SystemExit: 0"),
    ],
)
def test_anything_else_that_fails_is_a_sentence_with_the_class(member: str, answer: Any, message: str) -> None:
    calls = {
        "setup": lambda oracle: oracle.setup(space=NASBench201()),
        "provenance": lambda oracle: oracle.provenance(),
        "set_images": lambda oracle: oracle.set_images(None, dataset="x", seconds=None, epochs=None, seed=0, device="cpu"),
    }
    with pytest.raises(UserError, match=NAMED + ".*" + message.removesuffix("$")) as caught:
        calls.get(member, lambda oracle: getattr(oracle, member))(checked(**{member: answer}))
    assert "\n" not in str(caught.value)
    assert not message.endswith("$") or str(caught.value).endswith(message[:-1])


def test_what_a_plugin_calls_a_users_mistake_keeps_its_text_and_ctrl_c_passes() -> None:
    with pytest.raises(DataNotFound, match="^get it there$"):
        checked(setup=lambda: raises(DataNotFound("get it\n  there"))).setup(space=NASBench201())
    with pytest.raises(UserError, match="^unknown dataset$"):
        asked(query=lambda: raises(UserError("unknown dataset")))
    for call in (asked, watched):
        with pytest.raises(KeyboardInterrupt):
            call(query=lambda: raises(KeyboardInterrupt()), stages=lambda: raises(KeyboardInterrupt()))


PLUGIN = """
import sys
from tests.search_fakes import ToyOracle

class Leaves(ToyOracle):
    def __init__(self):
        sys.exit(0)

class Talks(ToyOracle):
    def __init__(self):
        raise ValueError("one line\\nanother")

class Fine(ToyOracle):
    pass
"""


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("oracle_plugins:Leaves", "oracle 'oracle_plugins:Leaves' cannot be made without arguments: SystemExit: 0"),
        ("oracle_plugins:Talks", "oracle 'oracle_plugins:Talks' cannot be made without arguments: ValueError: one line"),
        ("oracle_script:Any", "oracle 'oracle_script:Any': importing 'oracle_script' failed: SystemExit: 0"),
        ("oracle_lines:Any", "oracle 'oracle_lines:Any': importing 'oracle_lines' failed: ImportError: first"),
        ("no-such", "unknown oracle 'no-such'; there are: "),
    ],
)
def test_plugins_that_cannot_be_made(name: str, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for module, text in (("plugins", PLUGIN), ("script", "import sys\nsys.exit(0)\n"), ("lines", "raise ImportError('first\\nsecond')\n")):
        (tmp_path / f"oracle_{module}.py").write_text(text)
        monkeypatch.delitem(sys.modules, f"oracle_{module}", raising=False)
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(UserError) as caught:
        load_oracle(name, space=NASBench201())
    assert str(caught.value).startswith(message) and "\n" not in str(caught.value)
    assert load_oracle("oracle_plugins:Fine", space=NASBench201()).kind == "toy"


def test_a_registered_plugin_that_cannot_be_imported(monkeypatch: pytest.MonkeyPatch) -> None:
    from importlib.metadata import EntryPoint, EntryPoints

    point = EntryPoint("broken", "no_such_package.module:Class", plugins.GROUPS["oracle"])
    monkeypatch.setattr(plugins, "registered", lambda: EntryPoints([point]))
    with pytest.raises(UserError, match=r"oracle 'broken': importing 'no_such_package.module:Class' failed: ModuleNotFoundError"):
        load_oracle("broken", space=NASBench201())
