"""What the console shows, as data: the site, its present state, one element, questions, the past hour."""

from typing import Annotated, Any

import numpy as np
from fastapi import APIRouter, HTTPException, Path, Query, Request, Response

from controller.console.asker import NoAnswerError, RefusedError
from controller.console.desk import Desk
from controller.console.doors import TheDesk, Viewer
from controller.console.routes_session import errors

router = APIRouter(tags=["state"])
STALE_S = 3.0  # a picture older than this is not the present
Id = Annotated[str, Path(min_length=1, max_length=200)]


@router.get("/healthz", tags=["health"])
async def healthz() -> dict[str, Any]:
    """The console's process answers."""
    return {"ok": True}


@router.get("/readyz", tags=["health"], responses=errors(503))
async def readyz(desk: TheDesk) -> dict[str, Any]:
    """The console shows the present: a controller is connected and its last cycle is at most 3 s old."""
    if why := stale(desk):
        raise HTTPException(503, why)
    return {"ready": True, "cycle": desk.link.head["cycle"]}


def stale(desk: Desk) -> str:
    """Why what is shown is not the present; nothing where it is."""
    if not desk.link.connected:
        return "no controller is connected"
    if desk.link.age_s > STALE_S:
        return f"the last picture is {desk.link.age_s:.0f} s old" if desk.link.head else "no cycle has finished yet"
    return ""


def present(desk: Desk) -> dict[str, Any]:
    """The header of the newest picture; 503 before the first."""
    if not desk.link.head:
        raise HTTPException(503, stale(desk) or "no cycle has finished yet")
    return desk.link.head


@router.get("/v1/site", responses=errors(401, 503))
async def site(request: Request, desk: TheDesk, _: Viewer) -> Response:
    """The site's tables as columns, in the order of a picture's arrays."""
    if not desk.link.sheet_bytes:
        raise HTTPException(503, "no controller is connected")
    mark = f'"{desk.link.sheet_number}-{len(desk.link.sheet_bytes)}"'
    headers = {"ETag": mark, "Cache-Control": "private, no-cache"}
    if request.headers.get("if-none-match") == mark:
        return Response(status_code=304, headers=headers)
    return Response(
        desk.link.sheet_bytes, headers=headers | {"Content-Encoding": "deflate"}, media_type="application/json"
    )


@router.get("/v1/status", responses=errors(401, 503))
async def status(desk: TheDesk, _: Viewer) -> dict[str, Any]:
    """The newest cycle in figures and words, and how old it is."""
    head = {name: value for name, value in present(desk).items() if name != "arrays"}
    return head | {"connected": desk.link.connected, "age_s": round(desk.link.age_s, 2)}


@router.get("/v1/alarms", responses=errors(401, 503))
async def alarms(desk: TheDesk, _: Viewer) -> dict[str, Any]:
    """What needs a person now, gravest first."""
    head = present(desk)
    return {"alarms": head.get("alarm_list") or head["alarms"], "cycle": head["cycle"]}


@router.get("/v1/racks/{rack}", responses=errors(401, 404, 422, 503))
async def rack(desk: TheDesk, _: Viewer, rack: Id) -> dict[str, Any]:
    """One rack's present figures."""
    return _element(desk, "rack", "racks", rack)


@router.get("/v1/nodes/{node}", responses=errors(401, 404, 422, 503))
async def node(desk: TheDesk, _: Viewer, node: Id) -> dict[str, Any]:
    """One electrical node's present figures; load and limit are shares of `full_w`."""
    return _element(desk, "node", "nodes", node)


def _element(desk: Desk, kind: str, table: str, name: str) -> dict[str, Any]:
    head = present(desk)
    columns = desk.link.sheet[table]
    try:
        at = columns["id"].index(name)
    except ValueError:
        raise HTTPException(404, f"there is no {kind} {name[:80]!r} at this site") from None
    live = {key: _plain(values[at]) for key, values in desk.link.arrays.items() if key.startswith(f"{kind}_")}
    return {"cycle": head["cycle"]} | {key: column[at] for key, column in columns.items()} | live


def _plain(value: Any) -> float | None:
    return float(value) if np.isfinite(value) else None


@router.get("/v1/racks/{rack}/explain", tags=["questions"], responses=errors(401, 404, 422, 503))
async def explain(desk: TheDesk, _: Viewer, rack: Id) -> dict[str, Any]:
    """Why the rack has its cap: the limit that binds, the next one, what one more kW gains, what would help."""
    return await asked(desk, ask="explain", rack=rack)


@router.get("/v1/bottlenecks", tags=["questions"], responses=errors(401, 404, 422, 503))
async def bottlenecks(desk: TheDesk, _: Viewer, every: Annotated[bool, Query(alias="all")] = False) -> dict[str, Any]:
    """Limits by what one more kW there buys."""
    return await asked(desk, ask="bottlenecks", all=every)


@router.get("/v1/contingencies", tags=["questions"], responses=errors(401, 404, 422, 503))
async def contingencies(desk: TheDesk, _: Viewer, every: Annotated[bool, Query(alias="all")] = False) -> dict[str, Any]:
    """Every single loss: its worst survivor, margin, secured or not, and what would help."""
    return await asked(desk, ask="contingencies", all=every)


async def asked(desk: Desk, **question: Any) -> dict[str, Any]:
    """The controller's answer; 503 where there is none, 404 where it knows no such thing."""
    try:
        return await desk.asker.ask(**question)
    except NoAnswerError as error:
        raise HTTPException(503, str(error)) from error
    except RefusedError as error:
        raise HTTPException(404 if "there is no" in str(error) else 503, str(error)) from error


@router.get("/v1/history", responses=errors(401, 404, 422))
async def history(
    desk: TheDesk,
    _: Viewer,
    point: Annotated[
        str, Query(min_length=1, max_length=200, description="`site/load_w`, `rack/ID/w`, `node/ID/load`")
    ],
    since_s: Annotated[float, Query(ge=0, le=1e11, description="Wall seconds; older values are left out.")] = 0.0,
) -> dict[str, Any]:
    """One point over the past hour: [[wall seconds, value or null], ..]."""
    try:
        return {"point": point, "values": desk.link.past.series(point, since_s)}
    except KeyError:
        known = ", ".join(desk.link.past.points())
        raise HTTPException(404, f"there is no point {point[:80]!r}: {known}") from None
