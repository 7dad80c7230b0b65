"""The losses of a site, each with its stages and what it takes with it. Generated, never listed by hand."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

from controller.contingency.building import Building
from controller.contingency.flow import Entries, Router, standby, touched
from controller.contingency.states import RECHARGE_SHARE, State, stages
from controller.contingency.water import Water, water_after
from controller.frames import Floats, Ints

NODE_KINDS = (
    "utility_feed",
    "substation",
    "transformer",
    "ups",
    "switchboard",
    "busway",
)  # a PDU takes one rack's cord
AS_BUILT = State("as built", 0.0, frozenset())
_NONE = np.zeros(0, dtype=np.int64)


@dataclass(frozen=True)
class Stage:
    """The building at one moment after a loss; racks and columns by position."""

    name: str  # "instant", "tie-sub closed", "battery ended", "source back"
    at_s: float  # after the loss
    dead: tuple[int, ...]  # nodes without voltage at the output
    fed: tuple[tuple[int, int], ...]  # (bus, the bus that feeds it through a closed tie)
    riding: tuple[int, ...]  # UPS on battery
    stopped: tuple[int, ...]  # columns of contingency.building that are dead with it
    dark: Ints  # racks without power
    hot: Ints  # racks whose CDU stands still
    water: tuple[Water, ...]  # loops that carry less heat than before


@dataclass(frozen=True)
class Loss:
    """One element lost."""

    id: str
    kind: str  # of the node, "cdu", "pump", "chiller", "tower", "dry_cooler" or "storage"
    stages: tuple[Stage, ...]


@dataclass(frozen=True)
class Change:
    """Load that one stage adds to nodes (negative: takes away) per W of each column, and W of each column."""

    case: int
    stage: int
    more: Entries
    less: Entries


def elements(b: Building) -> Iterator[tuple[str, str]]:
    """(kind, id) of everything whose loss is planned for."""
    yield from ((x.kind, x.id) for x in b.site.nodes if x.kind in NODE_KINDS)
    yield from (("cdu", x.id) for x in b.site.cdus)
    yield from ((x.kind, x.id) for x in b.site.cooling)
    yield from (("storage", x.id) for x in b.site.storage)


def without(b: Building, out: frozenset[str]) -> tuple[State, frozenset[int]]:
    """The building with elements taken out by plan, ties closed and batteries empty; columns taken out themselves."""
    index = b.site.node_index
    nodes = frozenset(index[x] for x in out if x in index)
    columns = frozenset(c for (kind, name), c in b.column.items() if name in out and kind not in ("rack", "meter"))
    if not nodes:
        return AS_BUILT, columns
    after = [s for s in stages(b, nodes) if s.name != "source back"]
    closed = next((s for s in reversed(after) if s.fed), after[-1])
    empty = frozenset(u for u in np.flatnonzero(b.is_ups).tolist() if b.parent[u] in closed.dead)
    return State("outage", 0.0, closed.dead, closed.fed, empty=empty), columns


def follow(
    b: Building, out: frozenset[str], emit: Callable[[Change], None], only: frozenset[str] | None = None
) -> tuple[Loss, ...]:
    """All losses on top of the elements already out; every change of electrical load goes to `emit`."""
    before, off = without(b, out)
    router = Router(b)
    cases: list[Loss] = []
    for kind, name in elements(b):
        if name in out or (only is not None and name not in only):
            continue
        lost = b.site.node_index[name] if kind in NODE_KINDS else -1
        if lost in before.dead:
            continue
        own = off if lost >= 0 or kind == "storage" else off | {b.column[kind, name]}
        states = _states(b, before, lost)
        cases.append(
            Loss(
                name,
                kind,
                tuple(_stage(b, router, (len(cases), i), before, off, s, own, emit) for i, s in enumerate(states)),
            )
        )
    return tuple(cases)


def _states(b: Building, before: State, lost: int) -> tuple[State, ...]:
    if lost < 0:
        return (State("instant", 0.0, before.dead, before.fed),)
    if before is AS_BUILT:
        return stages(b, frozenset([lost]))
    return stages(b, before.dead | {lost} | {bus for bus, _ in before.fed if b.winding[bus]}, before)


def _stage(
    b: Building,
    router: Router,
    at: tuple[int, int],
    before: State,
    off: frozenset[int],
    after: State,
    own: frozenset[int],
    emit: Callable[[Change], None],
) -> Stage:
    """One stage in the words of a Stage, and its change of load."""
    columns = touched(b, before, after)
    dead = _no_feed(b, columns, after)
    stopped = own | frozenset(dead.tolist())
    started = standby(b, stopped)
    if len(columns) or started or after.recharging:  # else load only falls
        columns = np.union1d(columns, list((own - off) | started)).astype(np.int64)
        less = router.carried(before, columns, off, standby(b, off))
        more = router.carried(after, columns, own, started)
        emit(Change(*at, _with_recharge(b, router, after, more), less))
    dark = dead[dead < b.racks]
    hot = {r for c in stopped - off if c in b.cooled for r in b.cooled[c]} - set(dark.tolist())
    return Stage(
        name=after.name,
        at_s=after.at_s,
        dead=tuple(sorted(after.dead)),
        fed=after.fed,
        riding=tuple(sorted(after.riding)),
        stopped=tuple(sorted(c for c in stopped - off if c >= b.racks)),
        dark=dark,
        hot=np.array(sorted(hot), dtype=np.int64),
        water=water_after(b, stopped, started, off),
    )


def _no_feed(b: Building, columns: Ints, state: State) -> Ints:
    """Those of the columns that have no live feed."""
    if not state.dead:
        return _NONE
    start, feed, dead = b.feed_start, b.feed, state.dead
    gone = [c for c in columns.tolist() if all(int(f) in dead for f in feed[start[c] : start[c + 1]])]
    return np.array(gone, dtype=np.int64)


def _with_recharge(b: Building, router: Router, state: State, entries: Entries) -> Entries:
    """Recharging UPS as further columns: C + node, on the input."""
    ups = np.array(sorted(u for u in state.recharging if b.parent[u] >= 0), dtype=np.int64)
    if not len(ups):
        return entries
    return entries.joined(router.onto(state, b.parent[ups], len(b.column_id) + ups))


def column_power_w(b: Building) -> Floats:
    """Power of every column, recharging UPS behind the others [C + N]."""
    return np.concatenate([b.column_w, RECHARGE_SHARE * b.rating_w])
