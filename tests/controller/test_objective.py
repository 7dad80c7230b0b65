"""The first filling stage: tenants get what they were promised, and nobody else more than the floor."""

from dataclasses import replace

import numpy as np
import pytest
from helpers_control import Bench, Wiring, bench
from helpers_fill import LINEAR, Floats, Site, arrays
from helpers_fill_sites import random_site

from controller.kernels.fill import FillInputs, build_topology, fill
from controller.objective import Guarantees, guarantee_stage, guarantees
from drivers.site.model import Tenant


def with_tenants(seed: int) -> tuple[Site, Guarantees]:
    """A random site whose gangs belong to three tenants, two of them with a guarantee and a row."""
    rng = np.random.default_rng(seed)
    site = random_site(rng)
    tenant_of = rng.integers(-1, 2, len(site.gang_class))[site.gang_of]
    rows = np.array([1.0 * (tenant_of == t) for t in range(2)])
    demand_w = np.maximum(site.demand_w, site.floor_w)
    low_w, high_w = rows @ site.floor_w, rows @ demand_w
    guarantee_w = low_w + rng.uniform(-0.1, 1.1, 2) * (high_w - low_w) + 1.0
    max_w = np.where(rng.random(2) < 0.5, np.inf, guarantee_w + 1e4)
    k = len(site.a)
    site = replace(site, a=np.vstack((site.a, rows)), limit_w=np.append(site.limit_w, max_w))
    return site, Guarantees(tenant_of, guarantee_w, np.array([k, k + 1]))


def drawn(promised: Guarantees, power_w: Floats) -> Floats:
    """Power of each tenant."""
    return np.array([power_w[promised.tenant_of == t].sum() for t in range(len(promised.guarantee_w))])


def test_a_tenant_gets_its_guarantee_or_what_holds_it_is_a_limit_or_its_demand() -> None:
    met = held = 0
    for seed in range(1200):
        site, promised = with_tenants(seed)
        topology, inputs = arrays(site)
        first_w = guarantee_stage(promised, topology, inputs)
        final = fill(topology, replace(inputs, floor_w=first_w))
        plain = fill(topology, inputs)
        least_w = site.model.floor_w
        free = promised.tenant_of < 0
        assert (final.power_w >= first_w * (1 - 1e-9)).all()
        assert first_w[free] == pytest.approx(least_w[free])
        sum_w, floors_w = drawn(promised, first_w), drawn(promised, least_w)
        assert (sum_w <= np.maximum(promised.guarantee_w, floors_w) * (1 + 1e-9)).all()
        short = sum_w < promised.guarantee_w * (1 - 1e-6)
        alone = fill(topology, replace(inputs, demand_w=np.where(free, inputs.floor_w, inputs.demand_w)))
        if not short.any():
            met += 1
        elif (drawn(promised, alone.power_w)[short] <= promised.guarantee_w[short] * (1 + 1e-9)).all():
            held += 1  # even with both tenants unlimited, limits or demand leave no more
        over = final.row_load_w > np.maximum(inputs.limit_w, topology_load(site, least_w)) * (1 + 1e-9) + 1e-6
        assert not over.any(), f"seed {seed}"
        assert (plain.violated == final.violated).all()
    assert met > 50
    assert held > 600


def topology_load(site: Site, power_w: Floats) -> Floats:
    """Load of each row."""
    return site.a @ power_w


def test_a_low_class_is_served_its_guarantee_before_a_high_class_fills_the_rest() -> None:
    topology = build_topology([0, 1, 2], [0, 1, 1], [0, 3, 4], [0, 1, 2, 1], [1.0] * 4, [LINEAR])
    limit_w = np.array([200.0, np.inf])
    flat = {"other_w": np.zeros(3), "gpu_w": np.full(3, 100.0), "curve_of": np.zeros(3, np.int32)}
    inputs = FillInputs(np.full(3, 30.0), np.full(3, 100.0), np.full(3, np.inf), limit_w=limit_w, **flat)
    promised = Guarantees(np.array([-1, 0, -1]), np.array([60.0]), np.array([1]))
    floor_w = guarantee_stage(promised, topology, inputs)
    assert floor_w == pytest.approx([30.0, 60.0, 30.0])
    assert fill(topology, replace(inputs, floor_w=floor_w)).power_w == pytest.approx([100.0, 60.0, 40.0])
    assert fill(topology, inputs).power_w == pytest.approx([100.0, 50.0, 50.0])
    alone = Guarantees(np.array([-1, 0, -1]), np.array([60.0]), np.array([-1]))  # a row of one rack is no row
    assert guarantee_stage(alone, topology, inputs) == pytest.approx([30.0, 60.0, 30.0])
    assert guarantee_stage(None, topology, inputs) is inputs.floor_w


@pytest.fixture
def b() -> Bench:
    site = Wiring(cords=((0, 1),) * 6, gangs=(0, 0, 1, 1, 2, 3)).site()
    jobs = tuple(j.model_copy(update={"tenant": "xyzw"[i]}) for i, j in enumerate(site.jobs))
    tenants = (Tenant(id="x", guarantee_w=9e4), Tenant(id="y", max_w=9e5), Tenant(id="z", guarantee_w=7e4))
    return bench(site=site.model_copy(update={"jobs": jobs, "tenants": tenants}))


def test_guarantees_come_from_the_plan_with_their_rows_in_the_filling(b: Bench) -> None:
    kept = np.flatnonzero(~b.plan.single)
    found = guarantees(b.plan, kept)
    assert found is not None
    assert found.tenant_of.tolist() == [0, 0, -1, -1, 1, -1]
    assert found.guarantee_w.tolist() == [9e4, 7e4]
    assert kept[found.row[0]] == b.plan.tenant_row.start
    assert found.row[1] == -1
    assert guarantees(bench().plan, kept) is None
