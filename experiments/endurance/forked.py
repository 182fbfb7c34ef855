"""Commands in forks of one process that has imported everything: each starts at once, in its own session, with its own limits."""

from __future__ import annotations

import atexit
import contextlib
import gc
import os
import resource
import runpy
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, NoReturn

MEMORY = 6 * 2**30
"""Address space that a fork may take beyond that of its parent: what asks for more fails as on a small machine."""
COMMANDS = (
    "build_meta_dataset", "data", "device", "draw", "embed_datasets", "export", "generate", "likelihood", "list", "report", "search",
    "train_image_encoder", "train_latency", "train_predictor", "train_score", "train_supernet", "train_surrogate",
)  # fmt: skip
ENDLESS = -1000
"""Exit code of a command that did not end in time."""


@dataclass(frozen=True)
class Ended:
    """How a command ended."""

    exit_code: int
    stdout: str
    stderr: str
    seconds: float


def preload() -> None:
    """Import what commands import while they run."""
    import importlib
    import pkgutil

    import matplotlib.pyplot  # noqa: F401
    import onnx  # noqa: F401
    import onnxruntime  # noqa: F401
    import optuna
    import sklearn.ensemble  # noqa: F401
    import torch

    import diffnag
    from diffnag import plugins

    torch.set_num_threads(1)
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    for module in pkgutil.walk_packages(diffnag.__path__, "diffnag."):
        name = module.name.removeprefix("diffnag.")
        if name not in COMMANDS and not name.startswith("testing"):
            importlib.import_module(module.name)
    for name in ("alembic", "optuna.storages._rdb.models", "psycopg", "sqlalchemy.orm"):
        with contextlib.suppress(ImportError):
            importlib.import_module(name)
    plugins.registered()
    gc.collect()
    gc.freeze()


def run_command(module: str, args: Sequence[str], *, folder: Path, env: Mapping[str, str], seconds: float) -> Ended:
    """Run `python -m module args` in `folder`, for so many seconds at most."""
    return run_forked(lambda: _as_main(module, args), folder=folder, env=env, seconds=seconds)


def run_forked(call: Callable[[], object], *, folder: Path, env: Mapping[str, str], seconds: float) -> Ended:
    """Call a function in a fork, with its output in files."""
    begin = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="endurance-") as logs:
        process = start_forked(call, folder=folder, env=env, stdout=Path(logs) / "stdout", stderr=Path(logs) / "stderr")
        code = wait_for(process, seconds)
        texts = [(Path(logs) / name).read_text(errors="backslashreplace") for name in ("stdout", "stderr")]
    return Ended(code, texts[0], texts[1], time.monotonic() - begin)


def start_forked(call: Callable[[], object], *, folder: Path, env: Mapping[str, str], stdout: Path, stderr: Path) -> int:
    """Id of a new process that calls a function as a command would run it; it leads a session of its own."""
    sys.stdout.flush()
    sys.stderr.flush()
    process = os.fork()
    if process == 0:
        _child(call, folder=folder, env=env, stdout=stdout, stderr=stderr)
    return process


def wait_for(process: int, seconds: float) -> int:
    """The exit code of a process, negative for a signal; after so many seconds it is killed with all its session."""
    until, pause = time.monotonic() + seconds, 0.002
    while True:
        ended, status = os.waitpid(process, os.WNOHANG)
        if ended:
            kill_session(process)  # what it has left running
            return os.waitstatus_to_exitcode(status)
        if time.monotonic() > until:
            kill_session(process)
            os.waitpid(process, 0)
            return ENDLESS
        time.sleep(pause)
        pause = min(2 * pause, 0.05)


def kill_session(process: int) -> None:
    """Kill a process that leads a session, and what it has started."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process, signal.SIGKILL)


def _child(call: Callable[[], object], *, folder: Path, env: Mapping[str, str], stdout: Path, stderr: Path) -> NoReturn:
    code = 1
    try:
        atexit._clear()  # what the parent would do at its end, as taking away its temporary folders
        os.setsid()
        os.chdir(folder)
        os.environ.update(env)
        tempfile.tempdir = None
        _limit_memory()
        for path, number in ((os.devnull, 0), (stdout, 1), (stderr, 2)):
            handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_TRUNC, 0o666)
            os.dup2(handle, number)
            os.close(handle)
        sys.stdin, sys.stdout, sys.stderr = open(0, closefd=False), open(1, "w", closefd=False), open(2, "w", closefd=False)  # noqa: SIM115
        call()
        code = 0
    except SystemExit as left:
        code = left.code if isinstance(left.code, int) else 0 if left.code is None else 1
        if isinstance(left.code, str):
            print(left.code, file=sys.stderr)
    except BaseException:
        traceback.print_exc()
    finally:
        try:
            sys.stdout.flush()
            sys.stderr.flush()
        finally:
            os._exit(code)


def _limit_memory() -> None:
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + MEMORY, used + MEMORY))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def _as_main(module: str, args: Sequence[str]) -> None:
    sys.argv = [module, *args]
    sys.path.insert(0, str(Path.cwd()))
    runpy.run_module(module, run_name="__main__", alter_sys=True)


def run_search_command(args: Sequence[str]) -> None:
    """`python -m diffnag.search`, in this process."""
    _as_main("diffnag.search", args)


def train_command(args: Sequence[str]) -> None:
    """`python -m diffnag.train_score`, in this process; the state of the training is saved at every chance."""
    from diffnag.generators import training

    training.SAVE_EVERY_S = 0.05
    training.training_set = lambda space, split: known_training_set(space.name, split.name)
    _as_main("diffnag.train_score", args)


@cache
def known_training_set(space: str, split: str) -> tuple[Any, Any]:
    """`diffnag.generators.training.training_set`, once in the parent of all trainings."""
    from diffnag.generators.training import training_set
    from diffnag.spaces.loading import load_space
    from diffnag.spaces.split import CanonicalSplit

    return training_set(load_space(space), CanonicalSplit.named(split))
