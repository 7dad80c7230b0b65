"""History of one point, for plots and programs: hours and minutes through DuckDB, the last minutes from the log."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
from numpy.typing import NDArray

from controller.history import frame_log
from controller.history.columns import NO_VALUE, TIMES, arrays
from controller.history.layout import MISSING, load
from controller.history.paths import Paths
from controller.history.work import HOUR_MS, MINUTE_MS
from drivers.points import Quality

COARSE_S = 60.0  # from here on minutes serve
TRIES = 5
SETTINGS: dict[str, str | bool | int | float | list[str]] = {
    "threads": 1,  # the other core is for control
    "memory_limit": "512MB",
    "autoinstall_known_extensions": False,  # nothing comes from the network
    "autoload_known_extensions": False,
}
MOST = 200_000  # values that one answer may have: a coarser resolution is taken beyond
Times = NDArray[np.int64]
Values = NDArray[np.float64]
Codes = NDArray[np.uint8]


class HistoryError(ValueError):
    """There is no such history; the message says what there is."""


@dataclass(frozen=True)
class Series:
    """One point over time, all arrays of one length: start of each bin [ms, wall], least, mean, most, worst quality.

    NaN where there was no value; at the finest resolution the three are one.
    """

    point: str
    t_ms: Times
    low: Values
    mean: Values
    high: Values
    quality: Codes
    resolution_s: float

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready; None for unknown."""
        return {
            "point": self.point,
            "resolution_s": self.resolution_s,
            "t_ms": self.t_ms.tolist(),
            "quality": self.quality.tolist(),
        } | {name: _plain(getattr(self, name)) for name in ("low", "mean", "high")}


Part = tuple[Times, Values, Values, Values, Codes]


def query(state: Path, point: str, from_ms: int, to_ms: int, resolution_s: float = 1.0) -> Series:
    """A point of the site with this state directory, from `from_ms` to before `to_ms` [ms, wall].

    `resolution_s` 1 gives frames as they came; more gives bins; minutes serve from 60 s on. HistoryError where nobody
    knows the point.
    """
    paths = Paths.of(state)
    resolution_s = max(resolution_s, (to_ms - from_ms) / 1000.0 / MOST)
    coarse = resolution_s >= COARSE_S
    parts = _parts(paths, point, from_ms, to_ms, coarse)
    if not parts:
        _must_know(paths, point)
    t_ms, low, mean, high, quality = _joined(parts, from_ms, to_ms)
    series = Series(point, t_ms, low, mean, high, quality, resolution_s)
    return series if resolution_s <= 1.0 or not len(t_ms) else _binned(series, from_ms)


def _parts(paths: Paths, point: str, from_ms: int, to_ms: int, coarse: bool) -> list[Part]:
    """From the log, from what is transposed, from what is merged: in the order in which files move, so none is missed.

    A file that has just moved on is not where it was listed: then all is read again.
    """
    for left in range(TRIES - 1, -1, -1):
        parts = _logged(paths, point, from_ms, to_ms)
        try:
            with _base().cursor() as base:
                recent = _within(paths.recent, from_ms, to_ms, 2 * frame_log.SPAN_MS)
                parts += _parquet(base, recent, point, False)
                hours = _within(paths.minutes if coarse else paths.hours, from_ms, to_ms, HOUR_MS)
                return parts + _parquet(base, hours, point, coarse)
        except (duckdb.IOException, FileNotFoundError) as error:
            if not left:
                raise HistoryError(f"history cannot be read: {error}") from error
    return []


@cache
def _base() -> duckdb.DuckDBPyConnection:
    """One database in memory for this process; each question has a cursor of its own, from whatever thread."""
    base = duckdb.connect(config=SETTINGS)
    base.execute("SET GLOBAL parquet_metadata_cache = true")  # two questions, and the next ones, read a footer once
    return base


def _within(folder: Path, from_ms: int, to_ms: int, span_ms: int) -> list[Path]:
    return [p for p in folder.glob("*.parquet") if _start(p) < to_ms and _start(p) + span_ms > from_ms]


def points(state: Path) -> list[str]:
    """Names of all points that history knows."""
    paths = Paths.of(state)
    names: set[str] = set()
    for path in paths.log.glob("*.npz"):
        names |= set(load(paths.log, path.stem).names.tolist())
    return sorted(names)


