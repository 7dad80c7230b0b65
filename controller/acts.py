"""What operators asked for: an append-only file of acts that outlives kill -9, read every cycle.

One JSON object a line: {"id", "at_ms", "by", "why", "act": one of CHECKS, ...}; all are collected beside the requests,
for the alarms and the journal to take. The file lies in the site's state directory, mode 0700: who may write there is
who may act. Every request is a policy like any other, so safety binds it. What was asked stands until something else
is. A set-point is asked once, and lapses when it is not taken up within seconds: a controller that starts later writes
nothing of the past.
"""

import fcntl
import json
import os
import secrets
from collections import deque
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from controller.act_kinds import ActError as ActError
from controller.act_kinds import below, check, printable, racks_of, setpoint_of
from controller.frames import Curtailment, JobTold, Mode, Requests
from drivers.clock import Clock, RealClock
from drivers.site.model import Site
from drivers.wires import SetpointCommand

FILE = "acts.jsonl"
AUDIT = "audit.jsonl"  # what came of set-points: every attempt to write a register
KEPT = 20  # refusals that are remembered
LONGEST_LINE = 1 << 16
FRESH_MS = 10_000  # a set-point older than this by the wall clock is not written any more
CHUNK = 1 << 20  # bytes taken in by one poll: more is read by the next
RECENT = 200
MOST_PLANNED = 50
OPPOSITE = {"hold": "release", "release": "hold", "park": "unpark", "unpark": "park"}
FAMILIES = (
    ("envelope",), ("mode",), ("curtail", "cancel"), ("priority",), ("hold", "release"), ("park", "unpark"),
    ("shelve", "unshelve"), ("out_of_service", "in_service"),
)  # fmt: skip
OPPOSITE |= {"shelve": "unshelve", "out_of_service": "in_service"}


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


def append(folder: Path, site: Site, clock: Clock, by: str, why: str, act: dict[str, Any]) -> dict[str, Any]:
    """Write one act down, on the disk before this returns; what was written. ActError when it makes no sense."""
    at_ms = clock.wall_ms()
    entry = {"id": f"{at_ms:x}{secrets.token_hex(2)}", "at_ms": at_ms, "by": by, "why": why, **check(site, act)}
    with (folder / FILE).open("a+b") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        if file.tell() and (file.seek(-1, os.SEEK_END), file.read(1))[1] != b"\n":
            file.write(b"\n")  # a line torn by a crash must not swallow this one
        file.write(json.dumps(entry, separators=(",", ":")).encode() + b"\n")
        file.flush()
        os.fsync(file.fileno())
    return entry


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
    mode and for each hold, and why; `recent` the last acts, each with the requests before it.
    """

    def __init__(self, folder: Path, site: Site, mode: Mode = Mode.LIVE, clock: Clock | None = None) -> None:
        self._clock = clock or RealClock()
        self._began_ms = self._clock.wall_ms()
        self._due: list[SetpointCommand] = []  # set-points that nobody has taken up yet
        self._path, self._site, self._read, self._rest = folder / FILE, site, 0, b""
        below(site)  # a quarter of a second at a large site: now, not in the cycle that first needs it
        self.requests = Requests(mode=mode)
        self.refused: list[str] = []
        self.refusals = 0
        self._taken: list[tuple[int, dict[str, Any]]] = []
        self.said: dict[str, str] = {}  # rack, or "mode" -> by whom and why
        self.recent: deque[tuple[dict[str, Any], Requests]] = deque(maxlen=RECENT)
        self._catch_up()

    def _catch_up(self) -> None:
        """All that was ever asked, before the first cycle: none runs by half of it."""
        with suppress(OSError):  # `poll` says so
            before = -1
            while self._read > before:
                before = self._read
                self._read_on()

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
            before, self.requests = self.requests, apply(self._site, self.requests, act)
            self.recent.append((act, before))
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
        kind = act["act"]
        if kind == "mode":
            self.said["mode"] = _by(act)
        elif kind in ("hold", "park"):
            self.said |= dict.fromkeys(racks_of(self._site, act), ("in maintenance " * (kind == "park")) + _by(act))
        elif kind in ("release", "unpark"):
            for rack in racks_of(self._site, act):
                self.said.pop(rack, None)

    def _refuse(self, why: str) -> None:
        self.refusals += 1
        self.refused = [*self.refused[1 - KEPT :], f"{self._path.name}: {why}"]


def _by(act: Mapping[str, Any]) -> str:
    by, why = (printable(act.get(x, "")) for x in ("by", "why"))
    return f"by {by or 'somebody'}" + (f": {why}" if why else "")


def apply(site: Site, now: Requests, act: Mapping[str, Any]) -> Requests:
    """Requests after one checked act."""
    kind = act["act"]
    if kind == "envelope":
        watts = None if act["mw"] is None else float(act["mw"]) * 1e6
        within_s = None if watts is None else act.get("within_s")
        return replace(now, envelope_w=watts, envelope_by=str(act.get("by", ""))[:40], envelope_within_s=within_s)
    if kind == "mode":
        return replace(now, mode=Mode[act["mode"].upper()])
    if kind in ("curtail", "cancel"):
        name, at_ms = act.get("plan", act.get("id")), act.get("at_ms", 0)
        others = tuple(c for c in now.curtailments if c.id != name and c.until_ms > at_ms)
        if kind == "curtail" and len(others) >= MOST_PLANNED:
            raise ActError(f"{MOST_PLANNED} curtailments are planned already: cancel some")
        return replace(now, curtailments=others if kind == "cancel" else (*others, _curtailment(act)))
    if kind == "priority":
        others_priority = tuple(p for p in now.priority if p[0] != act["job"])
        mine = () if act["priority"] is None else ((act["job"], act["priority"]),)
        return replace(now, priority=others_priority + mine)
    if kind in ("hold", "release", "park", "unpark"):
        racks = frozenset(racks_of(site, act))
        if kind in ("hold", "release"):
            return replace(now, held=now.held | racks if kind == "hold" else now.held - racks)
        return replace(now, parked=now.parked | racks if kind == "park" else now.parked - racks)
    return now  # alarms are acknowledged and shelved by those who raise them


def _curtailment(act: Mapping[str, Any]) -> Curtailment:
    by = str(act.get("by", ""))[:40]
    return Curtailment(str(act.get("id", "")), float(act["mw"]) * 1e6, act["from_ms"], act["until_ms"], by)


def same_thing(site: Site, one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    """Whether two acts speak on the same: envelope, mode, a curtailment, a job's priority, a rack, an alarm."""
    kinds = {one["act"], other["act"]}
    if not any(kinds <= set(family) for family in FAMILIES):
        return False
    if kinds <= {"curtail", "cancel"}:
        return bool(one.get("plan", one.get("id")) == other.get("plan", other.get("id")))
    if kinds <= {"hold", "release", "park", "unpark"}:
        return not set(racks_of(site, one)).isdisjoint(racks_of(site, other))
    return all(one.get(key) == other.get(key) for key in ("job", "alarm"))


