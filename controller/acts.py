"""What operators asked for: an append-only file of acts that outlives kill -9, read every cycle.

One JSON object a line: {"at_ms", "by", "why", "act": "envelope"|"mode"|"hold"|"release"|"setpoint"|.., ...}; acts on
alarms are collected beside the requests, for the alarms and the journal to take. The file lies in the site's state
directory, mode 0700: who may write there is who may act. Every request is a policy like any other, so safety binds it.
What was asked stands until something else is. A set-point is asked once, and lapses when it is not taken up within
seconds: a controller that starts later writes nothing of the past.
"""

import fcntl
import json
import math
import os
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from controller.frames import Mode, Requests
from drivers.clock import Clock, RealClock
from drivers.site.model import Site
from drivers.wires import SetpointCommand

FILE = "acts.jsonl"
AUDIT = "audit.jsonl"  # what came of set-points: every attempt to write a register
KEPT = 20  # refusals that are remembered
LONGEST_LINE = 1 << 16
FRESH_MS = 10_000  # a set-point older than this by the wall clock is not written any more
LONGEST_SHELF_S = 7 * 86400.0
OF_ALARMS = ("ack", "shelve", "unshelve", "out_of_service", "in_service")
CHUNK = 1 << 20  # bytes taken in by one poll: more is read by the next


class ActError(ValueError):
    """An act that cannot be taken; the message says what is wrong and what to do."""


def state_path(site: Site, given: Path | None = None) -> Path:
    """Where the site's state directory is: given, systemd's, or ~/.local/state/headroom/SITE."""
    if given is not None:
        return given
    base = os.environ.get("STATE_DIRECTORY") or os.environ.get("XDG_STATE_HOME")
    return Path(base or Path.home() / ".local" / "state") / "headroom" / site.name


def state_dir(site: Site, given: Path | None = None) -> Path:
    """The site's state directory, made with mode 0700."""
    path = state_path(site, given)
    path.mkdir(mode=0o700, parents=True, exist_ok=True)
    return path


def check(site: Site, act: dict[str, Any]) -> dict[str, Any]:
    """The act itself if the site can take it; ActError otherwise."""
    kind = act.get("act")
    if kind == "envelope":
        mw, top = act.get("mw", "?"), site.control.envelope_w / 1e6
        if mw is not None and not (type(mw) in (int, float) and 0 < mw <= top):
            raise ActError(f"envelope {mw} MW: give more than 0 and at most {top:g} MW, or `release`")
        within_s = act.get("within_s")
        if within_s is not None and not (type(within_s) in (int, float) and 0 < within_s < float("inf")):
            raise ActError(f"envelope within {within_s!r} s: give seconds, more than 0, or leave it to the site's ramp")
    elif kind == "mode":
        if str(act.get("mode")) not in {m.name.lower() for m in Mode}:
            raise ActError(f"mode {act.get('mode')!r}: give one of live, hold, shadow, off")
    elif kind in ("hold", "release"):
        if str(act.get("rack")) not in site.rack_index:
            raise ActError(f"rack {act.get('rack')!r} is not in racks.csv: give an id from there")
    elif kind == "setpoint":
        setpoint_of(act)
        if act["device"] not in {d.id for d in site.devices}:
            raise ActError(f"device {act['device']!r} is not in devices.csv: give an id from there")
    elif kind in OF_ALARMS:
        _check_alarm(act)
    else:
        known = ", ".join(("envelope", "mode", "hold", "release", "setpoint", *OF_ALARMS))
        raise ActError(f"act {kind!r} is not known: give one of {known}")
    return act


def _check_alarm(act: dict[str, Any]) -> None:
    """An act on an alarm; whether there is such an alarm is known where they stand."""
    name = act.get("alarm")
    if not (isinstance(name, str) and 0 < len(name) <= 200 and ("/" in name or (name, act["act"]) == ("all", "ack"))):
        raise ActError(f"alarm {name!r}: give CODE/ELEMENT as the list of alarms shows it")
    for_s = act.get("for_s", 0)
    if act["act"] == "shelve" and not (type(for_s) in (int, float) and 0 < for_s <= LONGEST_SHELF_S):
        raise ActError(f"shelve for {for_s!r} s: give seconds, more than 0 and at most {LONGEST_SHELF_S:.0f} (a week)")
    if type(act.get("since_ms", 0)) is not int or type(act.get("at_ms", 0)) is not int:
        raise ActError("since_ms and at_ms are whole milliseconds")


