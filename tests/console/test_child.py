"""The console beside a controller: it comes back when it dies, and goes when the controller goes."""

import os
import signal
import socket
from collections.abc import Callable
from pathlib import Path

import pytest
from helpers_programs import free_port

from controller.console.child import Child
from drivers.clock import RealClock

CLOCK = RealClock()


def listens(port: int) -> bool:
    with socket.socket() as probe:
        probe.settimeout(0.2)
        return probe.connect_ex(("127.0.0.1", port)) == 0


def until(condition: Callable[[], bool], seconds: float = 30.0) -> None:
    end_s = CLOCK.now_s() + seconds
    while not condition():
        assert CLOCK.now_s() < end_s


def test_a_console_that_dies_is_started_again_and_ends_with_us(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    port = free_port()
    with Child("console", "hall", "--listen", f"127.0.0.1:{port}", "--state", str(tmp_path)) as child:
        until(lambda: listens(port))
        first = child._process
        assert first is not None
        os.kill(first.pid, signal.SIGKILL)
        until(lambda: child._process is not first)
        until(lambda: listens(port))
        assert "control goes on" in caplog.text
    assert not listens(port)


def test_a_console_that_cannot_start_waits_ever_longer(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A port that is taken costs the controller a line in its log, nothing else."""
    with (
        socket.socket() as taken,
        Child("console", "hall", "--listen", f"127.0.0.1:{_bound(taken)}", "--state", str(tmp_path)),
    ):
        until(lambda: "starting it again" in caplog.text)


def _bound(taken: socket.socket) -> int:
    taken.bind(("127.0.0.1", 0))
    taken.listen()
    return int(taken.getsockname()[1])
