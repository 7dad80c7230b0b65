"""A small building for rival policies, and what its instruments show, from plain numbers."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from helpers_control import Bench, Wiring, bench

from controller.frames import Floats, Requests
from drivers.points import Quality, Snapshot
from sim.lab.rivals import Layout, Seen
from sim.lab.rivals.policy import layout_of
from sim.lab.rivals.runner import see

FLOOR_W, MAX_W = 40e3, 80e3
IDLE_W = OTHER_W = 20e3  # a quarter of the nameplate, as in helpers_control


def small(racks: int = 4, *, training: bool = True, **wiring: object) -> tuple[Bench, Layout]:
    """A site of `racks` alike on two UPS, and its layout; every rack a gang of its own unless `gangs` says otherwise.

    The limits of UPS and feeds are far away unless given, so that the envelope is what binds.
    """
    given: dict[str, object] = {
        "ups": ((0, 2e6, "VA"), (0, 2e6, "VA")),
        "cords": ((0, 1),) * racks,
        "gangs": tuple(range(racks)) if training else (),
    }
    made = bench(Wiring(**(given | wiring)))  # type: ignore[arg-type]
    return made, layout_of(made.plan, made.inventory)


def reading(
    made: Bench,
    rack_w: Sequence[float] | Floats,
    cap_w: Sequence[float] | Floats | None = None,
    *,
    now_s: float = 1000.0,
    envelope_w: float | None = None,
    extra_w: float = 0.0,
    silent: Sequence[tuple[str, str]] = (),
) -> Seen:
    """What a policy sees when racks draw `rack_w` under `cap_w` [W] and `extra_w` hangs on the first feed.

    Points in `silent` (device, point) are STALE.
    """
    rack = np.asarray(rack_w, dtype=np.float64)
    caps = made.plan.max_w if cap_w is None else np.asarray(cap_w, dtype=np.float64)
    value = made.values(rack, caps, {"feed0": extra_w})
    quality = np.zeros(len(value), dtype=np.uint8)
    quality[[made.slots[point] for point in silent]] = Quality.STALE
    shot = Snapshot(now_s, value, quality, np.full(len(value), now_s - 0.25))
    return see(made.plan, shot, Requests(envelope_w=envelope_w))


def site_w(made: Bench, rack_w: Sequence[float] | Floats) -> float:
    """What the utility meter shows when racks draw that, walked apart from the layout's rows [W]."""
    return made.node_w(np.asarray(rack_w, dtype=np.float64))["feed0"]


def with_limit(layout: Layout, row: str, limit_w: float) -> Layout:
    """The layout with another limit of one row."""
    limits = layout.limit_w.copy()
    limits[layout.row_name.index(row)] = limit_w
    return replace(layout, limit_w=limits)