def _parquet(base: duckdb.DuckDBPyConnection, files: Sequence[Path], point: str, coarse: bool) -> list[Part]:
    if not files:
        return []
    columns = "low, mean, high" if coarse else "values"
    table = 'SELECT filename, name, step, "offset", quality, {} FROM read_parquet(?, filename = true) WHERE name = ?'
    query, given = table.format(columns), [str(p) for p in files]
    # two questions: asked for both names at once every row group between them would be read
    both = [base.sql(query, params=[given, name]).to_arrow_table() for name in (TIMES, point)]
    times_at, mine_at = ({name: i for i, name in enumerate(found["filename"].to_pylist())} for found in both)
    parts = []
    for file, at in mine_at.items():
        times, mine = both[0].slice(times_at[file], 1), both[1].slice(at, 1)
        step, offset = mine["step"][0].as_py(), mine["offset"][0].as_py()
        t_ms = arrays(times["low" if coarse else "values"])[0].astype(np.int64) + _start(Path(file))
        raw = [arrays(mine[c])[0] * step + offset for c in columns.split(", ")]
        low, mean, high = raw if coarse else (raw[0], raw[0], raw[0])
        parts.append(_part(t_ms, low, mean, high, arrays(mine["quality"])[0]))
    return parts


def _part(t_ms: Times, low: Values, mean: Values, high: Values, quality: Codes) -> Part:
    """Values that were filled in are unknown again."""
    gone = (quality & NO_VALUE) != 0
    if not gone.any():
        return t_ms, low, mean, high, quality
    code = np.where(gone, np.maximum(quality & ~np.uint8(NO_VALUE), Quality.BAD), quality).astype(np.uint8)
    low, mean, high = (np.where(gone, np.nan, x) for x in (low, mean, high))
    return t_ms, low, mean, high, code


def _logged(paths: Paths, point: str, from_ms: int, to_ms: int) -> list[Part]:
    """The last minutes, straight from the frames; a torn one at the end is left out, its checksum is not looked at."""
    parts = []
    layouts: dict[str, Any] = {}
    for path in frame_log.files(paths.log):
        start, _, name = path.stem.partition("-")
        if int(start) >= to_ms or int(start) + 2 * frame_log.SPAN_MS <= from_ms:
            continue
        try:
            layout = layouts.setdefault(name, load(paths.log, name))
            at = np.flatnonzero(layout.names == point)
            found = frame_log.read(path, layout.size, check=False).whole
        except (OSError, ValueError):
            continue  # it has just been transposed, or cannot be read: the work says so
        if not len(at) or not len(found):
            continue
        raw, slot = found["raw"][:, at[0]], int(at[0])
        gone = np.where(raw == MISSING, np.uint8(NO_VALUE), np.uint8(0))
        value = raw * layout.step[slot] + layout.offset[slot]
        parts.append(
            _part(found["at_ms"].astype(np.int64), value, value, value, np.bitwise_or(found["quality"][:, slot], gone))
        )
    return parts


def _joined(parts: Sequence[Part], from_ms: int, to_ms: int) -> Part:
    """Parts in order of time, what two of them have once."""
    empty: Part = (np.zeros(0, np.int64), np.zeros(0), np.zeros(0), np.zeros(0), np.zeros(0, np.uint8))
    columns = [np.concatenate([p[i] for p in [empty, *parts]]) for i in range(5)]
    first = np.unique(columns[0], return_index=True)[1]
    order = first[(columns[0][first] >= from_ms) & (columns[0][first] < to_ms)]
    t_ms, low, mean, high, quality = (c[order] for c in columns)
    return t_ms, low, mean, high, quality.astype(np.uint8)


def _binned(fine: Series, from_ms: int) -> Series:
    """Bins of the resolution since `from_ms`; those of nothing are left out, those of no value are NaN."""
    width = round(fine.resolution_s * 1000)
    of = (fine.t_ms - from_ms) // width
    bins, first, count = np.unique(of, return_index=True, return_counts=True)
    known = np.isfinite(fine.mean)
    sums = np.add.reduceat(np.where(known, fine.mean, 0.0), first)
    good = np.add.reduceat(known, first, dtype=np.int64)
    with np.errstate(invalid="ignore"):
        mean = np.where(good > 0, sums / np.maximum(good, 1), np.nan)
    low, high = np.fmin.reduceat(fine.low, first), np.fmax.reduceat(fine.high, first)
    quality = np.maximum.reduceat(fine.quality, first)
    assert count.sum() == len(of)
    return Series(fine.point, from_ms + bins * width, low, mean, high, quality, fine.resolution_s)


def _must_know(paths: Paths, point: str) -> None:
    """HistoryError unless the point is one, only without history in this time."""
    names: set[str] = set()
    for path in paths.log.glob("*.npz"):
        names |= set(load(paths.log, path.stem).names.tolist())
    if not names:
        raise HistoryError(f"no history in {paths.top}: no controller has run on this state directory (--state)")
    if point not in names:
        part = point.partition(".")[0]
        near = sorted(n for n in names if n.startswith(part + "."))[:20] or sorted(names)[:5]
        raise HistoryError(f"there is no point {point!r}; there are for example {', '.join(near)}")


def _start(path: Path) -> int:
    return int(path.stem.partition("-")[0])


def _plain(values: Values) -> list[float | None]:
    return [float(f"{v:.9g}") if np.isfinite(v) else None for v in values]


assert MINUTE_MS == COARSE_S * 1000
