"""The store-and-forward: each frame appended as it is, fixed size, with its own checksum. A torn one is seen.

A file holds SPAN_MS of one layout: START_MS-LAYOUT.frames while it is written, .done afterwards.
"""

import errno
import zlib
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np

from controller.history.layout import Layout

MAGIC = b"HRF1"
SPAN_MS = 300_000
HEAD = 8  # magic and checksum


def frame_type(points: int) -> np.dtype:
    """One frame of so many points: the checksum is of all behind it."""
    return np.dtype([
        ("magic", "S4"), ("crc", "<u4"), ("at_ms", "<i8"), ("cycle", "<u8"), ("raw", "<i4", (points,)),
        ("quality", "u1", (points,)),
    ])  # fmt: skip


class Writer:
    """Appends frames. OSError where the disk does not take them: what was written before stays readable."""

    def __init__(self, folder: Path, layout: Layout) -> None:
        self._folder, self._layout = folder, layout
        self._one = np.zeros(1, dtype=frame_type(layout.size))
        self._one["magic"] = MAGIC
        self._file: BinaryIO | None = None
        self._span = -1

    def append(self, at_ms: int, cycle: int, value: np.ndarray, quality: np.ndarray) -> bool:
        """Write one frame; whether an older file was finished by it."""
        finished = False
        if at_ms // SPAN_MS != self._span:
            finished = self.finish()
            self._open(at_ms)
        one = self._one
        one["at_ms"], one["cycle"], one["raw"][0], one["quality"][0] = at_ms, cycle, self._layout.raw(value), quality
        data = one.view(np.uint8).data
        one["crc"] = zlib.crc32(data[HEAD:])
        self._write(data)
        return finished

    def _write(self, data: memoryview) -> None:
        """The frame, whole or not at all: a torn one would hide those behind it."""
        assert self._file is not None
        start = self._file.tell()
        try:
            if self._file.write(data) != len(data):
                raise OSError(errno.ENOSPC, "the disk took half a frame")
        except OSError:
            with suppress(OSError):
                self._file.truncate(start)
            self.finish()
            raise

    def finish(self) -> bool:
        """Close the file: it waits to be transposed. Whether there was one."""
        if self._file is None:
            return False
        path = Path(self._file.name)
        self._file.close()
        self._file, self._span = None, -1
        path.rename(path.with_suffix(".done"))
        return True

    def _open(self, at_ms: int) -> None:
        path = self._folder / f"{at_ms}-{self._layout.id}.frames"
        self._file = path.open("ab", buffering=0)
        self._span = at_ms // SPAN_MS


def adopt(folder: Path) -> int:
    """Files that a dead controller left behind are finished; how many."""
    left = list(folder.glob("*.frames"))
    for path in left:
        path.rename(path.with_suffix(".done"))
    return len(left)


@dataclass(frozen=True)
class Frames:
    """What a file holds: whole frames, mapped; bytes of a torn one at its end; frames whose checksum is wrong."""

    start_ms: int
    layout_id: str
    whole: np.ndarray
    torn_bytes: int
    damaged: int


def read(path: Path, points: int, check: bool = True) -> Frames:
    """The frames of a file of `points` points. OSError, or ValueError where it is none."""
    start, _, layout_id = path.stem.partition("-")
    kind = frame_type(points)
    size = path.stat().st_size
    count = size // kind.itemsize
    torn = size - count * kind.itemsize
    if count == 0:
        return Frames(int(start), layout_id, np.zeros(0, dtype=kind), torn, 0)
    found: np.ndarray = np.memmap(path, dtype=kind, mode="r", shape=(count,))
    if not check:
        return Frames(int(start), layout_id, found, torn, 0)
    good = np.array([_good(found[i : i + 1]) for i in range(count)])
    whole = found if good.all() else found[good]
    return Frames(int(start), layout_id, whole, torn, int((~good).sum()))


def _good(one: np.ndarray) -> bool:
    data = one.view(np.uint8).data
    return bytes(one["magic"][0]) == MAGIC and zlib.crc32(data[HEAD:]) == int(one["crc"][0])


def files(folder: Path) -> Iterator[Path]:
    """All files of the log, oldest first."""
    yield from sorted([*folder.glob("*.frames"), *folder.glob("*.done")], key=lambda p: int(p.stem.partition("-")[0]))
