"""Properties that hold for any input: of strings and matrices of architectures, limits, fronts, the budget, and readers of files."""

from __future__ import annotations

import io
import itertools
import math
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from diffnag.datasets.images import load_images
from diffnag.devices.file import DeviceFile, read_measurements
from diffnag.errors import UserError
from diffnag.io.checkpoint import load_checkpoint
from diffnag.objectives.front import non_dominated, ranks
from diffnag.objectives.hypervolume import expected_improvement_of_volume, hypervolume
from diffnag.objectives.quantities import read_quantity
from diffnag.objectives.reading import LimitText
from diffnag.plugins import names
from diffnag.protocols import SearchSpace
from diffnag.search_loop.loop import run_search
from diffnag.search_loop.options import SearchOptions
from diffnag.spaces.loading import load_space
from tests.search_fakes import KilledOracle, ToyOracle, value

few = settings(max_examples=25, derandomize=True, deadline=None, database=None, suppress_health_check=list(HealthCheck))
fewer = settings(few, max_examples=8)
SEEDS = st.integers(0, 2**32 - 1)
NUMBERS = st.floats(-1e6, 1e6)


@cache
def known(name: str) -> SearchSpace:
    return load_space(name)


@contextmanager
def one_sentence() -> Iterator[None]:
    """What is refused is refused by a `UserError` with something to read."""
    try:
        yield
    except UserError as error:
        assert str(error).strip()


@pytest.mark.parametrize("name", names("space"))
@few
@given(seed=SEEDS)
def test_an_architecture_comes_back(name: str, seed: int) -> None:
    """From its string, its matrices and its parameters; all of them have its canonical form."""
    space = known(name)
    arch = space.random(np.random.default_rng(seed))
    assert space.from_str(space.to_str(arch)) == arch
    assert space.from_parameters(space.to_parameters(arch)) == arch
    decoded = space.decode(*space.encode(arch)).arch
    assert decoded is not None and space.canonical(decoded) == space.canonical(arch)
    assert space.canonical(space.from_str(space.to_str(decoded))) == space.canonical(arch)


@pytest.mark.parametrize("name", names("space"))
@few
@given(data=st.data())
def test_any_text_is_an_architecture_or_refused(name: str, data: st.DataObject) -> None:
    """Texts of all kinds, among them strings of architectures with some characters changed; what is read is read again as itself."""
    space = known(name)
    text = data.draw(st.text())
    if data.draw(st.booleans()):
        whole = space.to_str(space.random(np.random.default_rng(data.draw(SEEDS))))
        at, cut = data.draw(st.integers(0, len(whole))), data.draw(st.integers(0, 3))
        text = whole[:at] + data.draw(st.text("|~+/@,-_:0123456789abcnoskp()[]'= ", max_size=3)) + whole[at + cut :]
    with one_sentence():
        arch = space.from_str(text)
        assert space.from_str(space.to_str(arch)) == arch


@pytest.mark.parametrize("name", names("space"))
@few
@given(seed=SEEDS, flips=st.integers(0, 12))
def test_any_matrices_are_an_architecture_or_have_a_reason(name: str, seed: int, flips: int) -> None:
    space, rng = known(name), np.random.default_rng(seed)
    V, E = (part.copy() for part in space.encode(space.random(rng)))
    for part in (V, E):
        for _ in range(flips):
            at = tuple(rng.integers(size) for size in part.shape)
            part[at] = 1 - part[at]
    found = space.decode(V, E)
    assert (found.arch is None) == bool(found.reason)
    if found.arch is not None:
        again = space.decode(*space.encode(found.arch)).arch
        assert again is not None and space.canonical(again) == space.canonical(found.arch)


@few
@given(text=st.one_of(st.text(), st.from_regex(r"[-+]?[\d.]{1,6}(e[-+]?\d{1,4})?(k|M|ms|s|B|MB|%)?", fullmatch=True)))
def test_any_text_is_a_quantity_or_refused(text: str) -> None:
    for unit in ("", "ms", "MB", "%"):
        with one_sentence():
            assert math.isfinite(read_quantity(text, unit, of="it", example="5"))


@few
@given(text=st.one_of(st.text(), st.builds("{}{}{}".format, st.text(max_size=5), st.sampled_from(("<=", ">=", "<", "==")), st.text(max_size=5))))
def test_any_text_is_a_limit_or_refused(text: str) -> None:
    with one_sentence():
        limit = LimitText.split(text).limit("")
        assert limit.objective and math.isfinite(limit.low) != math.isfinite(limit.high)


@few
@given(number=st.floats(allow_nan=False, allow_infinity=False))
def test_a_number_is_read_as_it_is_written(number: float) -> None:
    assert read_quantity(repr(number), "", of="it", example="5") == number


GRIDS = st.integers(1, 3).flatmap(lambda k: st.lists(st.lists(st.integers(0, 3), min_size=k, max_size=k), min_size=1, max_size=9))


@few
@given(rows=GRIDS)
def test_fronts_by_definition(rows: list[list[int]]) -> None:
    values = np.array(rows, float)
    dominated = [bool(((values >= row).all(1) & (values > row).any(1)).any()) for row in values]
    first = [rows.index(row) == i for i, row in enumerate(rows)]
    assert non_dominated(values).tolist() == [i for i in range(len(rows)) if first[i] and not dominated[i]]
    assert (ranks(values) == 0).tolist() == [not one for one in dominated]


