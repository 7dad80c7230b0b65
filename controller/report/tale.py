"""What the journal tells of a span of time, in figures: envelope, ramps, work, limits that bound, alarms, acts."""

import json
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from controller.journal import Entry, body
from drivers.points import Floats

OVER = 1.005  # the load exceeds the envelope by more than metering error
MEAN_S, RAMP_S = 10, 60  # a ramp is the change of a 10 s mean within a minute
LONGEST_GAP_S = 5.0  # cycles further apart are a gap: nothing is known between them
COLUMNS = ("load_w", "envelope_w", "caps_w", "demand_w", "work", "capped", "changed")


@dataclass
class Tale:
    """Cycles as columns over `t_ms`, and what happened."""

    from_ms: int
    to_ms: int
    t_ms: np.ndarray = field(default_factory=lambda: np.zeros(0, dtype=np.int64))
    columns: dict[str, Floats] = field(default_factory=dict)
    bound: Counter[str] = field(default_factory=Counter)  # limit -> rack seconds held
    events: list[tuple[Entry, dict[str, Any]]] = field(default_factory=list)  # all but cycles
    unreadable: int = 0

    @property
    def step_s(self) -> Floats:
        """For how long each cycle stands [s]: until the next, none across a gap."""
        if not len(self.t_ms):
            return np.zeros(0)
        steps = np.append(np.diff(self.t_ms) / 1000.0, 1.0)
        return np.where(steps <= LONGEST_GAP_S, np.maximum(steps, 0.0), 1.0)

    def of(self, *kinds: str) -> list[tuple[Entry, dict[str, Any]]]:
        """Events of some kinds, in order."""
        return [x for x in self.events if x[0].kind in kinds]


def read(entries: Iterable[Entry], from_ms: int, to_ms: int) -> Tale:
    """The tale of a span; a record that cannot be read is counted."""
    tale = Tale(from_ms, to_ms)
    times: list[int] = []
    rows: list[list[float]] = []
    for entry in entries:
        try:
            if entry.kind == "orders":
                head = body.orders_head(entry.body)
                rows.append([float("nan") if head.get(c) is None else float(head[c]) for c in COLUMNS])
                times.append(entry.at_ms)
                tale.bound.update({str(name): int(racks) for name, racks in head["bound"]})
            else:
                tale.events.append((entry, json.loads(entry.body)))
        except (ValueError, KeyError, TypeError):
            tale.unreadable += 1
    tale.t_ms = np.array(times, dtype=np.int64)
    table = np.array(rows, dtype=float).reshape(len(rows), len(COLUMNS))
    tale.columns = {name: table[:, i] for i, name in enumerate(COLUMNS)}
    return tale


def figures(tale: Tale) -> dict[str, float]:
    """The figures of the summary: shares 0..1, MW, MWh, hours; NaN where nothing is known."""
    step_s, load, envelope = tale.step_s, tale.columns["load_w"], tale.columns["envelope_w"]
    known = np.isfinite(load) & np.isfinite(envelope)
    over = known & (load > OVER * envelope)
    total_s = float(step_s[known].sum())
    work, capped = tale.columns["work"], tale.columns["capped"]
    up, down = ramps(tale)
    return {
        "recorded_share": float(step_s.sum()) / max((tale.to_ms - tale.from_ms) / 1000.0, 1e-9),
        "within_share": 1.0 - float(step_s[over].sum()) / total_s if total_s else float("nan"),
        "over_s": float(step_s[over].sum()),
        "over_longest_s": _longest(over, step_s),
        "over_mw_max": float((load[over] - envelope[over]).max(initial=0.0)) / 1e6,
        "load_mw_mean": _mean(load, step_s) / 1e6,
        "load_mw_max": float(np.nanmax(load, initial=-np.inf)) / 1e6 if known.any() else float("nan"),
        "energy_mwh": float(np.nansum(load * step_s)) / 3.6e9,
        "ramp_up_mw_per_min": up,
        "ramp_down_mw_per_min": down,
        "work_mean": _mean(work, step_s),
        "work_lost_share_hours": float(np.nansum((1.0 - work) * step_s)) / 3600.0,
        "capped_rack_hours": float(np.nansum(capped * step_s)) / 3600.0,
        "caps_changed": float(np.nansum(tale.columns["changed"])),
    }


