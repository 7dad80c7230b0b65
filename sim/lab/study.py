"""`headroom study`: many runs of scenarios under policies, scored, kept as they finish and never run twice.

A finished run is one file in the results folder, named by all that it depends on: site, scenario, policy, seed, length
and the code. Whatever ends the study, also kill -9, costs the runs in flight alone.
"""

import hashlib
import json
import os
import sys
import threading
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Literal

import joblib
import numpy as np

from drivers.clock import perf_s
from drivers.site.model import Site
from sim.lab.lockstep import LockStep
from sim.lab.rivals import OBJECTIVES, factory_of
from sim.lab.rivals.static import provision
from sim.lab.scores import Scores
from sim.plant.base import PlantError
from sim.plant.events import Scenario

PACKAGES = ("drivers", "controller", "sim")
WATCH_S = 1.0  # between two looks of a worker for its parent
SUFFIXES = (".py", ".yaml", ".csv")
APART = ("sim/scenarios/", "sim/lab/report.py", "controller/plots.py")  # in the key by themselves, or only drawn with
Say = Callable[[str], None]
Run = dict[str, Any]


class StudyError(ValueError):
    """A study that cannot be run as asked; the message says what to do."""


@dataclass(frozen=True)
class Case:
    """One run: a site under a scenario and a policy."""

    site: Site
    scenario: Scenario
    policy: str
    seed: int
    seconds: int

    @property
    def name(self) -> str:
        """For people."""
        return f"{self.scenario.name} {self.policy} seed {self.seed}"

    def key(self) -> str:
        """All that its result depends on, in short."""
        policy = (self.policy, _policy_digest(self.policy))
        parts = (_site_digest(self.site), self.scenario.model_dump_json(), *policy, self.seed, self.seconds)
        return hashlib.blake2b(repr((*parts, code_digest())).encode(), digest_size=16).hexdigest()


@dataclass(frozen=True)
class Where:
    """Where runs are made: `jobs` local processes, or the workers of a Dask or Ray cluster."""

    jobs: int = 2
    cluster: Literal["", "dask", "ray"] = ""
    address: str = ""  # of the cluster; empty: the client that there is, else one of its own

    def backend(self) -> AbstractContextManager[Any]:
        """Joblib's backend for the time of a study; StudyError where the cluster's package is not installed."""
        if not self.cluster:
            return nullcontext()
        try:
            return _cluster(self.cluster, self.address)
        except ImportError as error:
            raise StudyError(f"{error}: pip install 'headroom-dc[cluster]' for Dask, or ray for Ray") from error


def where_of(jobs: int, cluster: str, address: str) -> Where:
    """Where a user wants runs to be made; StudyError for a kind of cluster that is not known."""
    match cluster:
        case "" | "dask" | "ray":
            return Where(jobs, cluster, address)
        case _:
            raise StudyError(f"there is no cluster '{cluster}': give dask or ray, or none for this machine's processes")


def run_case(case: Case) -> Run:
    """Run a case from its first second to its last; `scores` and `trace`, or `skipped` or `failed` with words."""
    said: Run = {"site": case.site.name, "scenario": case.scenario.name, "title": case.scenario.title}
    said |= {"policy": case.policy, "seed": case.seed}
    began_s = perf_s()
    try:
        lock: LockStep[Any] = LockStep(case.site, case.scenario, case.seed, policy=case.policy)
    except PlantError as error:
        return said | {"skipped": str(error)}
    except Exception:
        return said | {"failed": traceback.format_exc()}
    provision(lock.plant, lock.plan)
    try:
        scores = Scores(lock, case.scenario)
        for _ in range(case.seconds):
            lock.watched(scores.take)
    except Exception:
        return said | {"failed": f"at {lock.plant.t_s:.2f} s\n{traceback.format_exc()}"}
    result = scores.result()
    held = case.seconds >= case.scenario.lasts_s
    missed = case.scenario.outcome.missed(result) if held else []
    timing = {"x_realtime": case.seconds / (perf_s() - began_s)}
    events = [e.model_dump(exclude_defaults=True) for e in case.scenario.events]
    return said | result | {"held": held, "missed": missed, **timing, "trace": scores.trace(), "events": events}