def inverse(site: Site, before: Requests, act: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The acts that bring back what `act` changed, from the requests before it; none where nothing would change."""
    kind = act["act"]
    if kind == "envelope":
        mw = None if before.envelope_w is None else before.envelope_w / 1e6
        within_s = before.envelope_within_s
        return [{"act": kind, "mw": mw} | ({} if within_s is None else {"within_s": within_s})]
    if kind == "mode":
        return [{"act": kind, "mode": before.mode.name.lower()}]
    if kind == "curtail":
        return [{"act": "cancel", "plan": act["id"]}]
    if kind == "cancel":
        gone = [c for c in before.curtailments if c.id == act["plan"]]
        return [
            {"act": "curtail", "mw": c.envelope_w / 1e6, "from_ms": c.from_ms, "until_ms": c.until_ms} for c in gone
        ]
    if kind == "priority":
        return [{"act": kind, "job": act["job"], "priority": dict(before.priority).get(act["job"])}]
    if kind in ("hold", "release", "park", "unpark"):
        was = before.held if kind in ("hold", "release") else before.parked
        racks = racks_of(site, act)
        changed = [rack for rack in racks if (rack in was) == (kind in ("release", "unpark"))]
        if len(changed) < len(racks):  # the others were so before: they stay
            return [{"act": OPPOSITE[kind], "rack": rack} for rack in changed]
    if kind in OPPOSITE:
        target = {key: act[key] for key in ("rack", "job", "node", "alarm") if key in act}
        return [{"act": OPPOSITE[kind], **target}]
    return []


def requests_body(requests: Requests) -> dict[str, Any]:
    """What was asked of a cycle, as a recording keeps it; curtailments under way are in the envelope."""
    body = asdict(requests) | {"mode": requests.mode.name.lower()}
    body |= {"held": sorted(requests.held), "parked": sorted(requests.parked)}
    return {name: value for name, value in body.items() if name not in ("setpoints", "curtailments")}


def requests_of(body: dict[str, Any]) -> Requests:
    """The same, read back, so that a replay writes nothing; KeyError, ValueError or TypeError where it is none."""
    return Requests(
        mode=Mode[body["mode"].upper()],
        held=frozenset(body["held"]),
        parked=frozenset(body["parked"]),
        priority=tuple((str(job), int(priority)) for job, priority in body["priority"]),
        jobs=tuple(JobTold(**{**job, "racks": tuple(job["racks"])}) for job in body["jobs"]),
        **{name: body[name] for name in ("envelope_w", "envelope_by", "envelope_within_s")},
    )


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