def ramps(tale: Tale) -> tuple[float, float]:
    """Steepest rise and fall of the 10 s mean within a minute [MW/min]; nothing across gaps."""
    if len(tale.t_ms) < RAMP_S + MEAN_S:
        return float("nan"), float("nan")
    seconds = ((tale.t_ms - tale.t_ms[0]) // 1000).astype(np.int64)
    even = np.full(int(seconds.max()) + 1, np.nan)
    even[seconds[seconds >= 0]] = tale.columns["load_w"][seconds >= 0]
    if len(even) < RAMP_S + MEAN_S:
        return float("nan"), float("nan")
    windows = np.lib.stride_tricks.sliding_window_view(even, MEAN_S)
    good = np.isfinite(windows).sum(axis=1)
    mean = np.where(good > MEAN_S // 2, np.nansum(windows, axis=1) / np.maximum(good, 1), np.nan)
    change = (mean[RAMP_S:] - mean[:-RAMP_S]) / 1e6
    change = change[np.isfinite(change)]
    if not len(change):
        return float("nan"), float("nan")
    return max(float(change.max()), 0.0), max(-float(change.min()), 0.0)


def bins(tale: Tale, name: str, count: int) -> tuple[list[float | None], float]:
    """A column in equal bins over the whole span: mean of each, None where there is nothing; and a bin's length [s]."""
    width_ms = max((tale.to_ms - tale.from_ms) / count, 1000.0)
    total = max(1, int(np.ceil((tale.to_ms - tale.from_ms) / width_ms)))
    value = tale.columns[name]
    at = np.clip(((tale.t_ms - tale.from_ms) / width_ms).astype(np.int64), 0, total - 1)
    good = np.isfinite(value)
    sums = np.bincount(at[good], value[good], minlength=total)
    counts = np.bincount(at[good], minlength=total)
    return [s / n if n else None for s, n in zip(sums.tolist(), counts.tolist(), strict=True)], width_ms / 1000.0


@dataclass
class Life:
    """What one alarm did in the span."""

    id: str
    priority: str
    text: str
    raised: int = 0
    first_ms: int = 0
    active_s: float = 0.0
    since_ms: int | None = None
    acked_by: str = ""
    first_out: bool = False


def alarms(tale: Tale) -> list[Life]:
    """Every alarm that was raised or stood, in order of its first appearance."""
    lives: dict[str, Life] = {}
    active = ("unacknowledged", "acknowledged")
    for entry, said in tale.of("alarm"):
        life = lives.setdefault(said["id"], Life(said["id"], said["priority"], said["text"], first_ms=entry.at_ms))
        life.text = said["text"] or life.text
        life.first_out |= bool(said["first_out"])
        if said["now"] in active and said["was"] not in active:
            life.raised += 1
            life.since_ms = entry.at_ms
        elif said["now"] not in active and said["was"] in active:
            life.active_s += (entry.at_ms - (life.since_ms or tale.from_ms)) / 1000.0
            life.since_ms = None
        if said["now"] == "acknowledged":
            life.acked_by = said["by"]
    for life in lives.values():
        if life.since_ms is not None:
            life.active_s += (tale.to_ms - life.since_ms) / 1000.0
    return sorted(lives.values(), key=lambda x: x.first_ms)


def _mean(value: Floats, step_s: Floats) -> float:
    good = np.isfinite(value)
    weight = float(step_s[good].sum())
    return float((value[good] * step_s[good]).sum()) / weight if weight else float("nan")


def _longest(flags: np.ndarray, step_s: Floats) -> float:
    longest = run = 0.0
    for flag, step in zip(flags.tolist(), step_s.tolist(), strict=True):
        run = run + step if flag else 0.0
        longest = max(longest, run)
    return longest
