"""The console beside a controller at full size: what 20 browsers cost, and what they cost the cycle."""

import asyncio
import json
import os
import tempfile
import zlib
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
from websockets.asyncio.client import connect

from controller import form
from controller.console.accounts import Accounts, Role
from drivers.clock import RealClock
from drivers.site.load import resolve_site
from sim.lab.broker import Broker, free_port
from sim.lab.demo import end, spawn

CLIENTS = 20
SETTLE_S, WINDOW_S = 30.0, 60.0
START_S = 120.0
TICKS = os.sysconf("SC_CLK_TCK")


class _Window:
    """What is seen in one stretch of time."""

    def __init__(self) -> None:
        self.jitter_ms: list[float] = []
        self.push_ms: list[float] = []


async def _bench(name: str, say: Callable[[str], None]) -> dict[str, Any]:
    site, clock, port = resolve_site(name), RealClock(), free_port()
    window, cycles = _Window(), 0

    async def read(process: asyncio.subprocess.Process) -> None:
        nonlocal cycles
        assert process.stdout is not None
        async for line in process.stdout:
            if line.startswith(b"{"):
                cycles += 1
                window.jitter_ms.append(json.loads(line)["jitter_ms"])

    def took(ms: float) -> None:
        window.push_ms.append(ms)

    async def wait(seconds: float) -> None:
        await clock.sleep_until(clock.now_s() + seconds)

    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="headroom-bench-")))
        stack.enter_context(Broker(site.mqtt.port))
        log = stack.enter_context((folder / "log").open("ab"))
        (folder / "console").mkdir(mode=0o700)
        accounts = Accounts(folder / "console")
        accounts.first_password()
        token = accounts.new_token("admin", Role.VIEWER)
        commands = (
            ("sim", name, "--scenario", "surge", "--json"),
            ("run", name, "--json", "--state", str(folder), "--no-console", "--stop-within", "1"),
            ("console", name, "--state", str(folder), "--listen", f"127.0.0.1:{port}"),
        )
        processes = [await spawn(args, log) for args in commands]
        readers = [asyncio.ensure_future(read(processes[1])), asyncio.ensure_future(_drain(processes[0]))]
        try:
            until_s = clock.now_s() + START_S
            while not cycles and clock.now_s() < until_s:
                await wait(0.5)
            await wait(SETTLE_S)
            alone = window = _Window()
            say(f"without browsers, {WINDOW_S:.0f} s ..")
            await wait(WINDOW_S)
            first_s = await _first_page(port, token)
            looks = [asyncio.ensure_future(_look(port, token, took)) for _ in range(CLIENTS)]
            await wait(5.0)
            seen, console = _Window(), processes[2].pid
            window, cpu_s, began_s = seen, _cpu_s(console), clock.now_s()
            say(f"with {CLIENTS} browsers, {WINDOW_S:.0f} s ..")
            await wait(WINDOW_S)
            share = (_cpu_s(console) - cpu_s) / (clock.now_s() - began_s)
            metrics = (await _fetch(port, token, "/metrics"))[1].decode()
            for task in looks:
                task.cancel()
            await asyncio.gather(*looks, return_exceptions=True)
        finally:
            for task in readers:
                task.cancel()
            for process in reversed(processes):
                await end(process)
    lag = next(x for x in metrics.splitlines() if x.startswith("headroom_console_loop_lag_p99_seconds "))
    return {
        "site": name,
        "clients": CLIENTS,
        "first_page_s": first_s,
        "pictures_a_client": len(seen.push_ms) / CLIENTS,
        "push_ms_p99": float(np.percentile(seen.push_ms, 99)),
        "console_core_share": share,
        "loop_lag_ms_p99": 1000.0 * float(lag.split()[-1]),
        "cycle_jitter_ms_p99": float(np.percentile(seen.jitter_ms, 99)),
        "cycle_jitter_ms_p99_alone": float(np.percentile(alone.jitter_ms, 99)),
        "cycle_jitter_ms_p50": float(np.percentile(seen.jitter_ms, 50)),
        "cycle_jitter_ms_p50_alone": float(np.percentile(alone.jitter_ms, 50)),
    }


async def _look(port: int, token: str, took: Callable[[float], None]) -> None:
    """One browser: from the cycle's own time stamp until the picture is here."""
    clock, headers = RealClock(), {"Authorization": f"Bearer {token}"}
    async with connect(
        f"ws://127.0.0.1:{port}/v1/frames", additional_headers=headers, max_size=None, compression=None
    ) as socket:
        async for message in socket:
            if isinstance(message, bytes):
                now_ms = clock.wall_ms()
                took(now_ms - form.split(zlib.decompress(message))[0]["wall_ms"])


async def _first_page(port: int, token: str) -> float:
    """Seconds until a browser has all that the first page needs: the page, its programs, the site's tables [s]."""
    clock = RealClock()
    began_s = clock.now_s()
    paths, seen = ["/static/index.html"], set[str]()
    while paths:
        path = paths.pop()
        seen.add(path)
        _, body = await _fetch(port, token, path)
        if path.endswith((".html", ".js")):
            words = body.decode().replace("'", '"').split('"')
            found = {w.removeprefix(".").removeprefix("/static") for w in words if w.endswith((".js", ".css"))}
            paths += [p for w in found if (p := f"/static{w}") not in seen and p not in paths]
    await _fetch(port, token, "/v1/site")
    return clock.now_s() - began_s


async def _fetch(port: int, token: str, path: str) -> tuple[bytes, bytes]:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    lines = (f"GET {path} HTTP/1.1", "Host: console", f"Authorization: Bearer {token}", "Connection: close", "", "")
    writer.write("\r\n".join(lines).encode())
    head, _, body = (await reader.read(-1)).partition(b"\r\n\r\n")
    writer.close()
    if b" 200 " not in head.split(b"\r\n")[0]:
        raise RuntimeError(f"{path}: {head.splitlines()[0].decode()}")
    return head, body


async def _drain(process: asyncio.subprocess.Process) -> None:
    assert process.stdout is not None
    async for _ in process.stdout:
        pass


def _cpu_s(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS


def bench_console(say: Callable[[str], None], name: str = "colossus") -> dict[str, Any]:
    """Plant, controller and console of `name` as processes, without browsers and with 20."""
    return asyncio.run(_bench(name, say))
