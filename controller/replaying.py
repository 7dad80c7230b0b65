"""The two ways of `headroom replay`: as servers until Ctrl-C, or through the controller with a report."""

import asyncio
import json
import signal
from collections.abc import Callable
from pathlib import Path

from controller import feed
from controller.frames import Frames
from controller.plan import Plan
from controller.replay import Replay
from drivers.capture.playback import Playback
from drivers.capture.serve import ServeError, Servers, moved
from drivers.capture.tape import Tape, TapeError, open_tape, site_hash
from drivers.clock import RealClock
from drivers.site.model import Site
from drivers.site.write import write_site

Say = Callable[[str], object]


def opened(site: Site, file: Path) -> tuple[Tape, str]:
    """The recording, and what to know of it before use. TapeError when it is of another site."""
    tape = open_tape(file)
    if tape.header.site != site.name:
        raise TapeError(f"{file} is a recording of site {tape.header.site}, not of {site.name}")
    same = tape.header.hash == site_hash(site)
    return tape, "" if same else "the site's files have changed since the recording was made"


def into_controller(site: Site, file: Path, say: Say, *, frames: bool, as_json: bool) -> bool:
    """Play it through the controller and say what came of it; whether orders are as the controller recorded them."""
    tape, warning = opened(site, file)

    def show(plan: Plan, at: Frames, playback: Playback) -> None:
        say(json.dumps(feed.frame(plan, at, playback.health(), {})))

    replay = Replay(site, tape, show) if frames else Replay(site, tape)
    out = replay.run()
    out.faults += [warning] if warning else []
    if as_json:
        say(json.dumps(vars(out), indent=1))
    else:
        say("\n".join(out.lines))
    return not out.recorded_by_controller or out.equal == out.compared


def serve(site: Site, file: Path, speed: float, port: int, site_out: Path | None, say: Say) -> None:
    """Serve the recorded devices until SIGINT or SIGTERM. ServeError where that cannot be, TapeError for the file."""
    tape, warning = opened(site, file)
    here = moved(site, port)
    if here is not site and site_out is None:
        raise ServeError("its devices are not on this machine: `--site-out DIR` writes the site as it is served here")
    if site_out is not None:
        if site_out.exists():
            raise ServeError(f"{site_out} exists; give a new directory")
        write_site(here, site_out)
        say(f"wrote {site_out}: probe or run that site")
    if warning:
        say(f"note: {warning}")
    asyncio.run(_serve(Servers(here), tape, speed, say))


async def _serve(servers: Servers, tape: Tape, speed: float, say: Say) -> None:
    stop = asyncio.Event()
    for sign in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(sign, stop.set)
    await servers.start()
    say(f"{len(servers.memories)} devices at {len(servers.units)} addresses; Ctrl-C stops")
    playing = asyncio.ensure_future(servers.play(tape.entries(), RealClock(), speed))
    stopping = asyncio.ensure_future(stop.wait())
    try:
        await asyncio.wait((playing, stopping), return_when=asyncio.FIRST_COMPLETED)
        if playing.done():
            playing.result()
            say("\n".join(["the recording has ended: its last values stand until Ctrl-C", *tape.faults]))
            await stopping
    finally:
        playing.cancel()
        stopping.cancel()
        await asyncio.gather(playing, stopping, return_exceptions=True)
        await servers.stop()
        say(f"{servers.requests} requests answered")
