"""The history on the disk, as far as it goes back: names of points, and one point over time for a plot."""

import asyncio
from typing import Annotated, Any

from fastapi import APIRouter, HTTPException, Query

from controller import history_query
from controller.console.doors import TheDesk, Viewer
from controller.console.routes_session import errors

router = APIRouter(tags=["history"])
LISTED = 200  # names in one answer
PLOTTED = 2_000  # bins in one answer: more than a screen has
LONGEST_MS = 400 * 86_400_000
Wall = Annotated[int, Query(ge=0, lt=1 << 53, description="Wall milliseconds.")]


@router.get("/v1/points", responses=errors(401, 422))
async def points(
    desk: TheDesk, _: Viewer, like: Annotated[str, Query(max_length=200, description="Part of a name.")] = ""
) -> dict[str, Any]:
    """Names of stored points that contain `like`: the first 200, and how many there are."""
    async with desk.reading:
        names = await asyncio.to_thread(history_query.points, desk.folder)
    found = [name for name in names if like.lower() in name.lower()]
    return {"points": found[:LISTED], "count": len(found)}


@router.get("/v1/series", responses=errors(401, 404, 422))
async def series(
    desk: TheDesk, _: Viewer, point: Annotated[str, Query(min_length=1, max_length=200)], from_ms: Wall, to_ms: Wall
) -> dict[str, Any]:
    """One stored point from `from_ms` to before `to_ms` in some thousand bins: least, mean and most of each."""
    if not 0 < to_ms - from_ms <= LONGEST_MS:
        raise HTTPException(422, "give a time that ends after it begins, at most 400 days")
    resolution_s = max(1.0, (to_ms - from_ms) / 1000.0 / PLOTTED)
    try:
        async with desk.reading:
            found = await asyncio.to_thread(history_query.query, desk.folder, point, from_ms, to_ms, resolution_s)
    except history_query.HistoryError as error:
        raise HTTPException(404, str(error)) from error
    return found.to_dict()
