"""How files are written: whole or not at all, over regular files only, and no temporary file stays behind."""

from __future__ import annotations

import json
import os
import resource
import signal
import socket
import stat
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from diffnag.errors import UserError
from diffnag.io import files
from diffnag.io.files import check_writable, read_arrays, write_json, written_whole

KILLED = """
import os, signal, sys
from diffnag.io.files import written_whole
with written_whole(sys.argv[1]) as temporary:
    temporary.write_text("half")
    os.kill(os.getpid(), signal.SIGKILL)
"""


def write(path: Path, text: str = "new") -> None:
    with written_whole(path) as temporary:
        temporary.write_text(text)


class TestWhatIsWritten:
    def test_a_new_and_an_old_file(self, tmp_path: Path) -> None:
        path = tmp_path / "deep" / "er" / "f.txt"
        write(path, "one")
        write(path, "two")
        assert path.read_text() == "two" and list(path.parent.iterdir()) == [path]
        umask = os.umask(0)
        os.umask(umask)
        assert stat.S_IMODE(path.stat().st_mode) == 0o666 & ~umask

    def test_a_failed_block_changes_nothing(self, tmp_path: Path) -> None:
        path = tmp_path / "f.txt"
        write(path, "old")
        with pytest.raises(ZeroDivisionError), written_whole(path) as temporary:
            temporary.write_text("new")
            raise ZeroDivisionError
        assert path.read_text() == "old" and list(tmp_path.iterdir()) == [path]

    def test_nan_is_no_json(self, tmp_path: Path) -> None:
        with pytest.raises(ValueError):
            write_json(tmp_path / "f.json", {"a": float("nan")})
        assert not list(tmp_path.iterdir())
        write_json(tmp_path / "f.json", {"a": 1})
        assert json.loads((tmp_path / "f.json").read_text()) == {"a": 1}


class TestRegularFilesOnly:
    def refused(self, path: Path, why: str) -> None:
        for use in (check_writable, write):
            with pytest.raises(UserError, match=why) as caught:
                use(path)
            assert "\n" not in str(caught.value) and str(path) in str(caught.value)

    def test_a_pipe_and_a_socket(self, tmp_path: Path) -> None:
        os.mkfifo(tmp_path / "pipe")
        with socket.socket(socket.AF_UNIX) as server:
            server.bind(str(tmp_path / "socket"))
            for name in ("pipe", "socket"):
                before = (tmp_path / name).stat()
                self.refused(tmp_path / name, "is a device, a pipe or a socket; accepted is the name of a regular or a new file")
                assert (tmp_path / name).stat().st_ino == before.st_ino

    def test_a_device(self, tmp_path: Path) -> None:
        """Nothing is written here: a mistake would cost the tester's machine its device."""
        (tmp_path / "link").symlink_to("/dev/null")
        for path in (Path("/dev/null"), tmp_path / "link"):
            with pytest.raises(UserError, match=f"cannot write {path}: it is a device"):
                check_writable(path)

    def test_folders(self, tmp_path: Path) -> None:
        self.refused(tmp_path, "Is a directory")
        (tmp_path / "file").write_text("mine")
        self.refused(tmp_path / "file" / "below", "Not a directory")
        assert (tmp_path / "file").read_text() == "mine"

    def test_a_link_keeps_pointing_to_its_file(self, tmp_path: Path) -> None:
        (tmp_path / "there").mkdir()
        for name in ("old", "new"):
            (tmp_path / name).symlink_to(tmp_path / "there" / name)
        (tmp_path / "there" / "old").write_text("before")
        for name in ("old", "new"):
            check_writable(tmp_path / name)
            write(tmp_path / name, "after")
            assert (tmp_path / name).is_symlink() and (tmp_path / "there" / name).read_text() == "after"
        (tmp_path / "loop").symlink_to(tmp_path / "loop")
        self.refused(tmp_path / "loop", "cannot write")


