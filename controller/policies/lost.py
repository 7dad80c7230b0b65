"""Which elements have been lost: voltage gone and power with it, or a cooling unit that says so.

One meter loses nothing: what hangs above it, of a feed what hangs below, must not show its load still. The topmost
dead element of a branch is the lost one. A loss is latched until the element has carried its load again for a while:
behind a tie its bus is alive without it. After a start an element is lost that carries
nothing of what hangs on it.
"""

from dataclasses import dataclass

import numpy as np

from controller.frames import Bools, Floats, zeroed
from controller.plan import Plan

DEAD_VOLT_SHARE = 0.5  # of nominal: lower than any sag that a UPS or a power supply rides through
FALLEN_SHARE = 0.7  # of the load before: meters show means of a second, half a second after the loss half is left
LOADED_SHARE = 0.01  # of the rating: a node that carried less cannot be seen to be lost, and it matters little
WITNESS_SHARE = 0.1  # of its parent's load: less than that is within the meters' errors there
BACK_SHARE = 0.1  # of the load before the loss, or half of what hangs on it shows: the element carries again ..
BACK_WITNESS = 0.5
BACK_S = 10.0  # .. for so long
EMPTY_S = 5.0  # after a start it has carried nothing for so long of what hangs on it
BEFORE_TAU_S = 5.0


@dataclass(frozen=True)
class LostState:
    """What each node carried while it was alive, and what is lost."""

    ups: Bools  # [N] nodes that carry their load without a source for a while
    generator: Bools  # [N] it stands without voltage once the source is back: that is no loss
    before_w: Floats  # [N] filtered load while alive, frozen when it is lost; 0: not seen alive yet
    dead: Bools  # [N] without voltage and load now
    node: Bools  # [N] lost elements: the topmost of the dead, latched
    unit: Bools  # [U] cooling units that are not available
    back_s: Floats  # [N] how long a lost node has carried again
    empty_s: Floats  # [N] how long a node has carried nothing since the start
    last_s: float


def begin(plan: Plan, now_s: float) -> LostState:
    """Nothing is lost."""
    nothing, zero = np.zeros(len(plan.parent), dtype=np.bool_), np.zeros(len(plan.parent))
    units = np.zeros(len(plan.unit_slot), dtype=np.bool_)
    ups = np.array([x.kind == "ups" for x in plan.site.nodes])
    generator = np.array([x.kind == "generator" for x in plan.site.nodes])
    return LostState(ups, generator, zero, nothing, nothing, units, zero, zero, now_s)


def watch(
    plan: Plan,
    now_s: float,
    volt_v: Floats,
    power_w: Floats,
    witness_w: Floats,
    available: Floats,
    last: LostState,
) -> LostState:
    """What is lost now, from line voltages [N, V], node loads [N, W], the load that children and racks of a node
    both show [N, W], and what cooling units say [U]; NaN is unknown."""
    dt_s = max(now_s - last.last_s, 0.0)
    off = volt_v < DEAD_VOLT_SHARE * plan.volt_v
    gone = (
        off & ~last.generator & (last.before_w > LOADED_SHARE * plan.full_w) & (power_w < FALLEN_SHARE * last.before_w)
    )
    lies = gone & ~last.dead
    if lies.any():
        still_w = _still(plan, power_w, off, last.before_w, last)
        lies &= np.isfinite(still_w)
        gone &= ~lies
    expected_w = np.where(witness_w > 0.0, BACK_WITNESS * witness_w, np.inf)
    carries = power_w > np.minimum(BACK_SHARE * last.before_w, expected_w)
    back_s = np.where((last.node | last.dead) & carries, last.back_s + dt_s, 0.0)
    back = back_s >= BACK_S  # by its load: a voltmeter that still shows nothing has failed
    empty_s = np.where(_empty(plan, power_w, off, witness_w, last), last.empty_s + dt_s, 0.0)
    empty = empty_s >= EMPTY_S
    alight = volt_v >= DEAD_VOLT_SHARE * plan.volt_v  # a meter that falls silent says nothing
    dead = ((gone | (last.dead & ~alight)) & ~back) | (empty & off)
    node = _topmost(plan, dead | (last.node & ~back), dead) | _topmost(plan, empty, empty)
    shown_w = np.where(lies, still_w, power_w) if lies.any() else power_w
    alive = np.isfinite(power_w) & ~dead & ~node & (empty_s == 0.0)
    gain = 1.0 - np.exp(-dt_s / BEFORE_TAU_S)
    # at once upward: a load just taken over from another feed is there to be lost again
    moved_w = np.maximum(shown_w, last.before_w + (shown_w - last.before_w) * gain)
    before_w = np.where(alive, np.where(back, power_w, moved_w), np.where(empty, witness_w, last.before_w))
    unit = np.where(np.isfinite(available), available < 0.5, last.unit)
    return LostState(last.ups, last.generator, before_w, dead, node, unit, back_s, empty_s, now_s)


def _topmost(plan: Plan, marked: Bools, above: Bools) -> Bools:
    """Marked nodes whose parent is not one of `above` [N]; a parent's meter may show its loss after its children's."""
    out = marked.copy()
    if out.any():
        out[plan.inner] &= ~above[plan.inner_parent]
    return out


def _empty(plan: Plan, power_w: Floats, off: Bools, witness_w: Floats, last: LostState) -> Bools:
    """Nodes that since the start have carried nothing of what hangs on them, by more than their own meter [N]."""
    nothing = (witness_w > LOADED_SHARE * plan.full_w) & (power_w < BACK_SHARE * witness_w) & (plan.case_of_node >= 0)
    nothing &= last.before_w <= LOADED_SHARE * plan.full_w
    return nothing & np.isnan(_still(plan, power_w, off, witness_w, last)) if nothing.any() else nothing


def _still(plan: Plan, power_w: Floats, off: Bools, usual_w: Floats, last: LostState) -> Floats:
    """Load of nodes that usually carry `usual_w` [N], where other meters show it still, whatever their own shows [N].

    Their parent's shows it beyond what its other children carry; of a feed, a child that no UPS carries shows its own.
    NaN: it has gone, or nothing else tells.
    """
    inner, above, n = plan.inner, plan.inner_parent, len(plan.parent)
    shown_w = zeroed(power_w[inner]) / plan.efficiency[inner]
    below_w = np.bincount(above, shown_w, minlength=n)
    silent = np.isnan(power_w[inner])
    unknown = np.bincount(above, silent, minlength=n)[above] - silent
    rest_w = (power_w[above] - plan.direct_w[above] - (below_w[above] - shown_w)) * plan.efficiency[inner]
    wide = usual_w[inner] > WITNESS_SHARE * power_w[above]
    out = np.full(n, np.nan)
    out[inner] = np.where((unknown == 0) & wide & (rest_w > FALLEN_SHARE * usual_w[inner]), rest_w, np.nan)
    carries = ~off[inner] & ~last.ups[inner] & (plan.parent[above] < 0)
    carries &= (power_w[inner] > FALLEN_SHARE * usual_w[inner]) & (usual_w[inner] > 0.0)
    out[above[carries]] = below_w[above[carries]]
    return out
