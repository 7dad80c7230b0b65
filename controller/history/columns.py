"""Frames to columns: Parquet, one row a point with a list of its raw integers, delta-packed, zstd; rows by name.

The first row, of no name, holds the times: milliseconds since the start in the file's name. Quality carries NO_VALUE
where there was no value; the integer there is the one before it, which costs nothing.
"""

import json
import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from controller.frames import Ints
from controller.history.layout import MISSING, Layout

GROUP = 512  # points a row group: a question for one point decodes them all
MINUTE_GROUP = 1024  # the same for minutes: with fewer the footers of a day's files cost more than the values
NO_VALUE = 0x80
TIMES = ""
ZSTD_LEVEL = 3
INTS, CODES = pa.list_(pa.int32()), pa.list_(pa.uint8())
RAW = pa.schema([
    ("name", pa.string()), ("step", pa.float64()), ("offset", pa.float64()), ("values", INTS), ("quality", CODES),
])  # fmt: skip
MINUTES = pa.schema([
    ("name", pa.string()), ("step", pa.float64()), ("offset", pa.float64()),
    ("low", INTS), ("mean", INTS), ("high", INTS), ("quality", CODES),
])  # fmt: skip


@dataclass(frozen=True)
class Block:
    """Some points over some time: raw integers and quality [points, times]."""

    raw: np.ndarray
    quality: np.ndarray


class Out:
    """Writes one file; it is there, whole and on the disk, or not at all."""

    def __init__(self, path: Path, schema: pa.Schema, layout: Layout, notes: dict[str, object]) -> None:
        self._path, self._scratch, self._schema = path, path.with_suffix(".new"), schema
        self._layout, self._at = layout, 0
        self._waiting: list[pa.Table] = []
        meta = {b"headroom": json.dumps({"layout": layout.id} | notes).encode()}
        ints = [f.name for f in schema if f.type == INTS]
        self._writer = pq.ParquetWriter(
            self._scratch,
            schema.with_metadata(meta),
            compression="zstd",
            compression_level=ZSTD_LEVEL,
            use_dictionary=["quality.list.element"],
            column_encoding={f"{name}.list.element": "DELTA_BINARY_PACKED" for name in ints},
            write_statistics=["name"],
        )

    def times(self, offsets_ms: np.ndarray) -> None:
        """The row of times, first."""
        lists = {f.name: _lists(offsets_ms.astype(np.int32)[None, :]) for f in self._schema if f.type == INTS}
        quality = _lists(np.zeros((1, len(offsets_ms)), dtype=np.uint8))
        fixed = {"name": pa.array([TIMES]), "step": pa.array([0.001]), "offset": pa.array([0.0])}
        self._table(fixed | lists | {"quality": quality}, 1)

    def points(self, **columns: np.ndarray) -> None:
        """The next points by name, one array [points, times] for each column."""
        count = len(next(iter(columns.values())))
        at = self._layout.order[self._at : self._at + count]
        self._at += count
        fixed = {
            "name": pa.array(self._layout.names[at].tolist(), pa.string()),
            "step": pa.array(self._layout.step[at]),
            "offset": pa.array(self._layout.offset[at]),
        }
        group = MINUTE_GROUP if self._schema is MINUTES else GROUP
        self._table(fixed | {name: _lists(values) for name, values in columns.items()}, group)

    def _table(self, columns: dict[str, pa.Array], group: int) -> None:
        self._waiting.append(pa.table([columns[f.name] for f in self._schema], self._schema))
        if sum(len(t) for t in self._waiting) >= group:
            self._flush()

    def _flush(self) -> None:
        """What waits becomes one row group."""
        if self._waiting:
            whole = pa.concat_tables(self._waiting).combine_chunks()
            self._writer.write_table(whole, len(whole))
        self._waiting = []

    def close(self) -> None:
        """Put it in its place."""
        self._flush()
        self._writer.close()
        with self._scratch.open("rb+") as file:
            os.fsync(file.fileno())
        self._scratch.replace(self._path)

    def give_up(self) -> None:
        """Leave nothing behind."""
        self._writer.close()
        self._scratch.unlink(missing_ok=True)


def _lists(values: np.ndarray) -> pa.ListArray:
    """Rows of equal length [points, times] as lists."""
    count, length = values.shape
    offsets = np.arange(count + 1, dtype=np.int32) * length
    return pa.ListArray.from_arrays(pa.array(offsets), pa.array(np.ascontiguousarray(values).reshape(-1)))


def arrays(lists: pa.ChunkedArray) -> np.ndarray:
    """Lists of equal length as one array [rows, length]."""
    flat = lists.combine_chunks().flatten().to_numpy(zero_copy_only=False)
    return np.asarray(flat).reshape(len(lists), -1) if len(lists) else np.zeros((0, 0), dtype=np.int32)


def filled(raw: np.ndarray, quality: np.ndarray) -> Block:
    """Points by times with every gap marked in the quality and filled with the value before it, or after it."""
    gaps = raw == MISSING
    if not gaps.any():
        return Block(raw, quality)
    raw, quality = raw.copy(), quality | np.where(gaps, np.uint8(NO_VALUE), np.uint8(0))
    for i in np.flatnonzero(gaps.any(axis=1)):
        known = np.flatnonzero(~gaps[i])
        if not len(known):
            raw[i] = 0
            continue
        at = np.searchsorted(known, np.arange(raw.shape[1]), side="right") - 1
        raw[i] = raw[i, known[np.maximum(at, 0)]]
    return Block(raw, quality)


def minutes(block: Block, starts: Ints) -> dict[str, np.ndarray]:
    """Least, mean and most of each minute, and its worst quality; `starts` are the minutes' first columns.

    Values that are gaps do not count, unless a minute has nothing else; its quality then has NO_VALUE.
    """
    at = starts
    ends = np.append(at[1:], block.raw.shape[1])
    gaps = (block.quality & NO_VALUE) != 0
    code = block.quality & ~np.uint8(NO_VALUE)
    if not gaps.any():
        total = np.add.reduceat(block.raw, at, axis=1, dtype=np.int64)
        low, high = np.minimum.reduceat(block.raw, at, axis=1), np.maximum.reduceat(block.raw, at, axis=1)
        mean = np.rint(total / (ends - at)).astype(np.int32)
        return {"low": low, "mean": mean, "high": high, "quality": np.maximum.reduceat(code, at, axis=1)}
    nothing = np.logical_and.reduceat(gaps, at, axis=1)
    used = ~gaps | np.repeat(nothing, ends - at, axis=1)
    low = np.minimum.reduceat(np.where(used, block.raw, np.iinfo(np.int32).max), at, axis=1)
    high = np.maximum.reduceat(np.where(used, block.raw, np.iinfo(np.int32).min), at, axis=1)
    total = np.add.reduceat(np.where(used, block.raw, 0), at, axis=1, dtype=np.int64)
    mean = np.rint(total / np.add.reduceat(used, at, axis=1, dtype=np.int64)).astype(np.int32)
    quality = np.maximum.reduceat(code, at, axis=1) | np.where(nothing, np.uint8(NO_VALUE), np.uint8(0))
    return {"low": low, "mean": mean, "high": high, "quality": quality}