def setpoint_of(act: dict[str, Any]) -> SetpointCommand:
    """The set-point that an act asks for; ActError where it is none."""
    numbers = [act.get("value"), *(act.get("revert") or (0.0, 1.0))]
    if len(numbers) != 3 or any(type(x) not in (int, float) or not math.isfinite(x) for x in numbers):
        raise ActError(f"set-point {act.get('value')!r}, reverting to {act.get('revert')!r}: give numbers")
    revert = (float(numbers[1]), float(numbers[2])) if act.get("revert") else None
    names = [act.get(x) for x in ("device", "point")]
    if not all(isinstance(x, str) and x for x in names):
        raise ActError(f"set-point of {names[0]!r}.{names[1]!r}: give a device and a point")
    told = {name: _printable(act.get(name, "")) for name in ("by", "why", "id")}
    device, point = map(str, names)
    return SetpointCommand(device, point, float(numbers[0]), revert, told["by"], told["why"], told["id"])


def append(folder: Path, site: Site, clock: Clock, by: str, why: str, act: dict[str, Any]) -> None:
    """Write one act down, on the disk before this returns; ActError when it makes no sense."""
    entry = {"at_ms": clock.wall_ms(), "by": by, "why": why, **check(site, act)}
    with (folder / FILE).open("a+b") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        if file.tell() and (file.seek(-1, os.SEEK_END), file.read(1))[1] != b"\n":
            file.write(b"\n")  # a line torn by a crash must not swallow this one
        file.write(json.dumps(entry, separators=(",", ":")).encode() + b"\n")
        file.flush()
        os.fsync(file.fileno())


def warning(site: Site, act: dict[str, Any]) -> str:
    """What an operator should know of an act that can be taken, or nothing."""
    floors_mw = sum(rack.floor_w for rack in site.racks) / 1e6
    mw = act.get("mw")
    if act["act"] == "envelope" and mw is not None and mw < floors_mw:
        return f"the racks' floors alone need {floors_mw:.1f} MW and losses and cooling on top: shed load by hand"
    return ""


