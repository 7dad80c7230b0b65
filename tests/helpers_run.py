"""A site as real processes on free ports of the loopback interface: broker, plant and controller."""

import asyncio
import json
import os
import signal
import socket
import sys
from pathlib import Path
from typing import Any, Self

from drivers.clock import RealClock
from drivers.site.load import resolve_site
from drivers.site.model import Site
from drivers.site.write import write_site
from sim.lab.broker import Broker, Kind

TTL_S, DECAY_S = 5.0, 2.0  # shorter than a site's, so that a test waits less; steeper ramps for the same reason
QUICK = {"lease_ttl_s": TTL_S, "lease_decay_s": DECAY_S, "ramp_up_w_per_s": 5e4, "ramp_down_w_per_s": 1e5}
MAIN = "from drivers.cli import main; main()"
LINE_LIMIT = 1 << 20


def free_ports(count: int) -> list[int]:
    """TCP ports that nobody uses now, all different."""
    sockets = [socket.socket() for _ in range(count)]
    for sock in sockets:
        sock.bind(("127.0.0.1", 0))
    ports = [sock.getsockname()[1] for sock in sockets]
    for sock in sockets:
        sock.close()
    return ports


def on_free_ports(name: str) -> Site:
    """A built-in site with every port moved to a free one, and short leases."""
    site = resolve_site(name)
    used = sorted({d.port for d in site.devices if d.port} | {g.port for g in site.gateways} | {site.mqtt.port})
    moved = dict(zip(used, free_ports(len(used)), strict=True))
    return site.model_copy(
        update={
            "control": site.control.model_copy(update=QUICK),
            "mqtt": site.mqtt.model_copy(update={"port": moved[site.mqtt.port]}),
            "gateways": tuple(g.model_copy(update={"port": moved[g.port]}) for g in site.gateways),
            "devices": tuple(d.model_copy(update={"port": moved.get(d.port, 0)}) for d in site.devices),
        }
    )


class Process:
    """One of our commands; its JSON lines, newest last."""

    def __init__(self, *args: str) -> None:
        self._args = args
        self.lines: list[dict[str, Any]] = []

    async def start(self) -> None:
        """Start it, reading its lines in the background."""
        self._process = await asyncio.create_subprocess_exec(
            sys.executable, "-c", MAIN, *self._args,
            stdout=asyncio.subprocess.PIPE, limit=LINE_LIMIT,
        )  # fmt: skip
        self._reader = asyncio.ensure_future(self._read())

    async def _read(self) -> None:
        assert self._process.stdout is not None
        async for line in self._process.stdout:
            if line.startswith(b"{"):
                self.lines.append(json.loads(line))

    async def kill(self, sign: int = signal.SIGKILL) -> int:
        """End it and wait; its exit status."""
        if self._process.returncode is None:
            os.kill(self._process.pid, sign)
        status = await self._process.wait()
        await self._reader
        return status


class Town:
    """Broker, plant and controller of a site, each of which can be killed and started again."""

    def __init__(self, folder: Path, name: str = "hall", scenario: str = "nameplate", kind: Kind = "nats") -> None:
        self.site = on_free_ports(name)
        self.path = folder / "site"
        write_site(self.site, self.path)
        self.state = folder / "state"
        self.broker = Broker(self.site.mqtt.port, kind)
        self.plant = Process("sim", str(self.path), "--scenario", scenario, "--json")
        self.controller = self.new_controller()
        self._clock = RealClock()

    def new_controller(self) -> Process:
        """A controller that is not running yet."""
        return Process("run", str(self.path), "--json", "--state", str(self.state), "--stop-within", "2")

    async def __aenter__(self) -> Self:
        self.broker.__enter__()
        await self.plant.start()
        await self.until(lambda: bool(self.plant.lines), 60)
        await self.controller.start()
        await self.until(lambda: bool(self.controller.lines), 60)
        return self

    async def __aexit__(self, *exc: object) -> None:
        for process in (self.controller, self.plant):
            await process.kill()
        self.broker.__exit__(None, None, None)

    async def restart_controller(self) -> None:
        """A new controller on the same state directory."""
        self.controller = self.new_controller()
        await self.controller.start()

    async def wait(self, seconds: float) -> None:
        """Let real time pass."""
        await self._clock.sleep_until(self._clock.now_s() + seconds)

    async def until(self, condition: Any, seconds: float) -> None:
        """Wait for a condition; AssertionError when it does not come true in time."""
        end_s = self._clock.now_s() + seconds
        while not condition():
            assert self._clock.now_s() < end_s, f"not within {seconds} s: {condition}"
            await self.wait(0.1)

    @property
    def truth(self) -> dict[str, Any]:
        """The plant's newest truth."""
        return self.plant.lines[-1]

    @property
    def frame(self) -> dict[str, Any]:
        """The controller's newest frame."""
        return self.controller.lines[-1]
