"""Jobs as the site has them, and the intake: what schedulers say of theirs."""

import asyncio
from typing import Annotated, Any

from fastapi import APIRouter, HTTPException, Path

from controller.console.doors import Operator, TheDesk, Viewer
from controller.console.intake import IntakeError, JobIn
from controller.console.routes_session import errors

router = APIRouter(tags=["jobs"])


@router.get("/v1/jobs", responses=errors(401))
async def jobs(desk: TheDesk, _: Viewer) -> dict[str, Any]:
    """The jobs that schedulers have told of, and those of the site file."""
    return {"jobs": desk.intake.jobs(), "site_file": desk.link.sheet.get("jobs", {})}


@router.post("/v1/jobs", responses=errors(401, 403, 422))
async def put_job(desk: TheDesk, _: Operator, job: JobIn) -> dict[str, Any]:
    """A job begins, or something about it has changed; what was said of it before is replaced."""
    try:
        return await asyncio.to_thread(desk.intake.put, job)
    except IntakeError as error:
        raise HTTPException(422, str(error)) from error


@router.delete("/v1/jobs/{job}", responses=errors(401, 403, 404, 422))
async def end_job(
    desk: TheDesk, _: Operator, job: Annotated[str, Path(min_length=1, max_length=128)]
) -> dict[str, Any]:
    """A job is over; its racks are again what the site file says."""
    if not await asyncio.to_thread(desk.intake.end, job):
        raise HTTPException(404, f"there is no job {job[:80]!r} among those that were told")
    return {"ended": job}
