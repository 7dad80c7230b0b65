"""Copies of this process to try things in: each continues bit for bit from here, and nothing of it comes back
but its answer."""

import multiprocessing
import signal
import traceback
from collections.abc import Callable, Iterator, Sequence
from multiprocessing.connection import Connection, wait
from multiprocessing.context import ForkProcess
from typing import Any

Answer = dict[str, Any]
Task = Callable[[], Answer]


class BranchError(RuntimeError):
    """A branch failed; the message carries its traceback."""


def branches(tasks: Sequence[Task], jobs: int) -> Iterator[tuple[int, Answer]]:
    """Run each task in a copy of this process, at most `jobs` at a time; (number, answer) in the order of their end.

    A copy by fork is exact whatever state there is, and costs no time for what it does not change. Leaving the
    iterator early, also by Ctrl-C, ends the copies.
    """
    fork = multiprocessing.get_context("fork")
    running: dict[Connection, tuple[int, ForkProcess]] = {}
    todo = list(enumerate(tasks))[::-1]
    try:
        while todo or running:
            while todo and len(running) < jobs:
                number, task = todo.pop()
                ours, theirs = fork.Pipe(duplex=False)
                process = fork.Process(target=_run, args=(task, theirs), daemon=True)
                process.start()
                theirs.close()
                running[ours] = (number, process)
            for ready in wait(list(running)):
                assert isinstance(ready, Connection)
                number, process = running.pop(ready)
                yield number, _answer(ready, process)
    finally:
        for _, process in running.values():
            process.kill()
            process.join()


def _run(task: Task, out: Connection) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent hears it and ends us
    try:
        out.send(task())
    except Exception:
        out.send(traceback.format_exc())


def _answer(ready: Connection, process: ForkProcess) -> Answer:
    try:
        said = ready.recv()
    except EOFError:
        said = "it died"
    finally:
        ready.close()
        process.join()
    if isinstance(said, str):
        raise BranchError(f"a branch failed ({process.exitcode}): {said}")
    answer: Answer = said
    return answer
