"""Acts: what one would do, doing it, who did what, and taking it back."""

import asyncio
from collections.abc import Mapping
from itertools import dropwhile
from typing import Annotated, Any, Literal

from fastapi import APIRouter, HTTPException, Path
from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from controller import acts
from controller.act_kinds import ActError, check
from controller.console.accounts import Role
from controller.console.desk import Desk
from controller.console.doors import Caller, Engineer, TheDesk, Viewer, named
from controller.console.plant import PlantError
from controller.console.routes_session import errors
from controller.console.routes_view import asked
from controller.frames import Requests

router = APIRouter(tags=["acts"])
Kind = Literal[
    "envelope", "curtail", "cancel", "mode", "hold", "release", "park", "unpark", "priority",
    "ack", "shelve", "unshelve", "out_of_service", "in_service",
]  # fmt: skip
NEEDS = {"mode": Role.ENGINEER, "priority": Role.ENGINEER}  # of the others an operator is enough
PREDICTED = {"envelope", "curtail", "cancel", "mode", "hold", "release", "park", "unpark", "priority"}
Name = Annotated[str, Field(min_length=1, max_length=200)]
Why = Annotated[str, StringConstraints(strip_whitespace=True, min_length=3, max_length=200)]
Millis = Annotated[int, Field(gt=0, lt=1 << 53)]


class Act(BaseModel):
    """One act; which of the fields it needs depends on its kind (controller/act_kinds.py)."""

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)

    act: Kind
    mw: float | None = Field(default=None, description="envelope, curtail: MW; null releases the envelope")
    within_s: float | None = Field(default=None, gt=0, le=86400, description="envelope: faster than the site's ramp")
    from_ms: Millis | None = Field(default=None, description="curtail: wall milliseconds by which it is reached")
    until_ms: Millis | None = Field(default=None, description="curtail: wall milliseconds")
    for_s: float | None = Field(default=None, gt=0, description="shelve: seconds, at most a week")
    plan: Name | None = Field(default=None, description="cancel: id of the curtailment")
    mode: Literal["live", "hold", "shadow", "off"] | None = None
    rack: Name | None = Field(default=None, description="hold, release, park, unpark: or job, or node")
    job: Name | None = None
    node: Name | None = None
    priority: int | None = Field(default=None, ge=0, le=9, description="priority: null for the site file's")
    alarm: Name | None = Field(default=None, description="acts on alarms: CODE/ELEMENT")

    def told(self) -> dict[str, Any]:
        """The fields that were given."""
        out = self.model_dump(exclude_unset=True)
        return out | ({"mw": None} if self.act == "envelope" and self.mw is None else {})


class ActIn(Act):
    """An act to do, and why."""

    why: Why


class Reason(BaseModel):
    """Why something is taken back."""

    model_config = ConfigDict(extra="forbid")

    why: Why


class Start(BaseModel):
    """A scenario to start in the simulated plant."""

    model_config = ConfigDict(extra="forbid")

    scenario: Name
    why: Why


@router.post("/v1/acts/effect", responses=errors(401, 403, 404, 422, 503))
async def effect(desk: TheDesk, _: Viewer, act: Act) -> dict[str, Any]:
    """What the act would do, solved on the controller's newest cycle; nothing is changed."""
    told = _checked(desk, act.told())
    if told["act"] not in PREDICTED:
        return {"lines": ["The alarm list changes; no cap does."]}
    return await asked(desk, ask="effect", act=told)


@router.post("/v1/acts", responses=errors(401, 403, 404, 422, 503))
async def do(desk: TheDesk, caller: Viewer, act: ActIn) -> dict[str, Any]:
    """Do it: written down with who and why, taken up by the controller's next cycle."""
    told = act.told()
    why = told.pop("why")
    return await _write(desk, caller, why, _checked(desk, told))


@router.get("/v1/acts", responses=errors(401))
async def recent(desk: TheDesk, _: Viewer) -> dict[str, Any]:
    """The last acts, newest first, what holds now, and the curtailments that are planned."""
    now = _requests(desk)
    wall_ms = desk.clock.wall_ms()
    return {
        "acts": [entry | {"undo": bool(_undo(desk, before, entry))} for entry, before in reversed(desk.acts.recent)],
        "held": sorted(now.held),
        "parked": sorted(now.parked),
        "priority": dict(now.priority),
        "curtailments": [vars(c) for c in now.curtailments if c.until_ms > wall_ms],
        "envelope_w": now.envelope_w,
    }


