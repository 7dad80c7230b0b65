"""The jobs that schedulers have told of, on the disk: one file in the site's state directory, the newest word counts.

Written whole by the console's intake, read by the controller when it changes. Who may write there may act.
"""

import json
import logging
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from controller.frames import JobTold
from drivers.site.model import Site

FILE = "jobs.json"

log = logging.getLogger(__name__)


class Told:
    """The file as it is now; `poll` costs one stat when nothing changed. A file that makes no sense changes nothing."""

    def __init__(self, folder: Path, site: Site) -> None:
        self._path, self._site = folder / FILE, site
        self._stamp: tuple[int, int, int] | None = None
        self._jobs: tuple[JobTold, ...] = ()

    def poll(self) -> tuple[JobTold, ...]:
        """The jobs told of, those without racks left out."""
        try:
            stat = self._path.stat()
            stamp = (stat.st_mtime_ns, stat.st_size, stat.st_ino)
            if stamp != self._stamp:
                self._stamp = stamp
                known = json.loads(self._path.read_text())
                jobs = (self._job(entry) for entry in known.values())
                self._jobs = tuple(job for job in jobs if job.racks)
        except FileNotFoundError:
            return self._jobs
        except Exception:  # whatever stands there, it stops no cycle
            log.exception("%s cannot be read: the jobs told of before stand", self._path)
        return self._jobs

    def _job(self, entry: Mapping[str, Any]) -> JobTold:
        racks = tuple(str(r) for r in entry["racks"] if r in self._site.rack_index)
        return JobTold(
            id=str(entry["id"]),
            racks=racks,
            priority=min(max(int(entry["priority"]), 0), 9),
            gang=bool(entry["gang"]),
            tenant=str(entry["tenant"]),
            flexible=bool(entry["flexible"]),
        )


def write(folder: Path, jobs: Mapping[str, Mapping[str, Any]]) -> None:
    """Write all jobs, on the disk before this returns."""
    scratch = folder / f"{FILE}.new"
    with os.fdopen(os.open(scratch, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
        json.dump(jobs, file)
        file.flush()
        os.fsync(file.fileno())
    scratch.replace(folder / FILE)