class TestLeftOver:
    @pytest.fixture
    def left(self, tmp_path: Path) -> Path:
        """A folder in which a writer of `search.png` was killed."""
        killed = subprocess.run([sys.executable, "-c", KILLED, str(tmp_path / "search.png")], check=False)
        assert killed.returncode == -signal.SIGKILL
        (path,) = tmp_path.iterdir()
        assert path.name.startswith(".search.png.") and path.suffix == ".png"
        return tmp_path

    def test_the_next_write_deletes_it(self, left: Path) -> None:
        write(left / "search.png")
        assert [path.name for path in left.iterdir()] == ["search.png"]

    def test_files_of_others_stay(self, left: Path) -> None:
        names = {".search.png.abcdefgh.png", ".search.png.diffnag-writing-notes.png", ".other.png.diffnag-writing-abcdefgh.png"}
        for name in names:
            (left / name).write_text("mine")
        (left / "target").write_text("mine")
        (left / ".search.png.diffnag-writing-linkedto.png").symlink_to(left / "target")
        write(left / "search.png")
        assert {path.name for path in left.iterdir()} == {*names, "search.png", "target", ".search.png.diffnag-writing-linkedto.png"}

    def test_what_is_being_written_stays(self, tmp_path: Path) -> None:
        path = tmp_path / "f.txt"
        with written_whole(path) as slow:
            slow.write_text("slow")
            thread = threading.Thread(target=write, args=(path, "fast"))
            thread.start()
            thread.join()
            assert path.read_text() == "fast" and slow.is_file()
        assert path.read_text() == "slow" and list(tmp_path.iterdir()) == [path]

    def test_a_file_deleted_before_it_was_locked_is_made_anew(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        lock, seen = files.take_lock, []

        def late(handle: int, *, wait: bool = True) -> bool:
            if not seen:
                (path,) = tmp_path.iterdir()
                path.unlink()
                seen.append(path)
            return lock(handle, wait=wait)

        monkeypatch.setattr(files, "take_lock", late)
        write(tmp_path / "f.txt")
        assert seen and (tmp_path / "f.txt").read_text() == "new"

    def test_without_locks_nothing_is_deleted(self, left: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(files, "take_lock", lambda handle, *, wait=True: False)
        before = set(left.iterdir())
        write(left / "search.png")
        assert set(left.iterdir()) == {*before, left / "search.png"}


class TestFullDisk:
    @pytest.fixture(autouse=True)
    def small(self) -> Iterator[None]:
        """No file may grow beyond 64 KiB: the error is as on a full disk."""
        before = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (2**16, before[1]))
        yield
        resource.setrlimit(resource.RLIMIT_FSIZE, before)

    @pytest.mark.parametrize("library", ["text", "torch", "torch-file", "safetensors", "numpy"])
    def test_one_sentence_and_the_old_file_stays(self, library: str, tmp_path: Path) -> None:
        path, large = tmp_path / "f.npz", torch.zeros(2**16) + torch.arange(2**16)
        path.write_text("old")
        with pytest.raises(UserError, match=rf"cannot write {path}: File too large"), written_whole(path) as temporary:
            if library == "text":
                temporary.write_text("x" * 2**17)
            elif library == "torch":
                torch.save({"a": large}, temporary)
            elif library == "safetensors":
                save_file({"a": large}, temporary)
            else:
                with temporary.open("wb") as file:
                    torch.save({"a": large}, file) if library == "torch-file" else np.savez(file, a=large.numpy())
        assert path.read_text() == "old" and list(tmp_path.iterdir()) == [path]

    def test_other_errors_stay_what_they_are(self, tmp_path: Path) -> None:
        with pytest.raises(RuntimeError, match="mine"), written_whole(tmp_path / "f"):
            try:
                raise FileNotFoundError(2, "elsewhere")
            except OSError as error:
                raise RuntimeError("mine") from error


def test_arrays_are_read_from_regular_files_only(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.npz")
    with pytest.raises(UserError, match=r"there is no file .*pipe.npz; expected is an .npz file with a and b"):
        read_arrays(tmp_path / "pipe.npz", "a", "b")
    np.save(tmp_path / "one.npy", np.zeros(3))
    np.savez(tmp_path / "objects.npz", a=np.array([{}], dtype=object), b=np.zeros(1))
    np.savez(tmp_path / "less.npz", a=np.zeros(1))
    for name in ("one.npy", "objects.npz", "less.npz"):
        with pytest.raises(UserError, match=rf"{name} is no .npz file with a and b") as caught:
            read_arrays(tmp_path / name, "a", "b")
        assert "\n" not in str(caught.value)
