"""What is lost: two witnesses, the topmost element, latched until it carries again."""

import numpy as np
import pytest

from controller.plan import Plan, compile_plan
from controller.policies import lost
from controller.watch import Watch
from drivers.inventory import compile_inventory
from drivers.profile import load_profiles
from drivers.site.load import resolve_site
from sim.lab.lockstep import LockStep
from sim.scenarios import load_scenario


@pytest.fixture(scope="module")
def plan() -> Plan:
    site = resolve_site("hall")
    return compile_plan(site, compile_inventory(site, load_profiles()))


def settled(plan: Plan) -> tuple[lost.LostState, np.ndarray, np.ndarray, np.ndarray]:
    """Every node at half its rating for a minute, all cooling units there."""
    volt_v, power_w, there = plan.volt_v.copy(), 0.5 * plan.full_w, np.ones(len(plan.unit_slot))
    state = lost.begin(plan, 0.0)
    for t in range(60):
        state = lost.watch(plan, float(t), volt_v, power_w, power_w, there, state)
    return state, volt_v, power_w, there


def subtree(plan: Plan, top: int) -> np.ndarray:
    """Nodes below `top`, itself included."""
    inside = np.zeros(len(plan.parent), dtype=bool)
    for i in range(len(plan.parent)):
        at = i
        while at >= 0 and at != top:
            at = int(plan.parent[at])
        inside[i] = at == top
    return inside


def test_a_dead_voltmeter_alone_loses_nothing(plan: Plan) -> None:
    state, volt_v, power_w, there = settled(plan)
    volt_v[5] = 0.0
    for t in range(60, 90):
        state = lost.watch(plan, float(t), volt_v, power_w, power_w, there, state)
    assert not state.node.any()
    assert not state.dead.any()


def test_the_topmost_dead_element_is_the_lost_one_and_stays_so_until_it_carries(plan: Plan) -> None:
    state, volt_v, power_w, there = settled(plan)
    ups = next(i for i, n in enumerate(plan.site.nodes) if n.kind == "ups")
    inside = subtree(plan, ups)
    volt_v[inside], power_w[inside] = 0.0, 0.0
    power_w[plan.parent[ups]] = 0.0
    state = lost.watch(plan, 60.5, volt_v, power_w, power_w, there, state)
    assert np.flatnonzero(state.node).tolist() == [ups]
    assert (state.dead == inside).all()
    volt_v[:] = plan.volt_v  # a tie feeds the bus: voltage, yet no load through the element
    for t in range(61, 120):
        state = lost.watch(plan, float(t), volt_v, power_w, power_w, there, state)
    assert state.node[ups]
    power_w[inside] = 0.4 * plan.full_w[inside]
    for t in range(120, 120 + round(lost.BACK_S) + 2):
        state = lost.watch(plan, float(t), volt_v, power_w, power_w, there, state)
    assert not state.node.any()


def test_a_silent_cooling_unit_is_not_lost_and_one_that_says_so_is(plan: Plan) -> None:
    state, volt_v, power_w, there = settled(plan)
    there[0], there[1] = np.nan, 0.0
    state = lost.watch(plan, 60.0, volt_v, power_w, power_w, there, state)
    assert np.flatnonzero(state.unit).tolist() == [1]


def test_a_transformer_is_found_lost_while_its_ups_rides_and_the_watch_calls_at_once() -> None:
    lock = LockStep(resolve_site("hall"), load_scenario("transformer_out"))
    watch, called, found = Watch(lock.plan), [], []
    for _ in range(150):
        frames, truth = lock.cycle()
        if watch.changed(*lock.wires.glance(watch.slots, lock.clock.now_s())):
            called.append(truth.t_s)
        if frames.image.lost_node.any():
            found.append((truth.t_s, [lock.plan.row_name[i] for i in np.flatnonzero(frames.image.lost_node)]))
    assert found
    names = {tuple(x) for _, x in found}
    assert len(names) == 1
    assert lock.plan.site.nodes[lock.plan.site.node_index[names.pop()[0]]].kind == "transformer"
    assert called[0] <= found[0][0] <= called[0] + 1.0
