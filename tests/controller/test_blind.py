"""Safe caps that bear the next loss with nobody there, against a walk through the building after each loss."""

import numpy as np
import pytest
from helpers_losses import as_after

from controller import blind
from controller.plan import Plan, compile_plan
from controller.policies import rating
from drivers.inventory import compile_inventory
from drivers.lease import Holder
from drivers.profile import load_profiles
from drivers.site.load import resolve_site
from drivers.site.model import Site


def plan_of(site: Site) -> Plan:
    return compile_plan(site, compile_inventory(site, load_profiles()))


def scaled(feeds: float, ups: float) -> Site:
    """hall with other ratings of its feeds, substations and UPS."""
    site, by = resolve_site("hall"), {"utility_feed": feeds, "substation": feeds, "ups": ups}
    nodes = tuple(n.model_copy(update={"rating": n.rating * by.get(n.kind, 1.0)}) for n in site.nodes)
    return site.model_copy(update={"nodes": nodes})


def overloaded(plan: Plan, cap_w: np.ndarray) -> set[str]:
    """Losses after which a node carries more than its rating at some stage, with the load that nobody caps."""
    site, losses = plan.site, plan.losses
    limit_w = rating.nominal_w(plan) * 0.995
    of_rack = {r.id: float(w) for r, w in zip(site.racks, cap_w, strict=True)}
    moved = dict.fromkeys(zip(losses.delta_case, losses.delta_stage, losses.delta_node, strict=True), 0.0)
    moved = dict(zip(moved, losses.delta_moved_w, strict=True))
    other_w = np.maximum(plan.design_other_w[plan.node_row], 0.0)
    said = set()
    for c, loss in enumerate(losses.cases):
        for s, stage in enumerate(loss.stages):
            after = as_after(site, loss.id, loss.kind, stage)
            load_w = after.load(after.hang_racks(of_rack))
            for n, node in enumerate(site.nodes):
                gained = moved.get((c, s, n))
                if gained is not None and load_w[node.id] + other_w[n] + gained > limit_w[n] * (1.0 + 1e-6):
                    said.add(loss.id)
    return said


@pytest.mark.parametrize(("feeds", "ups"), [(1.0, 1.0), (1.2, 0.9), (0.8, 1.0)])
def test_what_floors_bear_safe_caps_bear_and_not_a_step_more(feeds: float, ups: float) -> None:
    plan = plan_of(scaled(feeds, ups))
    cap_w = blind.most_w(plan)
    hopeless = overloaded(plan, plan.floor_w)
    assert (cap_w >= plan.floor_w).all()
    assert (cap_w <= np.maximum(plan.safe_cap_w, plan.floor_w)).all()
    assert overloaded(plan, cap_w) <= hopeless
    lowered = cap_w < plan.safe_cap_w
    assert lowered.any() == bool(overloaded(plan, plan.safe_cap_w) - hopeless)
    if lowered.any():
        assert overloaded(plan, np.where(lowered, cap_w + 0.01 * plan.max_w, cap_w)) - hopeless


def test_half_of_colossus_cannot_carry_all_of_it_and_holds_nobody_back() -> None:
    plan = plan_of(resolve_site("colossus"))
    assert (blind.most_w(plan) == plan.safe_cap_w).all()


@pytest.mark.parametrize("name", ["hall", "colossus"])
def test_leases_that_all_end_fall_inside_the_sites_ramp(name: str) -> None:
    """From the envelope to these safe caps, by the paces that agents draw; the site's own time where that is enough."""
    plan = plan_of(resolve_site(name))
    control, cap_w = plan.site.control, blind.most_w(plan)
    decay_s = blind.decay_s(plan, cap_w)
    assert decay_s >= control.lease_decay_s
    holder = Holder(plan.safe_cap_w.astype(np.int64), 0.0, seed=1)
    top_w = plan.rows.dot(plan.max_w)[plan.envelope_row]
    other_w = plan.design_other_w[plan.envelope_row] - plan.cooling_w_per_w * plan.max_w.sum()
    holder.cap_w = ((control.envelope_w - other_w) / top_w * plan.max_w).astype(np.int64)
    holder.safe_cap_w, holder.decay_s = np.minimum(holder.cap_w, cap_w.astype(np.int64)), np.full(len(cap_w), decay_s)
    holder.expiry_s[:] = 0.0
    caps_w = np.array([holder.cap_in_force_w(float(t)) for t in range(int(decay_s) + 2)])
    assert (caps_w[-1] == holder.safe_cap_w).all()
    site_w = np.array([plan.rows.dot(w)[plan.envelope_row] for w in caps_w])
    assert -np.diff(site_w).min() <= control.ramp_down_w_per_s
