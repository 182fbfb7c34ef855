"""A PostgreSQL server of our own on this machine's loopback, for tests and experiments."""

from __future__ import annotations

import getpass
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

DEBIAN = Path("/usr/lib/postgresql")


class NoServer(Exception):
    """No server can be started here; says why."""


@contextmanager
def running_server() -> Iterator[str]:
    """Yield the address of an empty database of a server that runs as an unprivileged user; raises `NoServer`."""
    programs = _programs()
    as_root = os.geteuid() == 0
    who: dict[str, Any] = {"user": "nobody", "group": "nogroup", "extra_groups": ()} if as_root else {}
    folder = Path(tempfile.mkdtemp(prefix="diffnag-postgresql-"))
    process = None
    try:
        if as_root:
            shutil.chown(folder, "nobody", "nogroup")
        about = {"cwd": folder, "env": {**os.environ, "HOME": str(folder), "LC_ALL": "C"}, **who}
        made = subprocess.run(
            [programs / "initdb", "-D", folder / "data", "-U", "diffnag", "-A", "trust", "--no-sync"],
            capture_output=True, text=True, check=False, **about,
        )  # fmt: skip
        if made.returncode:
            raise NoServer(f"initdb fails here as {who.get('user', getpass.getuser())}: {made.stderr.strip().splitlines()[-1]}")
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        settings = {"listen_addresses": "127.0.0.1", "port": port, "unix_socket_directories": folder, "fsync": "off"}
        flags = [text for key, setting in settings.items() for text in ("-c", f"{key}={setting}")]
        with (folder / "log").open("w") as log:
            process = subprocess.Popen([programs / "postgres", "-D", folder / "data", *flags], stdout=log, stderr=log, **about)
        address = f"postgresql://diffnag@127.0.0.1:{port}/postgres"
        _wait_for(address, process, folder / "log")
        yield address
    finally:
        if process is not None:
            process.send_signal(signal.SIGINT)  # a fast shutdown
            process.wait(30)
        shutil.rmtree(folder, ignore_errors=True)


def new_database(server: str, name: str) -> str:
    """Make a database on the server and return its URL as a storage."""
    import psycopg

    with psycopg.connect(server, autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name}")
    return server.replace("postgresql:", "postgresql+psycopg:").replace("/postgres", f"/{name}")


def _programs() -> Path:
    """The folder with `initdb` and `postgres`."""
    found = shutil.which("initdb")
    versions = sorted(DEBIAN.glob("*/bin/initdb"), key=lambda path: int(path.parts[-3]) if path.parts[-3].isdigit() else 0)
    if not found and not versions:
        raise NoServer("no PostgreSQL server here: apt-get install postgresql")
    return Path(found).resolve().parent if found else versions[-1].parent


def _wait_for(address: str, process: subprocess.Popen[bytes], log: Path) -> None:
    """Wait until the server answers."""
    import psycopg

    until = time.monotonic() + 60
    while True:
        try:
            psycopg.connect(address).close()
            return
        except psycopg.OperationalError as error:
            if process.poll() is not None or time.monotonic() > until:
                raise NoServer(f"the PostgreSQL server does not start here: {log.read_text().strip().splitlines()[-1]}") from error
            time.sleep(0.1)