@few
@given(rows=GRIDS, order=st.randoms(use_true_random=False))
def test_hypervolume_counts_cells(rows: list[list[int]], order: Any) -> None:
    """On a grid it is the number of unit cells below some member; the order does not matter, and a known candidate adds what it covers."""
    values, reference = np.array(rows, float), np.zeros(len(rows[0]))
    cells = itertools.product(range(3), repeat=len(rows[0]))
    assert hypervolume(values, reference) == sum(any(all(low < end for low, end in zip(cell, row, strict=True)) for row in rows) for cell in cells)
    order.shuffle(rows)
    assert hypervolume(np.array(rows, float), reference) == hypervolume(values, reference)
    more = expected_improvement_of_volume(values[:1], np.zeros_like(values[:1]), values[1:], reference)
    assert more[0] == pytest.approx(hypervolume(values, reference) - hypervolume(values[1:], reference))


@fewer
@given(deaths=st.lists(st.integers(1, 5), max_size=4), batch=st.integers(1, 4), budget=st.integers(1, 9))
def test_the_budget_is_spent_exactly(deaths: list[int], batch: int, budget: int) -> None:
    """However often a search dies, and in whichever evaluation."""
    options = SearchOptions(dataset="cifar10", method="evolution", budget=budget, batch=batch)
    with tempfile.TemporaryDirectory() as folder:
        place = f"journal:{folder}/study.log"
        for at in deaths:
            with suppress(KeyboardInterrupt):
                run_search(options, storage=place, oracle=KilledOracle(at))
        oracle = ToyOracle()
        result = run_search(options, storage=place, oracle=oracle)
    assert result.labels_target == budget == len({trial.arch for trial in result.trials})
    assert [trial.number for trial in result.trials] == list(range(budget))
    assert all(trial.value == value(trial.arch) for trial in result.trials)
    assert result.trials == tuple(result.trials) and len(oracle.asked) <= budget + 1
    whole = run_search(options, oracle=ToyOracle())
    assert [trial.arch for trial in whole.trials] == [trial.arch for trial in result.trials]


KINDS = st.sampled_from(("uint8", "int64", "float32", "float64", "bool", "complex64", "U3"))


@few
@given(data=st.data())
def test_any_arrays_are_images_or_refused(data: st.DataObject) -> None:
    shape = data.draw(st.lists(st.integers(0, 9), max_size=4))
    count = data.draw(st.sampled_from((0, 1, 12, 40)))
    rng = np.random.default_rng(data.draw(SEEDS))
    x = (rng.random((count, *shape)) * data.draw(st.sampled_from((1, 255, 1e30)))).astype(data.draw(KINDS))
    y = rng.integers(data.draw(st.integers(1, 4)), size=count + data.draw(st.sampled_from((0, 0, 0, 1)))).astype(data.draw(KINDS))
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("error")
        np.savez(path := Path(folder) / "x.npz", x_train=x, y_train=y)
        with one_sentence():
            found = load_images(path)
            parts = (found.train, found.val, found.test)
            assert all(len(part.x) == len(part.y) > 0 for part in parts) and sum(len(part.x) for part in parts) <= count
            assert all(np.isfinite(part.x).all() and 0 <= part.y.min() <= part.y.max() < len(found.classes) for part in parts)


BEGINNINGS = (b"", b"PK\x03\x04", b"\x93NUMPY\x01\x00", b"\x89PNG\r\n\x1a\n", b"{", b"path,label\n", b"\x80\x04")


@few
@given(content=st.binary(max_size=300), begin=st.sampled_from(BEGINNINGS))
def test_any_bytes_are_refused_by_every_reader(content: bytes, begin: bytes) -> None:
    space = known("nasbench201")
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)

        def file(suffix: str) -> Path:
            (path := place / f"x{suffix}").write_bytes(begin + content)
            return path

        np.save(place / "y.npy", np.arange(3))
        readers = (
            lambda: load_images(file(".npz")), lambda: load_images(f"{file('.npy')},{place / 'y.npy'}"), lambda: load_images(file(".csv")),
            lambda: load_checkpoint(file(".safetensors"), kind="generator"), lambda: DeviceFile.load(file(".device.json")),
            lambda: read_measurements(file(".csv"), space),
        )  # fmt: skip
        for read in readers:
            with pytest.raises(UserError):
                read()


@few
@given(seed=SEEDS, cut=st.floats(0, 1), flip=st.integers(0, 10**6))
def test_a_damaged_archive_is_read_whole_or_refused(seed: int, cut: float, flip: int) -> None:
    """One byte of an archive is another, and its end may be cut off: it never yields other images."""
    rng = np.random.default_rng(seed)
    x, y = rng.integers(256, size=(20, 8, 8, 3), dtype=np.uint8), np.arange(20) % 2
    np.savez(buffer := io.BytesIO(), x_train=x, y_train=y)
    content = bytearray(buffer.getvalue())
    content[flip % len(content)] ^= 1 + flip % 255
    with tempfile.TemporaryDirectory() as folder:
        (path := Path(folder) / "x.npz").write_bytes(content[: len(content) if cut > 0.5 else int(len(content) * 2 * cut)])
        with one_sentence():
            found = load_images(path)
            assert sum(len(part.x) for part in (found.train, found.val, found.test)) == 20