@router.post("/v1/acts/{act}/undo", responses=errors(401, 403, 404, 409, 422, 503))
async def undo(
    desk: TheDesk, caller: Viewer, act: Annotated[str, Path(min_length=1, max_length=40)], told: Reason
) -> dict[str, Any]:
    """Bring back what the act changed, as an act of its own."""
    _requests(desk)
    found = next(((entry, before) for entry, before in desk.acts.recent if entry.get("id") == act), None)
    if found is None:
        raise HTTPException(404, "there is no such act among the last ones")
    back = _undo(desk, found[1], found[0])
    if not back:
        raise HTTPException(409, f"{found[0]['act']} cannot be taken back: nothing would change, or a later act counts")
    written = [await _write(desk, caller, told.why, one | {"undoes": act}) for one in back]
    return {"acts": written}


@router.get("/v1/scenarios", tags=["simulated plant"], responses=errors(401, 503))
async def scenarios(desk: TheDesk, _: Viewer) -> dict[str, Any]:
    """The scenarios of the simulated plant, where one is connected."""
    if not desk.plant.there:
        return {"plant": False, "scenarios": []}
    return {"plant": True, **await _plant(desk, do="list")}


@router.post("/v1/scenarios", tags=["simulated plant"], responses=errors(401, 403, 409, 422, 503))
async def start(desk: TheDesk, _: Engineer, told: Start) -> dict[str, Any]:
    """Start a scenario's events in the simulated plant now."""
    if not desk.plant.there:
        raise HTTPException(409, "no simulated plant is connected: this console watches a building")
    return await _plant(desk, do="start", scenario=told.scenario)


async def _plant(desk: Desk, **question: Any) -> dict[str, Any]:
    try:
        return await desk.plant.ask(**question)
    except PlantError as error:
        raise HTTPException(503, str(error)) from error


def _checked(desk: Desk, act: dict[str, Any]) -> dict[str, Any]:
    try:
        check(desk.site, act)
    except ActError as error:
        raise HTTPException(422, str(error)) from error
    now_ms = desk.clock.wall_ms()
    if act["act"] == "curtail":
        if act["until_ms"] <= now_ms:
            raise HTTPException(422, "curtail: until_ms has passed already")
        if sum(c.until_ms > now_ms for c in _requests(desk).curtailments) >= acts.MOST_PLANNED:
            raise HTTPException(409, f"{acts.MOST_PLANNED} curtailments are planned already: cancel some")
    if act["act"] == "cancel" and act["plan"] not in {c.id for c in _requests(desk).curtailments}:
        raise HTTPException(404, f"there is no curtailment {act['plan'][:80]!r}")
    return act


def _requests(desk: Desk) -> Requests:
    """What is asked for now, with all that was written."""
    try:
        now = desk.acts.poll()
        desk.acts.take()  # the journal is the controller's
        return now
    except OSError as error:
        raise HTTPException(503, f"the acts cannot be read: {error.strerror}") from error


def _undo(desk: Desk, before: Requests, entry: Mapping[str, Any]) -> list[dict[str, Any]]:
    """What takes an act back; nothing where a later act has spoken on the same thing since."""
    if "id" not in entry:
        return []
    since = dropwhile(lambda other: other is not entry, (other for other, _ in desk.acts.recent))
    later = list(since)[1:]
    return (
        []
        if any(acts.same_thing(desk.site, entry, other) for other in later)
        else acts.inverse(desk.site, before, entry)
    )


async def _write(desk: Desk, caller: Caller, why: str, act: dict[str, Any]) -> dict[str, Any]:
    """Write an act down; 403 where the role does not do."""
    role = NEEDS.get(act["act"], Role.OPERATOR)
    if caller.who.role < role:
        text = f"{act['act']} needs the role {role.name.lower()}, {caller.who.name} is {named(caller)}"
        raise HTTPException(403, text)
    try:
        entry = await asyncio.to_thread(acts.append, desk.folder, desk.site, desk.clock, caller.who.name, why, act)
    except ActError as error:
        raise HTTPException(422, str(error)) from error
    except OSError as error:
        raise HTTPException(503, f"the act was not written: {error.strerror}") from error
    said = acts.warning(desk.site, act)
    return entry | ({"warning": said} if said else {})
