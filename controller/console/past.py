"""The past hour in the console's memory: site totals each second, every rack and node each five seconds.

For trends on the pages; what must outlive the console is the history's.
"""

from collections import deque
from typing import Any

import numpy as np

from drivers.points import Floats

HOUR_S = 3600
EVERY = 5  # cycles between two rows of racks and nodes
TOTALS = ("load_w", "envelope_w", "caps_w", "demand_w", "racks_w", "other_w", "racks_capped", "step_ms", "jitter_ms")
WIDE = ("rack_w", "rack_cap_w", "rack_wants_w", "node_load", "node_limit", "loop_supply_c", "loop_return_c")
SITE = "site"


class Past:
    """Rings of the past hour; `series` gives one point of it."""

    def __init__(self) -> None:
        self._ids: dict[str, dict[str, int]] = {}
        self._full_w: Floats = np.zeros(0)
        self._totals: deque[tuple[float, ...]] = deque(maxlen=HOUR_S)
        self._wide: deque[tuple[float, dict[str, np.ndarray]]] = deque(maxlen=HOUR_S // EVERY)
        self._seen = 0

    def begin(self, sheet: dict[str, Any]) -> None:
        """Another site, or the same one changed: the rows of racks and nodes begin anew."""
        self._ids = {
            kind: {name: i for i, name in enumerate(sheet[kind + "s"]["id"])} for kind in ("rack", "node", "loop")
        }
        self._full_w = np.array(sheet["nodes"]["full_w"])
        self._wide.clear()
        self._seen = 0

    def add(self, head: dict[str, Any], arrays: dict[str, Floats]) -> None:
        """Take one picture in."""
        at_s = head["wall_ms"] / 1000.0
        self._totals.append((at_s, *(_number(head.get(name)) for name in TOTALS)))
        if self._seen % EVERY == 0:
            self._wide.append((at_s, {name: arrays[name].astype(np.float32) for name in WIDE}))
        self._seen += 1

    def points(self) -> list[str]:
        """Every kind of point that `series` knows, as patterns."""
        wide = [f"{name.split('_')[0]}/ID/{name.split('_', 1)[1]}" for name in WIDE]
        return [f"{SITE}/{name}" for name in TOTALS] + wide

    def series(self, point: str, since_s: float = 0.0) -> list[list[float | None]]:
        """[[wall seconds, value or None], ..] of `site/load_w`, `rack/ID/w`, `node/ID/load`; KeyError where unknown.

        A node's load and limit are in W.
        """
        kind, _, rest = point.partition("/")
        if kind == SITE:
            at = 1 + TOTALS.index(rest) if rest in TOTALS else None
            if at is None:
                raise KeyError(point)
            return [[row[0], _plain(row[at])] for row in self._totals if row[0] >= since_s]
        name, _, what = rest.rpartition("/")
        index, array = self._ids[kind][name], f"{kind}_{what}"
        if array not in WIDE:
            raise KeyError(point)
        by = float(self._full_w[index]) if kind == "node" else 1.0
        return [[t, _plain(float(row[array][index]) * by)] for t, row in self._wide if t >= since_s]


def _number(value: Any) -> float:
    return float("nan") if value is None else float(value)


def _plain(value: float) -> float | None:
    return value if np.isfinite(value) else None
