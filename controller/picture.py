"""The picture of a cycle: what each rack, node and cooling unit does, in the order of the site's tables (sheet.py)."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from controller import form
from controller.estimate import STALE_AGENT_S
from controller.feed import capped
from controller.form import Raw, f4, u1, u2
from controller.frames import Floats, Frames, Image, Ints
from controller.plan import Plan
from drivers.points import Quality

SHARE, CENTI, DECI, LEVEL = 1e-4, 0.01, 0.1, 1.0 / 250.0
ROOM = 1.25  # a rack's power may be this far above the largest nameplate and still be shown


class Layout:
    """Slots of the cooling points of a site, found once: element -> slot, -1 where nothing measures it."""

    def __init__(self, plan: Plan) -> None:
        site = plan.site
        self.cdu = _slots(plan, [x.id for x in site.cdus], ("flow_lpm", "supply_c", "return_c", "pump_pct"))
        self.loop = _slots(
            plan, [x.id for x in site.loops], ("flow_lpm", "supply_c", "return_c", "heat_w", "outside_c")
        )
        self.unit = _slots(
            plan, [x.id for x in site.cooling], ("available", "running", "power_w", "heat_w", "speed_pct")
        )
        self.storage = _slots(plan, [x.id for x in site.storage], ("power_w", "soc_pct"))
        self.rack_scale = float(max(plan.max_w.max(), 1.0)) * ROOM / (form.NO_ROW - 1)


def _slots(plan: Plan, ids: list[str], points: tuple[str, ...]) -> dict[str, Ints]:
    return {p: np.array([plan.measured.get((i, p), -1) for i in ids], dtype=np.int64) for p in points}


def pack(plan: Plan, layout: Layout, frames: Frames, head: dict[str, Any]) -> bytes:
    """The picture of a cycle; `head` is the feed's frame of the same cycle."""
    return form.join(head, {**_racks(plan, layout, frames), **_nodes(plan, frames), **_cooling(plan, layout, frames)})


def _racks(plan: Plan, layout: Layout, frames: Frames) -> dict[str, Raw]:
    known, orders, scale = frames.estimate, frames.orders, layout.rack_scale
    silent = frames.image.age_s[plan.agent_slot["cap_w"]] > STALE_AGENT_S
    shed = orders.shed if orders.shed is not None else np.zeros(len(orders.cap_w), dtype=np.uint8)
    return {
        "rack_w": u2(known.rack_power_w, scale),
        "rack_cap_w": u2(orders.cap_w, scale),
        "rack_wants_w": u2(known.demand_w, scale),
        "rack_level": u1(frames.proposal.level, LEVEL),
        "rack_reason": (orders.reason.astype(np.uint8), form.CODE),
        "rack_row": (np.where(orders.row < 0, form.NO_ROW, orders.row).astype("<u2"), form.CODE),
        "rack_shed": (shed.astype(np.uint8), form.CODE),
        "rack_flags": form.flags(
            (frames.limits.held, form.RACK_HELD),
            (known.rack_known, form.RACK_KNOWN),
            (known.disobedient, form.RACK_DISOBEDIENT),
            (orders.unheeded, form.RACK_UNHEEDED),
            (silent, form.RACK_SILENT),
            (capped(frames, plan), form.RACK_CAPPED),
            (frames.limits.parked, form.RACK_PARKED),
        ),
    }


def _nodes(plan: Plan, frames: Frames) -> dict[str, Raw]:
    """Load and limit as shares of the rating at power factor 1; margin is that of the worst loss at today's caps."""
    image, known = frames.image, frames.estimate
    at = plan.node_row
    load_w, limit_w = known.load_w[at], frames.limits.limit_w[at]
    metered = (plan.node_slot.power >= 0) & (image.quality[plan.node_slot.power] == Quality.GOOD)
    return {
        "node_load": u2(load_w / plan.full_w, SHARE),
        "node_limit": u2(limit_w / plan.full_w, SHARE),
        "node_trip": u1(known.trip_used, LEVEL),
        "node_flags": form.flags(
            (image.lost_node, form.NODE_LOST),
            (image.dead, form.NODE_DEAD),
            (image.riding, form.NODE_RIDING),
            (metered, form.NODE_METERED),
            (load_w > 1.005 * np.maximum(limit_w, 1.0), form.NODE_OVER),
        ),
        "node_margin": (_margins(plan, frames), SHARE),
    }


def _margins(plan: Plan, frames: Frames) -> NDArray[np.int16]:
    """Share of its limit that each node has left after the worst loss that is planned for [N]; NO_MARGIN: none is."""
    first, node = len(plan.row_name), plan.losses.node_of
    room_w = frames.limits.room_w[first:]
    used_w = frames.estimate.rows.dot(frames.orders.cap_w)[first:]
    with np.errstate(invalid="ignore"):
        left = (room_w - used_w) / np.maximum(frames.limits.limit_w[first:], 1.0)
    worst = np.full(len(plan.parent), np.inf)
    borne = np.isfinite(left)
    np.minimum.at(worst, node[borne], left[borne])
    known = np.isfinite(worst)
    steps = np.clip(np.where(known, worst, 0.0) / SHARE, -form.NO_MARGIN, form.NO_MARGIN - 1)
    return np.asarray(np.where(known, steps, form.NO_MARGIN).astype("<i2"))


def _cooling(plan: Plan, layout: Layout, frames: Frames) -> dict[str, Raw]:
    image, load_w, limit_w = frames.image, frames.estimate.load_w, frames.limits.limit_w
    cdu, loop, unit, storage = (
        {point: _good(image, slots) for point, slots in group.items()}
        for group in (layout.cdu, layout.loop, layout.unit, layout.storage)
    )
    return {
        "cdu_flow_lpm": u2(cdu["flow_lpm"], DECI),
        "cdu_supply_c": u2(cdu["supply_c"], CENTI),
        "cdu_return_c": u2(cdu["return_c"], CENTI),
        "cdu_pump": u1(cdu["pump_pct"] / 100.0, LEVEL),
        "cdu_heat": u2(load_w[plan.cdu_row] / plan.cdu_cap_w, SHARE),
        "cdu_limit": u2(limit_w[plan.cdu_row] / plan.cdu_cap_w, SHARE),
        "loop_flow_lpm": f4(loop["flow_lpm"]),
        "loop_supply_c": u2(loop["supply_c"], CENTI),
        "loop_return_c": u2(loop["return_c"], CENTI),
        "loop_outside_c": f4(loop["outside_c"]),
        "loop_heat_w": f4(loop["heat_w"]),
        "loop_load_w": f4(load_w[plan.loop_row]),
        "loop_limit_w": f4(limit_w[plan.loop_row]),
        "unit_available": u1(unit["available"], LEVEL),
        "unit_running": u1(unit["running"], LEVEL),
        "unit_w": f4(unit["power_w"]),
        "unit_heat_w": f4(unit["heat_w"]),
        "unit_speed": u1(unit["speed_pct"] / 100.0, LEVEL),
        "storage_w": f4(storage["power_w"]),
        "storage_soc": u1(storage["soc_pct"] / 100.0, LEVEL),
    }


def _good(image: Image, slots: Ints) -> Floats:
    return np.where((slots >= 0) & (image.quality[slots] == Quality.GOOD), image.value[slots], np.nan)
