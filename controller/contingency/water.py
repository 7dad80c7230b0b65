"""What a loop's pumps and heat rejection still carry when units stand still."""

from collections.abc import Iterable
from dataclasses import dataclass

from controller.contingency.building import Building
from controller.contingency.flow import standby
from drivers.site.cooling import COOLANTS

START_S = 10.0  # assumption: a standby unit runs 10 s after the unit that it replaces has stopped


@dataclass(frozen=True)
class Water:
    """A loop after a loss; heat at its design supply and hottest return."""

    loop: int
    flow_lpm: float  # once standby units run
    heat_w: float  # what it carries then, by flow and by rejection
    gap_heat_w: float  # the same for the first START_S


def water_after(b: Building, stopped: Iterable[int], started: Iterable[int], off: frozenset[int]) -> tuple[Water, ...]:
    """Loops with a unit among the stopped columns, standby units `started` in their place; `off` were out before."""
    gone, more = set(stopped), set(started)
    loops = {x.id: i for i, x in enumerate(b.site.loops)}
    hit = sorted({loops[b.site.cooling[b.unit[c]].loop] for c in gone - off if c in b.unit})
    out = []
    for k in hit:
        units = [c for c, u in b.unit.items() if b.site.cooling[u].loop == b.site.loops[k].id]
        alive = {c for c in units if b.running[c]} - gone
        flow_lpm, heat_w = _carries(b, k, alive | (more & set(units)))
        gap_lpm, gap_w = _carries(b, k, alive)
        before_lpm, before_w = _carries(b, k, ({c for c in units if b.running[c]} - off) | standby(b, off))
        if min(heat_w, gap_w) < before_w or min(flow_lpm, gap_lpm) < before_lpm:
            out.append(Water(k, flow_lpm, heat_w, gap_w))
    return tuple(out)


def _carries(b: Building, loop: int, columns: set[int]) -> tuple[float, float]:
    """Flow [L/min] and heat [W] with these units; a loop without pumps or rejection of its own in the site file is
    not limited by them."""
    x = b.site.loops[loop]
    of_loop = [u for u in b.site.cooling if u.loop == x.id]
    units = [b.site.cooling[b.unit[c]] for c in columns]
    flow_lpm, rejected_w = x.flow_lpm, float("inf")
    if any(u.kind == "pump" for u in of_loop):
        flow_lpm = min(flow_lpm, sum(u.capacity for u in units if u.kind == "pump"))
    if any(u.kind != "pump" for u in of_loop):
        rejected_w = sum(u.capacity for u in units if u.kind != "pump")
    carried_w = flow_lpm * COOLANTS[x.coolant].w_per_lpm_k * (x.return_max_c - x.supply_c)
    return flow_lpm, min(carried_w, rejected_w)
