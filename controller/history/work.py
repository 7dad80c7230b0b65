"""What turns the frame log into history: transposes finished files, merges hours, makes minutes, lets old ones go."""

import fcntl
import logging
import shutil
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import yaml
from pydantic import BaseModel, ConfigDict, Field

from controller.history import frame_log
from controller.history.columns import GROUP, MINUTES, RAW, Block, Out, arrays, filled, minutes
from controller.history.layout import load
from controller.history.paths import Paths

HOUR_MS, MINUTE_MS, DAY_MS = 3_600_000, 60_000, 86_400_000
log = logging.getLogger(__name__)


class Keep(BaseModel):
    """How long history is kept (history.yaml in the state directory)."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    days: float = Field(default=30.0, gt=0)
    minutes_days: float = Field(default=400.0, gt=0)
    most_gb: float = Field(default=200.0, gt=0)
    free_share: float = Field(default=0.05, ge=0, lt=1)  # of the disk that stays free


def keep(state: Path) -> Keep:
    """The site's own figures, or the usual ones. ValueError names what is wrong."""
    try:
        given = yaml.safe_load((state / "history.yaml").read_text(encoding="utf-8"))
    except FileNotFoundError:
        return Keep()
    return Keep.model_validate(given or {})


def advance(state: Path, now_ms: int) -> list[str]:
    """All the work that there is; what was found to be wrong, in words."""
    paths, said = Paths.of(state), list[str]()
    paths.make()
    with (paths.top / "lock").open("w") as held:
        try:
            fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            return []  # another process is at it
        return _advance(state, paths, said, now_ms)


def _advance(state: Path, paths: Paths, said: list[str], now_ms: int) -> list[str]:
    for path in sorted(paths.log.glob("*.done")):
        said += transpose(paths, path)
    groups: dict[tuple[int, str], list[Path]] = defaultdict(list)
    for path in paths.recent.glob("*.parquet"):
        start, _, layout = path.stem.partition("-")
        groups[int(start) // HOUR_MS, layout].append(path)
    for (hour, layout), files in sorted(groups.items()):
        if (hour + 1) * HOUR_MS + frame_log.SPAN_MS <= now_ms:
            merge(paths, hour * HOUR_MS, layout, files)
    forget(paths, keep(state), now_ms)
    return said


def transpose(paths: Paths, path: Path) -> list[str]:
    """One finished file of the log to columns; a torn or damaged frame is said, nothing else is lost."""
    _, _, name = path.stem.partition("-")
    try:
        layout = load(paths.log, name)
    except (OSError, ValueError) as error:
        path.rename(path.with_suffix(".unreadable"))
        return [f"{path.name} cannot be read without its layout: {error}"]
    found = frame_log.read(path, layout.size)
    said = [f"{path.name}: the last frame is torn ({found.torn_bytes} bytes), as a kill leaves it"] * (
        found.torn_bytes > 0
    )
    said += [f"{path.name}: {found.damaged} frames are damaged and left out"] * (found.damaged > 0)
    if len(found.whole):
        times = found.whole["at_ms"].astype(np.int64)
        order = np.argsort(times, kind="stable")  # the wall clock may have been set back
        start_ms = int(times[order[0]])
        out = Out(paths.recent / f"{start_ms}-{name}.parquet", RAW, layout, {})
        try:
            out.times(times[order] - start_ms)
            whole = found.whole if (np.diff(order) == 1).all() else found.whole[order]  # mapped, not copied
            raw, quality = whole["raw"], whole["quality"]
            for at in range(0, layout.size, GROUP):
                some = layout.order[at : at + GROUP]
                block = filled(raw[:, some].T, quality[:, some].T)
                out.points(values=block.raw, quality=block.quality)
            out.close()
        except BaseException:
            out.give_up()
            raise
    path.unlink()
    return said


def merge(paths: Paths, hour_ms: int, name: str, files: Iterable[Path]) -> None:
    """The files of an hour, and what is there of it already, to one; its minutes beside it."""
    layout = load(paths.log, name)
    target = paths.hours / f"{hour_ms}-{name}.parquet"
    recent = list(files)
    sources = [pq.ParquetFile(p) for p in [target] * target.exists() + recent]
    starts = [int(p.stem.partition("-")[0]) for p in [target] * target.exists() + recent]
    rows = [arrays(s.read_row_group(0, ["values"])["values"])[0].astype(np.int64) for s in sources]
    times = np.concatenate([row + start for row, start in zip(rows, starts, strict=True)])
    order = np.unique(times, return_index=True)[1]  # once each: a kill after the merge leaves what is merged already
    of_minute, first = np.unique(times[order] // MINUTE_MS, return_index=True)
    hour = Out(target, RAW, layout, {})
    minute = Out(paths.minutes / target.name, MINUTES, layout, {})
    try:
        hour.times(times[order] - hour_ms)
        minute.times(of_minute * MINUTE_MS - hour_ms)
        for group in range(1, sources[0].num_row_groups):
            block = _joined([s.read_row_group(group, ["values", "quality"]) for s in sources], order)
            hour.points(values=block.raw, quality=block.quality)
            minute.points(**minutes(block, first))
        minute.close()
        hour.close()
    except BaseException:
        hour.give_up()
        minute.give_up()
        raise
    for path in recent:
        path.unlink()


def _joined(tables: list[pa.Table], order: np.ndarray) -> Block:
    raw = np.concatenate([arrays(t["values"]) for t in tables], axis=1)
    quality = np.concatenate([arrays(t["quality"]) for t in tables], axis=1)
    if (np.diff(order) == 1).all():
        return Block(raw, quality)
    return Block(np.ascontiguousarray(raw[:, order]), np.ascontiguousarray(quality[:, order]))


def forget(paths: Paths, kept: Keep, now_ms: int) -> None:
    """Raw hours and minutes that are too old go, then the oldest raw hours until size and free space are kept."""
    for folder, days in ((paths.hours, kept.days), (paths.minutes, kept.minutes_days)):
        for path in folder.glob("*.parquet"):
            if _start(path) + HOUR_MS < now_ms - days * DAY_MS:
                path.unlink()
    for folder in (paths.hours, paths.minutes):
        for path in sorted(folder.glob("*.parquet"), key=_start):
            if not _too_large(paths, kept):
                return
            log.warning("history: %s goes early, the disk or its share of it is full", path.name)
            path.unlink()


def _start(path: Path) -> int:
    return int(path.stem.partition("-")[0])


def _too_large(paths: Paths, kept: Keep) -> bool:
    used = sum(p.stat().st_size for folder in (paths.hours, paths.minutes) for p in folder.glob("*.parquet"))
    disk = shutil.disk_usage(paths.top)
    return used > kept.most_gb * 1e9 or disk.free < kept.free_share * disk.total
