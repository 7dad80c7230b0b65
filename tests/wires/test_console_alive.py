"""`headroom run` with its console: two processes, of which one may die without the other noticing."""

import os
import re
import signal
from pathlib import Path

import httpx2
import pytest
from helpers_programs import free_port
from helpers_run import Process, Town

pytestmark = pytest.mark.usefixtures("warm_kernels")


async def test_the_controller_runs_on_when_its_console_dies_and_takes_it_along_when_it_dies_itself(
    tmp_path: Path,
) -> None:
    port = free_port()
    async with Town(tmp_path) as town:
        await town.controller.kill()
        where = ("--state", str(town.state), "--listen", f"127.0.0.1:{port}")
        town.controller = await town.start(Process("run", str(town.path), "--json", "--stop-within", "2", *where))
        url = f"http://127.0.0.1:{port}"
        await town.until(lambda: town.controller.lines and ready(url) == 200, 60)
        assert re.search(rf"console: {url}/  first user admin, password \S{{20}}", town.controller.said)
        console = console_of(town.controller.pid)
        failed, late, began = town.frame["failed_cycles"], town.frame["late_cycles"], town.frame["cycle"]
        os.kill(console, signal.SIGKILL)
        await town.until(lambda: town.frame["cycle"] >= began + 5, 30)
        assert (town.frame["failed_cycles"], town.frame["late_cycles"]) == (failed, late)
        await town.until(lambda: ready(url) == 200, 60)  # started again
        assert console_of(town.controller.pid) != console
        await town.controller.kill()
        await town.until(lambda: ready(url) == 0, 10)


def ready(url: str) -> int:
    """Status of /readyz, 0 where nobody answers."""
    try:
        return int(httpx2.get(f"{url}/readyz", timeout=1.0).status_code)
    except httpx2.HTTPError:
        return 0


def console_of(pid: int) -> int:
    """The console among the child processes of a controller."""
    tasks = Path(f"/proc/{pid}/task").glob("*/children")
    children = {int(word) for task in tasks for word in task.read_text().split()}
    (console,) = (child for child in children if b"\0console\0" in Path(f"/proc/{child}/cmdline").read_bytes())
    return console
