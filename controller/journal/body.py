"""Bodies of records: JSON for what is rare; for a cycle a JSON line and its changed caps as arrays, compressed."""

import json
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from controller.frames import Codes, Floats, Frames, Ints, Reason
from controller.plan import Plan
from controller.words import row_text

LEVEL = 1  # of zlib: a fifth of the time of the default for some percent more bytes
COLUMNS: tuple[tuple[str, str], ...] = (
    ("rack", "<u4"),
    ("cap_w", "<i4"),
    ("reason", "u1"),
    ("row", "<i4"),
    ("shed", "u1"),
)
BOUND = 6  # limits that a cycle names


@dataclass(frozen=True)
class Last:
    """Orders as the record before left them: whole W, reasons, rows, rungs [R]."""

    cap_w: Ints
    reason: Codes
    row: Ints
    shed: Codes


def text(body: Mapping[str, Any]) -> bytes:
    """A JSON body."""
    return json.dumps(body, separators=(",", ":"), default=str).encode()


def orders(plan: Plan, frames: Frames, sent: int, last: Last | None) -> tuple[bytes, Last]:
    """A cycle's body, `sent` leases in it, and what the next one is compared with."""
    given = frames.orders
    racks = len(given.cap_w)
    shed = np.zeros(racks, dtype=np.uint8) if given.shed is None else given.shed
    now = Last(np.rint(given.cap_w).astype(np.int64), given.reason, given.row, shed)
    changed = np.arange(racks)
    if last is not None:
        moved = (
            (now.cap_w != last.cap_w) | (now.reason != last.reason) | (now.row != last.row) | (now.shed != last.shed)
        )
        changed = np.flatnonzero(moved)
    head = _head(plan, frames) | {"renewed": max(sent - len(changed), 0), "changed": len(changed)}
    used = np.unique(now.row[changed])
    head["rows"] = {str(int(row)): row_text(plan, int(row)) for row in used if row >= 0}
    values = (changed, now.cap_w[changed], now.reason[changed], now.row[changed], now.shed[changed])
    arrays = [np.asarray(v).astype(kind).tobytes() for v, (_, kind) in zip(values, COLUMNS, strict=True)]
    return zlib.compress(b"".join([text(head), b"\n", *arrays]), LEVEL), now


def _head(plan: Plan, frames: Frames) -> dict[str, Any]:
    """What a report needs of every cycle; W, and work as a share of what the racks ask."""
    given, known = frames.orders, frames.estimate
    capped = given.cap_w < known.demand_w - 0.005 * plan.max_w
    by_row = given.row[capped & (given.row >= 0)]
    rows, counts = np.unique(by_row, return_counts=True)
    held = {row_text(plan, int(row)): int(n) for row, n in zip(rows, counts, strict=True)}
    other = given.reason[capped & (given.row < 0)]
    held |= {f"({Reason(int(code)).name.lower()})": int((other == code).sum()) for code in np.unique(other)}
    weight_w = plan.gpu_w
    work = float((weight_w * np.clip(frames.proposal.level, 0.0, 1.0)).sum() / max(weight_w.sum(), 1.0))
    return {
        "cycle": frames.image.cycle,
        "mode": given.mode.name.lower(),
        "envelope_w": round(frames.limits.envelope_w),
        "load_w": whole(known.load_w[plan.envelope_row]),
        "caps_w": round(float(given.cap_w.sum())),
        "demand_w": round(float(known.demand_w.sum())),
        "capped": int(capped.sum()),
        "work": round(work, 5),
        "bound": sorted(held.items(), key=lambda x: -x[1])[:BOUND],
    }


def whole(value: float) -> int | None:
    """Whole watts, None for unknown."""
    return round(float(value)) if np.isfinite(value) else None


def orders_head(body: bytes) -> dict[str, Any]:
    """The JSON part of a cycle's body. ValueError where it is none."""
    found: dict[str, Any] = json.loads(_opened(body).partition(b"\n")[0])
    return found


def orders_arrays(body: bytes) -> tuple[dict[str, Any], dict[str, Ints | Floats | Codes]]:
    """Head and columns (rack, cap_w, reason, row, shed) of a cycle's body, one entry per changed rack."""
    line, _, rest = _opened(body).partition(b"\n")
    head: dict[str, Any] = json.loads(line)
    out: dict[str, Any] = {}
    at, n = 0, int(head["changed"])
    for name, kind in COLUMNS:
        out[name] = np.frombuffer(rest, dtype=kind, count=n, offset=at)
        at += n * np.dtype(kind).itemsize
    return head, out


def _opened(body: bytes) -> bytes:
    try:
        return zlib.decompress(body)
    except zlib.error as error:
        raise ValueError(f"a cycle that cannot be unpacked: {error}") from error
