"""Foreign programs that tests talk to, and ports for them."""

import os
import shutil
import socket
from itertools import count
from pathlib import Path
from typing import NoReturn

import pytest

FIRST_PORT, PORTS_PER_WORKER, WORKERS = 20_000, 700, 16  # ends at 31,200: below Linux's ephemeral ports (32,768)
NPM = Path(__file__).parent / "npm"
_turn = count(os.getpid())  # two runs on one machine begin at different places


def free_port() -> int:
    """A TCP port that nobody uses now, never given twice soon, from a range of this xdist worker's own.

    Not an ephemeral one: any outgoing connection could take that before its server does.
    """
    worker = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw")) % WORKERS
    for _ in range(PORTS_PER_WORKER):
        port = FIRST_PORT + worker * PORTS_PER_WORKER + next(_turn) % PORTS_PER_WORKER
        with socket.socket() as probe:
            try:
                probe.bind(("", port))  # any address: the plant listens on all of them
            except OSError:
                continue
            return port
    raise OSError(f"worker {worker} has no free port")


def need_program(name: str, package: str) -> str:
    """Path of a program; without it the test skips and names the package, and fails where CI=true."""
    path = shutil.which(name)
    if path is None:
        _missing(f"the program {name} is missing: apt-get install {package}")
    return path


def need_npm(package: str, script: str) -> list[str]:
    """Command that runs a script of tests/npm, which uses that npm package; missing: as need_program."""
    node = need_program("node", "nodejs npm")
    if not (NPM / "node_modules" / package).is_dir():
        _missing(f"the npm package {package} is missing: npm ci --prefix tests/npm --omit=optional --ignore-scripts")
    return [node, str(NPM / script)]


def _missing(message: str) -> NoReturn:
    if os.environ.get("CI") == "true":
        pytest.fail(message)
    pytest.skip(message)
