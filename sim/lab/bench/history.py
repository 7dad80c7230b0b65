"""What the history of the plant's real noisy data costs: writing, at rest, and asking for a day of one point."""

import os
import resource
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from controller import history_query
from controller.history import Layout, frame_log, layout_of
from controller.history.paths import Paths
from controller.history.work import HOUR_MS
from controller.plan import compile_plan
from drivers.clock import perf_s, thread_s
from drivers.profile import load_profiles
from drivers.site.load import resolve_site
from sim.plant.plant import Plant
from sim.scenarios import load_scenario

ASKED_POINTS_PER_S = 60_000
DAY_HOURS = 24
START_MS = 1_767_225_600_000
QUERIES = 15
FOLDER = "HEADROOM_BENCH_DIR"


def bench_history(say: Callable[[str], None], seconds: int = 3600) -> dict[str, Any]:
    """An hour of `colossus` at a surge: every point every second, with the plant's noise, through log and worker.

    `core_share`: of a core at 60,000 points a second, writer and worker together; `bytes_per_point` with the minutes,
    `moving_share`: of the points, how many differ from the second before; `query_ms`: a day of one point at plot
    resolution, median, `query_raw_ms`: ten minutes of it second by second. The day is this hour 24 times (hard links).
    """
    site = resolve_site("colossus")
    plant = Plant(site, load_profiles(), load_scenario("surge"))
    layout = layout_of(compile_plan(site, plant.inventory), plant.inventory)
    with tempfile.TemporaryDirectory(dir=os.environ.get(FOLDER)) as place:
        state = Path(place)
        paths = Paths.of(state)
        paths.make()
        layout.save(paths.log)
        say(f"{layout.size} points, {seconds} s of plant ..")
        wrote_s, worked_s, moving = _written(state, plant, layout, seconds)
        say("merging the hour ..")
        worked_s += _work(state, START_MS + 2 * HOUR_MS)
        stored, minute_bytes = (_bytes(*folders) for folders in ((paths.hours, paths.minutes), (paths.minutes,)))
        points = layout.size * seconds
        result = {
            "points": layout.size,
            "points_per_s": points / (wrote_s + worked_s),
            "core_share": (wrote_s + worked_s) * ASKED_POINTS_PER_S / points,
            "core_share_of_site": (wrote_s + worked_s) / seconds,
            "writer_core_share_of_site": wrote_s / seconds,
            "worker_mib": resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024.0,
            "moving_share": moving,
            "bytes_per_point": stored / points,
            "bytes_per_point_minutes": minute_bytes / points,
            "gb_per_day": stored / seconds * 86400 / 1e9,
        }
        names = layout.names[:: max(1, layout.size // QUERIES)].tolist()
        return result | _asked(state, paths, names, DAY_HOURS * -(-seconds // 60))


def _written(state: Path, plant: Plant, layout: Layout, seconds: int) -> tuple[float, float, float]:
    """CPU time of the writer and of the worker [s], and the share of points that move from second to second."""
    writer, wrote_s, worked_s, moved = frame_log.Writer(Paths.of(state).log, layout), 0.0, 0.0, 0
    quality = np.zeros(layout.size, dtype=np.uint8)
    before = layout.raw(plant.measure())
    for second in range(seconds):
        plant.step(1.0)
        value = plant.measure()
        began_s = thread_s()
        finished = writer.append(START_MS + 1000 * second, second, value, quality)
        wrote_s += thread_s() - began_s
        if finished:
            worked_s += _work(state, START_MS + 1000 * second)
        raw = layout.raw(value)
        moved += int((raw != before).sum())
        before = raw
    writer.finish()
    return wrote_s, worked_s, moved / (layout.size * seconds)


def _bytes(*folders: Path) -> int:
    return sum(p.stat().st_size for folder in folders for p in folder.glob("*.parquet"))


def _work(state: Path, now_ms: int) -> float:
    """The worker's process as the controller starts it, at another time; its CPU time [s], with its start."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    code = "import sys; from pathlib import Path; from controller.history.work import advance"
    code += f"; advance(Path(sys.argv[1]), {now_ms})"
    subprocess.run([sys.executable, "-c", code, str(state)], check=True)  # noqa: S603  (our own worker)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def _asked(state: Path, paths: Paths, names: list[str], minutes: int) -> dict[str, float]:
    for folder in (paths.hours, paths.minutes):
        (first,) = folder.glob("*.parquet")
        _, _, rest = first.name.partition("-")
        for hour in range(1, DAY_HOURS):
            os.link(first, folder / f"{START_MS + hour * HOUR_MS}-{rest}")
    day, raw = [], []
    for name in names:
        began_s = perf_s()
        found = history_query.query(state, name, START_MS, START_MS + DAY_HOURS * HOUR_MS, 60.0)
        day.append(perf_s() - began_s)
        assert len(found.t_ms) == minutes, len(found.t_ms)
        began_s = perf_s()
        found = history_query.query(state, name, START_MS + 12 * HOUR_MS, START_MS + 12 * HOUR_MS + 600_000)
        raw.append(perf_s() - began_s)
    ms = [1000.0 * float(np.median(x)) for x in (day, raw)]
    shutil.rmtree(paths.top)
    return {"query_ms": ms[0], "query_ms_max": 1000.0 * max(day), "query_raw_ms": ms[1]}
