"""What a scheduler says of its jobs: kept on the disk (controller/told.py), taken up by the controller's next cycle.

Racks are what the site has; a rack belongs to one job at a time, so a job that takes a rack takes it from another.
"""

import json
import threading
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from controller import told
from drivers.clock import Clock
from drivers.site.model import Site
from drivers.site.problems import did_you_mean

MOST = 5000
Name = Annotated[str, Field(min_length=1, max_length=128, pattern=r"^[A-Za-z0-9][A-Za-z0-9._:/-]*$")]


class IntakeError(ValueError):
    """A job that cannot be taken; the message says why."""


class JobIn(BaseModel):
    """A job as its scheduler knows it."""

    model_config = ConfigDict(extra="forbid")

    id: Name
    racks: Annotated[list[Name], Field(max_length=10_000)] = Field(description="Ids of racks.csv that it runs on.")
    priority: Annotated[int, Field(ge=0, le=9)] = Field(default=1, description="0 is served first.")
    gang: bool = Field(default=True, description="Its racks run in step: one level for all (a training job).")
    tenant: Annotated[str, Field(max_length=128)] = Field(default="", description="Id of tenants.csv; empty: nobody's.")
    flexible: bool = Field(default=False, description="It may be slowed before others of its priority.")
    source: Literal["api", "slurm", "kubernetes"] = "api"


class Intake:
    """The jobs that were told, by id."""

    def __init__(self, folder: Path, site: Site, clock: Clock) -> None:
        self._path, self._site, self._clock = folder / told.FILE, site, clock
        self._jobs: dict[str, dict[str, Any]] = {}
        self._lock = threading.Lock()  # requests are served by threads
        try:
            self._jobs = dict(json.loads(self._path.read_text()))
        except FileNotFoundError:
            pass
        except (OSError, ValueError, TypeError):
            self._path.replace(self._path.with_suffix(".unreadable"))

    def jobs(self) -> list[dict[str, Any]]:
        """All jobs, by id."""
        with self._lock:
            return [self._jobs[name] for name in sorted(self._jobs)]

    def put(self, job: JobIn) -> dict[str, Any]:
        """Take a job; what was taken. IntakeError where the site has no such rack or tenant."""
        unknown = [r for r in job.racks if r not in self._site.rack_index]
        if unknown:
            near = did_you_mean(unknown[0], self._site.rack_index, "Give ids from racks.csv.")
            raise IntakeError(f"{len(unknown)} racks of job {job.id} are not at this site: {unknown[0]}. {near}")
        if job.tenant and job.tenant not in {t.id for t in self._site.tenants}:
            raise IntakeError(f"tenant {job.tenant!r} of job {job.id} is not in tenants.csv")
        with self._lock:
            if job.id not in self._jobs and len(self._jobs) >= MOST:
                raise IntakeError(f"{MOST} jobs are known already: end some")
            taken = set(job.racks)
            for other in self._jobs.values():
                other["racks"] = [r for r in other["racks"] if r not in taken]
            self._jobs[job.id] = {**job.model_dump(), "racks": sorted(taken), "told_ms": self._clock.wall_ms()}
            told.write(self._path.parent, self._jobs)
            return self._jobs[job.id]

    def end(self, name: str) -> bool:
        """Forget a job that is over; whether it was known."""
        with self._lock:
            if self._jobs.pop(name, None) is None:
                return False
            told.write(self._path.parent, self._jobs)
            return True