class Acts:
    """The acts of one site as the present Requests; `poll` costs one stat when nothing changed.

    `refused` holds the last lines that could not be taken, `refusals` counts all of them; `said` who asked for the
    mode and for each hold, and why.
    """

    def __init__(self, folder: Path, site: Site, mode: Mode = Mode.LIVE, clock: Clock | None = None) -> None:
        self._clock = clock or RealClock()
        self._began_ms = self._clock.wall_ms()
        self._due: list[SetpointCommand] = []  # set-points that nobody has taken up yet
        self._path, self._site, self._read, self._rest = folder / FILE, site, 0, b""
        self.requests = Requests(mode=mode)
        self.refused: list[str] = []
        self.refusals = 0
        self._taken: list[tuple[int, dict[str, Any]]] = []
        self.said: dict[str, str] = {}  # rack, or "mode" -> by whom and why

    def poll(self) -> Requests:
        """Take in what was appended; a line that cannot be an act is refused, and said in `refused`.

        Set-points are in what is returned once. OSError when the file cannot be read: `requests` still holds what was
        asked before.
        """
        self._read_on()
        due, self._due = tuple(self._due), []
        return replace(self.requests, setpoints=due) if due else self.requests

    def _read_on(self) -> None:
        try:
            size = self._path.stat().st_size
        except FileNotFoundError:
            return
        if size < self._read:  # not the file that was read: what was asked stands, what follows is not missed
            self._refuse(f"cut from {self._read} to {size} bytes; what was asked before still holds")
            self._read, self._rest = 0, b""
        if size > self._read:
            with self._path.open("rb") as file:
                file.seek(self._read)
                data = file.read(min(size - self._read, CHUNK))
            at = self._read - len(self._rest)
            self._read += len(data)
            *lines, self._rest = (self._rest + data).split(b"\n")
            for line in lines:
                at += len(line) + 1
                if line:
                    self._take(line, at)
            if len(self._rest) > LONGEST_LINE:
                self._refuse(f"a line of more than {LONGEST_LINE} bytes: {self._rest[:80]!r}")
                self._rest = b""

    def take(self) -> list[tuple[int, dict[str, Any]]]:
        """The acts taken since this was asked last, each with the place in the file where it ends."""
        taken, self._taken = self._taken, []
        return taken

    def _take(self, line: bytes, ends: int) -> None:
        try:
            act = json.loads(line)
            if not isinstance(act, dict):
                raise ActError("not an object")
            if check(self._site, act)["act"] == "setpoint":
                self._ask_setpoint(act)
            else:
                self.requests = apply(self.requests, act)
                self._note(act)
            self._taken.append((ends, act))
        except Exception as error:  # whatever stands there, it is not an act
            self._refuse(f"{error}: {line[:80]!r}")

    def _ask_setpoint(self, act: dict[str, Any]) -> None:
        at_ms = int(act.get("at_ms", 0))
        age_ms = self._clock.wall_ms() - at_ms
        if at_ms < self._began_ms:
            return  # asked of the controller before this one
        if abs(age_ms) > FRESH_MS:
            raise ActError(f"set-point is {age_ms / 1000:.0f} s old: ask again")
        self._due.append(setpoint_of(act))

    def _note(self, act: dict[str, Any]) -> None:
        key = "mode" if act["act"] == "mode" else str(act.get("rack"))
        if act["act"] in ("mode", "hold"):
            by, why = (_printable(act.get(x, "")) for x in ("by", "why"))
            self.said[key] = f"by {by or 'somebody'}" + (f": {why}" if why else "")
        elif act["act"] == "release":
            self.said.pop(key, None)

    def _refuse(self, why: str) -> None:
        self.refusals += 1
        self.refused = [*self.refused[1 - KEPT :], f"{self._path.name}: {why}"]


def _printable(value: object) -> str:
    """Somebody's text as one short line that does nothing to a terminal."""
    return "".join(c for c in str(value)[:80] if c.isprintable())


def apply(now: Requests, act: dict[str, Any]) -> Requests:
    """Requests after one checked act."""
    if act["act"] == "envelope":
        watts = None if act["mw"] is None else float(act["mw"]) * 1e6
        within_s = None if watts is None else act.get("within_s")
        return replace(now, envelope_w=watts, envelope_by=str(act.get("by", ""))[:40], envelope_within_s=within_s)
    if act["act"] == "mode":
        return replace(now, mode=Mode[act["mode"].upper()])
    if act["act"] in OF_ALARMS:
        return now
    racks = now.held | {act["rack"]} if act["act"] == "hold" else now.held - {act["rack"]}
    return replace(now, held=frozenset(racks))


def requests_body(requests: Requests) -> dict[str, Any]:
    """What was asked of a cycle, as a recording keeps it."""
    body = asdict(requests) | {"mode": requests.mode.name.lower(), "held": sorted(requests.held)}
    return {name: value for name, value in body.items() if name != "setpoints"}  # a replay writes nothing


def requests_of(body: dict[str, Any]) -> Requests:
    """The same, read back; KeyError, ValueError or TypeError where it is none."""
    known = {name: body[name] for name in ("envelope_w", "envelope_by", "envelope_within_s")}
    return Requests(mode=Mode[body["mode"].upper()], held=frozenset(body["held"]), **known)


def next_epoch(folder: Path, clock: Clock) -> int:
    """An epoch above every earlier one, on the disk before it is used.

    Wall seconds carry it over the loss of the directory, the stored number over a clock that went back.
    """
    path = folder / "epoch"
    try:
        stored = int(path.read_text())
    except (FileNotFoundError, ValueError):
        stored = 0
    epoch = max(stored + 1, clock.wall_ms() // 1000)
    scratch = path.with_suffix(".new")
    with scratch.open("w") as file:
        file.write(f"{epoch}\n")
        file.flush()
        os.fsync(file.fileno())
    scratch.replace(path)
    return epoch
