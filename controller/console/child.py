"""The console beside a controller: started as a process of its own, started again when it dies, never waited for."""

import ctypes
import logging
import os
import signal
import subprocess
import sys
import threading
from types import TracebackType
from typing import Self

from drivers.clock import perf_s
from drivers.supervise import Backoff

STOP_S = 5.0
WELL_S = 60.0  # a console that ran for so long begins again with the shortest wait
NICE = 5  # the cycle comes first
PR_SET_PDEATHSIG = 1

log = logging.getLogger(__name__)


class Child:
    """A command of ours for `with`: kept running until the end. What it says goes to our standard error."""

    def __init__(self, *args: str) -> None:
        self._args = [sys.executable, "-c", "from drivers.cli import main; main()", *args]
        self._stop = threading.Event()
        self._process: subprocess.Popen[bytes] | None = None
        self._thread = threading.Thread(target=self._keep, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        if self._process is not None:
            self._process.terminate()
        self._thread.join(STOP_S)
        if self._process is not None and self._process.poll() is None:
            self._process.kill()
            self._process.wait()

    def _keep(self) -> None:
        """The thread: the process dies with it, and with us even when we are killed (Linux)."""
        backoff, failures = Backoff(first_s=1.0, longest_s=30.0), 0
        while not self._stop.is_set():
            began_s = perf_s()
            try:
                status = str(self._run())
            except OSError as error:
                status = str(error)
            if self._stop.is_set():
                return
            failures = 1 if perf_s() - began_s > WELL_S else failures + 1
            wait_s = backoff.wait_s(failures)
            log.warning("the console ended (%s), starting it again in %.0f s; control goes on", status, wait_s)
            self._stop.wait(wait_s)

    def _run(self) -> int:
        self._process = subprocess.Popen(  # noqa: S603
            self._args,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            start_new_session=True,  # Ctrl-C is for us: the console goes last
            preexec_fn=_child,  # noqa: PLW1509  (two system calls, no lock)
        )
        return self._process.wait()


def _child() -> None:
    os.nice(NICE)
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
