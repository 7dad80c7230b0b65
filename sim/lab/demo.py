"""`headroom demo`: broker, plant, controller and console as real processes on real sockets, shown live and scored."""

import asyncio
import ctypes
import json
import signal
import sys
import tempfile
from collections.abc import Callable
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import IO, Any

from rich.console import RenderableType

from controller import view
from controller.console import cli as console
from controller.console.child import Child
from drivers.clock import RealClock
from drivers.site.load import resolve_site
from drivers.supervise import Outlet
from sim.lab.broker import Broker
from sim.lab.score import Score

START_S = 120.0  # first compile included
STOP_S = 5.0
RESTART_S = 1.0
PR_SET_PDEATHSIG = 1
LINE_LIMIT = 1 << 20
NO_CONSOLE = "none"
PLANT = "plant.sock"  # the plant's control socket
Take = Callable[[dict[str, Any]], None]
Shown = tuple[dict[str, Any], dict[str, Any] | None]


class DemoError(RuntimeError):
    """The demo cannot go on; the message carries what the failed process said."""


def run_demo(
    name: str, scenario: str, seed: int, for_s: float | None, as_json: bool, listen: str = NO_CONSOLE
) -> dict[str, Any]:
    """Run until `for_s` seconds after the first cycle, or Ctrl-C; the summary. DemoError, BrokerError on failure.

    The console listens on `listen`, ConsoleError where that does not do.
    """
    site = resolve_site(name)
    score = Score(site.control.envelope_w)
    with Broker(site.mqtt.port) as broker, tempfile.TemporaryDirectory(prefix="headroom-demo-") as place:
        folder = Path(place)
        demo, note = _Demo(name, scenario, seed, folder, score, broker), ""
        with ExitStack() as stack:
            if listen != NO_CONSOLE:
                note = console.welcome(folder, console.where(listen))
                args = ("console", name, "--listen", listen, "--state", place, "--plant", str(folder / PLANT))
                stack.enter_context(Child(*args))
            show = stack.enter_context(_Shown(as_json, note))
            asyncio.run(demo.run(for_s, show))
    return score.summary()


class _Demo:
    """The two processes and what they say."""

    def __init__(self, name: str, scenario: str, seed: int, folder: Path, score: Score, broker: Broker) -> None:
        self._plant = (
            "sim",
            name,
            "--scenario",
            scenario,
            "--seed",
            str(seed),
            "--json",
            "--control",
            str(folder / PLANT),
        )
        self._controller = ("run", name, "--json", "--state", str(folder), "--stop-within", "2", "--no-console")
        self._folder, self._score, self._broker = folder, score, broker
        self._clock = RealClock()
        self._stop = asyncio.Event()
        self._cycling = asyncio.Event()
        self._truth: dict[str, Any] | None = None

    async def run(self, for_s: float | None, show: Callable[[dict[str, Any], dict[str, Any] | None], None]) -> None:
        loop = asyncio.get_running_loop()
        for sig in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(sig, self._stop.set)
        self._show = show
        tasks = [
            asyncio.ensure_future(self._keep("plant", self._plant, self._on_truth, restart=False)),
            asyncio.ensure_future(self._keep("controller", self._controller, self._on_frame, restart=True)),
            asyncio.ensure_future(self._until(for_s)),
            asyncio.ensure_future(self._watch_broker()),
        ]
        try:
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _until(self, for_s: float | None) -> None:
        """Return when the time is up or somebody asked to stop."""
        stopped = asyncio.ensure_future(self._stop.wait())
        cycling = asyncio.ensure_future(self._cycling.wait())
        await asyncio.wait([stopped, cycling], timeout=START_S, return_when=asyncio.FIRST_COMPLETED)
        if not (self._stop.is_set() or self._cycling.is_set()):
            raise DemoError(f"no cycle within {START_S:.0f} s; see {self._folder}")
        with suppress(TimeoutError):
            await asyncio.wait_for(self._stop.wait(), for_s)

    async def _watch_broker(self) -> None:
        """Start the broker again when it dies, as a service manager does."""
        while True:
            await self._clock.sleep_until(self._clock.now_s() + RESTART_S)
            if await asyncio.to_thread(self._broker.revive):
                print("the broker died, it was started again", file=sys.stderr)

    async def _keep(self, what: str, args: tuple[str, ...], take: Take, restart: bool) -> None:
        """Run a process and read its lines; start the controller again when it dies, as a service manager does."""
        while True:
            log = self._folder / f"{what}.log"
            with log.open("ab") as errors:  # what an earlier one said before it died stays
                process = await spawn(args, errors)
            try:
                await self._read(process, take)
                await process.wait()
            finally:
                await end(process)
            text = log.read_text(errors="replace").strip()[-2000:]
            if not restart or not self._cycling.is_set():
                raise DemoError(f"the {what} stopped: {text or process.returncode}")
            print(f"the {what} died ({process.returncode}), starting it again. {text}", file=sys.stderr)
            await self._clock.sleep_until(self._clock.now_s() + RESTART_S)

    async def _read(self, process: asyncio.subprocess.Process, take: Take) -> None:
        assert process.stdout is not None
        async for line in process.stdout:
            if line.startswith(b"{"):
                take(json.loads(line))

    def _on_truth(self, truth: dict[str, Any]) -> None:
        self._truth = truth
        self._score.take_truth(truth)

    def _on_frame(self, frame: dict[str, Any]) -> None:
        self._score.take_frame(frame)
        self._cycling.set()
        self._show(frame, self._truth)


async def spawn(args: tuple[str, ...], errors: IO[bytes]) -> asyncio.subprocess.Process:
    """Start one of our own commands; it dies with us even when we are killed."""
    return await asyncio.create_subprocess_exec(
        sys.executable,
        "-c",
        "from drivers.cli import main; main()",
        *args,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=errors,
        limit=LINE_LIMIT,
        start_new_session=True,
        preexec_fn=_die_with_parent,
    )


def _die_with_parent() -> None:
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


async def end(process: asyncio.subprocess.Process) -> None:
    """Ask a process to stop, then make it."""
    if process.returncode is not None:
        return
    process.terminate()
    try:
        await asyncio.wait_for(process.wait(), STOP_S)
    except TimeoutError:
        process.kill()
        await process.wait()


class _Shown:
    """A live screen on a terminal, a line a second elsewhere, on standard error for `--json`; nobody waits for it."""

    def __init__(self, as_json: bool, note: str = "") -> None:
        on_screen = sys.stdout.isatty() and not as_json
        stream = sys.stderr if as_json else sys.stdout
        if note and not on_screen:
            print(note, file=sys.stderr, flush=True)

        def drawn(shown: Shown) -> RenderableType:
            return view.screen(*shown, note)

        self._outlet: Outlet[Shown] = Outlet(lambda: view.live(drawn) if on_screen else view.lines(_line, stream))

    def __enter__(self) -> Callable[[dict[str, Any], dict[str, Any] | None], None]:
        return lambda frame, truth: self._outlet.put((frame, truth))

    def __exit__(self, *exc: object) -> None:
        self._outlet.close()


def _line(shown: Shown) -> str:
    frame, truth = shown
    true = view.mw(truth["site_power_w"] if truth else None)
    return f"{view.line(frame)}  true {true} MW"
