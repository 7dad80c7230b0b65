"""A site as real processes on free ports of the loopback interface: broker, plant and controller."""

import asyncio
import ctypes
import json
import os
import signal
import sys
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any, Self

from helpers_programs import free_port

from drivers.clock import RealClock
from drivers.site.load import resolve_site
from drivers.site.model import Site
from drivers.site.write import write_site
from sim.lab.broker import Broker, Kind

TTL_S, DECAY_S = 5.0, 2.0  # shorter than a site's, so that a test waits less; steeper ramps for the same reason
QUICK = {"lease_ttl_s": TTL_S, "lease_decay_s": DECAY_S, "ramp_up_w_per_s": 5e4, "ramp_down_w_per_s": 1e5}
MAIN = "from drivers.cli import main; main()"
LINE_LIMIT = 1 << 20
PR_SET_PDEATHSIG = 1


def on_free_ports(name: str, **control: float) -> Site:
    """A built-in site with every port moved to a free one, and short leases unless `control` says otherwise."""
    site = resolve_site(name)
    used = sorted({d.port for d in site.devices if d.port} | {g.port for g in site.gateways} | {site.mqtt.port})
    moved = dict(zip(used, (free_port() for _ in used), strict=True))
    return site.model_copy(
        update={
            "control": site.control.model_copy(update=QUICK | control),
            "mqtt": site.mqtt.model_copy(update={"port": moved[site.mqtt.port]}),
            "gateways": tuple(g.model_copy(update={"port": moved[g.port]}) for g in site.gateways),
            "devices": tuple(d.model_copy(update={"port": moved.get(d.port, 0)}) for d in site.devices),
        }
    )


class Process:
    """One of our commands; its JSON lines, newest last, and what it said on standard error."""

    def __init__(self, *args: str) -> None:
        self._args = args
        self.lines: list[dict[str, Any]] = []
        self.said = ""

    async def start(self) -> None:
        """Start it, reading its lines in the background; it dies with the tests, even when these are killed."""
        self._process = await asyncio.create_subprocess_exec(
            sys.executable, "-c", MAIN, *self._args,
            stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
            limit=LINE_LIMIT, preexec_fn=_die_with_parent,
        )  # fmt: skip
        self._reader = asyncio.gather(self._read(), self._listen())

    async def _read(self) -> None:
        assert self._process.stdout is not None
        async for line in self._process.stdout:
            if line.startswith(b"{"):
                self.lines.append(json.loads(line))

    async def _listen(self) -> None:
        assert self._process.stderr is not None
        async for line in self._process.stderr:
            self.said += line.decode(errors="replace")

    @property
    def pid(self) -> int:
        """Its process number."""
        return self._process.pid

    @property
    def running(self) -> bool:
        """Whether it still runs."""
        return self._process.returncode is None

    def stop_reading(self) -> None:
        """Close our ends of its pipes, as a reader that goes away does."""
        for pipe in (1, 2):
            transport = self._process._transport.get_pipe_transport(pipe)  # type: ignore[attr-defined]
            transport.close()

    async def end(self, within_s: float = 30.0) -> int:
        """Wait until it ends by itself; its exit status. TimeoutError when it does not."""
        status = await asyncio.wait_for(self._process.wait(), within_s)
        await self._reader
        return status

    async def kill(self, sign: int = signal.SIGKILL) -> int:
        """End it and wait; its exit status."""
        if self.running:
            os.kill(self.pid, sign)
        return await self.end()


def _die_with_parent() -> None:
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


class Town:
    """Broker, plant and controller of a site, each of which can be killed and started again."""

    def __init__(
        self, folder: Path, name: str = "hall", scenario: str = "nameplate", kind: Kind = "nats", **control: float
    ) -> None:
        self.site = on_free_ports(name, **control)
        self.path = folder / "site"
        write_site(self.site, self.path)
        self.state = folder / "state"
        self.broker = Broker(self.site.mqtt.port, kind)
        self.plant = self.new_plant(scenario)
        self.controller = self.new_controller()
        self._clock = RealClock()
        self._stack = AsyncExitStack()

    def new_plant(self, scenario: str = "nameplate") -> Process:
        """A plant that is not running yet."""
        return Process("sim", str(self.path), "--scenario", scenario, "--json")

    def new_controller(self) -> Process:
        """A controller that is not running yet."""
        state = str(self.state)
        return Process("run", str(self.path), "--json", "--state", state, "--stop-within", "2", "--no-console")

    async def __aenter__(self) -> Self:
        async with AsyncExitStack() as stack:  # a start that fails leaves nothing running
            stack.enter_context(self.broker)
            for process in (self.plant, self.controller):
                await self.start(process, stack)
                await self.until(lambda one=process: one.lines or not one.running, 60)
                assert process.lines, process.said
            self._stack = stack.pop_all()
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self._stack.aclose()

    async def start(self, process: Process, stack: AsyncExitStack | None = None) -> Process:
        """Start a process that ends with the town at the latest."""
        await process.start()
        (stack or self._stack).push_async_callback(process.kill)
        return process

    async def restart_controller(self) -> None:
        """A new controller on the same state directory."""
        self.controller = await self.start(self.new_controller())

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
