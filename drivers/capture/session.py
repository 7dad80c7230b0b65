"""`headroom capture`: listen to a site and record it until told to stop."""

import asyncio
import signal
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from drivers.capture.recorder import Recorder
from drivers.clock import Clock
from drivers.listening import Listening
from drivers.modbus.ask import IDENTIFY, Line, NoAnswerError, read_pdu
from drivers.profile import Profile, load_profiles
from drivers.site.model import Site
from drivers.wires import Tap


@dataclass(frozen=True)
class Captured:
    """What was recorded, and what was not."""

    path: str
    seconds: float
    exchanges: int
    messages: int
    lost: int  # entries that the disk was too slow for or refused
    whole: bool  # the file was closed in order
    silent: tuple[str, ...]  # wires on which somebody did not answer, in words

    def __str__(self) -> str:
        text = f"{self.path}: {self.exchanges} exchanges and {self.messages} messages in {self.seconds:.0f} s"
        lost = [f"{self.lost} entries were lost: the disk was too slow or full"] if self.lost else []
        torn = [] if self.whole else ["the disk did not take the rest in time"]
        return "\n".join([text, *lost, *torn, *self.silent])


def polling_all(profiles: Mapping[str, Profile]) -> dict[str, Profile]:
    """The same profiles, every point polled."""

    def whole(profile: Profile) -> Profile:
        points = tuple(p.model_copy(update={"poll": True}) for p in profile.points)
        return profile.model_copy(update={"points": points}) if profile.protocol == "modbus" else profile

    return {name: whole(profile) for name, profile in profiles.items()}


async def ask_who(site: Site, profiles: Mapping[str, Profile], tap: Tap) -> None:
    """Let `tap` hear who each Modbus device says it is: text registers of its profile, else function 43/14.

    One device at a time on a connection of its own; one that does not answer, or will not say, is passed over.
    """
    gateways = {g.id: (g.host, g.port) for g in site.gateways}
    for device in site.devices:
        if device.protocol != "modbus_tcp":
            continue
        texts = profiles[device.profile].identity.values()
        with suppress(NoAnswerError, LookupError):
            async with Line(*gateways.get(device.gateway, (device.host, device.port))) as line:
                pdus = [read_pdu(t.fc, await line.address(device.unit, t), t.words) for t in texts] or [IDENTIFY]
                for pdu in pdus:
                    answer = await line.ask(device.unit, pdu)
                    unit = device.unit.to_bytes()
                    tap.exchange(device.id, unit + pdu, unit + answer.pdu, "bad" if answer.refused else "good")


async def capture(
    site: Site, path: Path, clock: Clock, for_s: float, most_mb: float, mqtt: bool, every_point: bool
) -> Captured:
    """Record until `for_s` [s] have passed or SIGINT or SIGTERM comes. OSError when the file cannot be begun."""
    needed = load_profiles()
    used = {d.profile: needed[d.profile] for d in site.devices}
    recorder = Recorder(path, site, clock, most_mb)
    listening = Listening(site, polling_all(used) if every_point else used, clock, tap=recorder, mqtt=mqtt)
    stop = asyncio.Event()
    for sign in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(sign, stop.set)
    begin_s = clock.now_s()
    recorder.start()
    await listening.start()
    asking = asyncio.ensure_future(ask_who(site, used, recorder))
    try:
        with suppress(TimeoutError):
            async with asyncio.timeout(None if for_s == float("inf") else for_s):
                await stop.wait()
        silent = [
            f"{w.name}: {w.devices_silent} of {w.devices} silent {w.detail}".rstrip()
            for w in listening.health()
            if w.devices_silent or not w.up
        ]
    finally:
        asking.cancel()
        await asyncio.gather(asking, return_exceptions=True)
        await listening.stop()
        whole = await recorder.stop()
    return Captured(
        str(path),
        clock.now_s() - begin_s,
        recorder.exchanges,
        recorder.messages,
        recorder.lost,
        whole,
        tuple(silent),
    )