class Results:
    """Finished runs, a file each in a folder; made when the first is kept."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def get(self, case: Case) -> Run | None:
        """The finished run of a case, None where there is none or its file is torn."""
        try:
            run = json.loads(self._path(case).read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return None
        return run if isinstance(run, dict) else None

    def put(self, case: Case, run: Run) -> None:
        """Keep a finished run: whole or not at all, whenever this is killed."""
        self.folder.mkdir(parents=True, exist_ok=True)
        path = self._path(case)
        part = path.with_suffix(f".{os.getpid()}.part")
        part.write_text(json.dumps(run), encoding="utf-8")
        part.replace(path)

    def _path(self, case: Case) -> Path:
        return self.folder / f"{case.key()}.json"


def default_folder() -> Path:
    """Where runs are kept unless a folder is given: ~/.cache/headroom/study."""
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "headroom" / "study"


def check_policies(policies: Sequence[str]) -> None:
    """PolicyError where there is no policy of a name."""
    for name in policies:
        if name not in OBJECTIVES:
            factory_of(name)


def runs_of(cases: Sequence[Case], where: Where, results: Results, say: Say) -> Iterator[tuple[Case, Run]]:
    """Every case with its run as it is finished: those that are there already first, then as they end.

    Traces stay on disk. Leaving the iterator early keeps what has finished.
    """
    todo = []
    for case in cases:
        run = results.get(case)
        if run is None:
            todo.append(case)
        else:
            yield case, _light(run)
    if len(todo) < len(cases):
        say(f"{len(cases) - len(todo)} of {len(cases)} runs are there already ({results.folder})")
    if not todo:
        return
    began_s = perf_s()
    with where.backend():
        parallel = joblib.Parallel(
            n_jobs=-1 if where.cluster else where.jobs, return_as="generator_unordered", pre_dispatch="2*n_jobs"
        )
        tasks = (joblib.delayed(_numbered)(i, c, os.getpid()) for i, c in enumerate(todo))
        for done, (number, run) in enumerate(parallel(tasks), 1):
            case = todo[number]
            if "failed" not in run:
                results.put(case, run)
            left_s = (perf_s() - began_s) / done * (len(todo) - done)
            say(f"{done}/{len(todo)} {line(run)}; {left_s / 60.0:.1f} min left")
            yield case, _light(run)


def line(run: Run) -> str:
    """A finished run in a line."""
    name = f"{run['scenario']} {run['policy']} seed {run['seed']}"
    if "skipped" in run:
        return f"{name}: skipped, {run['skipped']}"
    if "failed" in run:
        return f"{name}: FAILED, {run['failed'].strip().splitlines()[-1]}"
    missed = f"; MISSED: {'; '.join(run['missed'])}" if run["missed"] else ""
    return f"{name}: work {run['work_done']:.3f}, trips {run['trips']}{missed}"


def _numbered(number: int, case: Case, parent: int) -> tuple[int, Run]:
    if os.getppid() == parent:  # a process of this machine's own
        _end_with(parent)
    return number, run_case(case)


@cache
def _end_with(parent: int) -> None:
    """End this process when its parent has gone, however that went: nobody waits for its runs any more."""

    def watch() -> None:
        while os.getppid() == parent:
            threading.Event().wait(WATCH_S)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def _light(run: Run) -> Run:
    return {k: v for k, v in run.items() if k not in ("trace", "events")}


def _cluster(kind: str, address: str) -> AbstractContextManager[Any]:
    if kind == "ray":
        from ray.util.joblib import register_ray

        register_ray()
        return joblib.parallel_config(backend="ray")  # type: ignore[no-any-return]
    import distributed

    connect: Any = distributed.Client
    try:
        client = connect(address) if address else distributed.get_client()
    except ValueError:  # no client yet and no address: a cluster of this machine's own
        client = connect()
    return joblib.parallel_config(backend="dask", client=client)  # type: ignore[no-any-return]


@cache
def code_digest() -> str:
    """The product's source as it lies here: another code, another result."""
    root = Path(__file__).parent.parent.parent
    digest = hashlib.blake2b(digest_size=16)
    for package in PACKAGES:
        for path in sorted(p for p in (root / package).rglob("*") if p.suffix in SUFFIXES):
            name = path.relative_to(root).as_posix()
            if not name.startswith(APART):
                digest.update(name.encode() + b"\0" + path.read_bytes() + b"\0")
    digest.update(np.__version__.encode())
    return digest.hexdigest()


@cache
def _policy_digest(policy: str) -> str:
    """Of the file of a policy of somebody's own; it is no part of our code."""
    if ":" not in policy:
        return ""
    file = sys.modules[factory_of(policy).__module__].__file__
    return hashlib.blake2b(Path(file).read_bytes() if file else b"", digest_size=16).hexdigest()


_sites: dict[int, tuple[Site, str]] = {}


def _site_digest(site: Site) -> str:
    """Of all that a site says; kept for the object, as a study asks it for each of its cases."""
    held = _sites.get(id(site))
    if held is None or held[0] is not site:
        text = site.model_dump_json(exclude={"where"})
        held = _sites[id(site)] = (site, hashlib.blake2b(text.encode(), digest_size=16).hexdigest())
    return held[1]
