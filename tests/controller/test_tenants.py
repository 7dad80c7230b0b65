"""Tenants in the controller: their rows, what the limits and the guard make of a maximum."""

import numpy as np
import pytest
from helpers_control import Bench, Wiring, bench

from controller import estimate, guard, limits
from controller.frames import Mode, Requests
from drivers.site.model import Tenant

OF_GANG = ("x", "y", "z", "w")
TENANTS = (
    Tenant(id="free"),
    Tenant(id="x", guarantee_w=90e3),
    Tenant(id="y", max_w=130e3),
    Tenant(id="z", guarantee_w=70e3, max_w=75e3),
)
RACKS_OF = {"x": (0, 1), "y": (2, 3), "z": (4,)}  # the last rack's tenant `w` stands in no row


@pytest.fixture
def b() -> Bench:
    site = Wiring(cords=((0, 1),) * 6, gangs=(0, 0, 1, 1, 2, 3)).site()
    jobs = tuple(j.model_copy(update={"tenant": OF_GANG[i]}) for i, j in enumerate(site.jobs))
    return bench(site=site.model_copy(update={"jobs": jobs, "tenants": TENANTS}))


def test_a_tenant_with_a_guarantee_or_a_maximum_has_a_row_of_its_racks(b: Bench) -> None:
    plan = b.plan
    assert plan.row_name[plan.tenant_row] == ("x", "y", "z")
    assert set(plan.row_kind[plan.tenant_row]) == {"tenant"}
    assert plan.envelope_row == plan.tenant_row.stop == len(plan.row_name) - 1
    assert plan.tenant_guarantee_w.tolist() == [90e3, 0.0, 70e3]
    assert plan.tenant_max_w.tolist() == [np.inf, 130e3, 75e3]
    watts = np.array([1.0, 2.0, 4.0, 8.0, 16.0, 32.0])
    assert plan.rows.dot(watts)[plan.tenant_row].tolist() == [3.0, 12.0, 16.0]
    leaning = plan.rows.at_shares(np.tile([0.9, 0.1], (6, 1)))
    assert leaning.dot(watts)[plan.tenant_row].tolist() == [3.0, 12.0, 16.0]
    assert plan.single[plan.tenant_row].tolist() == [False, False, True]
    assert not plan.design_other_w[plan.tenant_row].any()


def test_a_tenants_row_carries_its_racks_and_its_limit_is_the_maximum(b: Bench) -> None:
    watts = np.full(b.racks, 60e3)
    image = b.image(b.values(watts, np.full(b.racks, 80e3), {"u0": 5e3}))
    known, _ = estimate.estimate(b.plan, image, estimate.begin(b.plan, 0.0))
    rows = b.plan.tenant_row
    assert known.load_w[rows] == pytest.approx([120e3, 120e3, 60e3])
    assert known.other_w[rows].tolist() == [0.0, 0.0, 0.0]
    got, _ = limits.narrow(b.plan, image, known, Requests(), limits.begin(b.plan))
    assert got.limit_w[rows].tolist() == got.room_w[rows].tolist() == [np.inf, 130e3, 75e3]


def test_the_guard_holds_a_maximum_whatever_is_proposed(b: Bench) -> None:
    cap_w, state = np.full(b.racks, 60e3), guard.begin(b.plan, 0.0)
    image = b.image(b.values(cap_w, cap_w))
    for cycle in range(12):
        orders, state = guard.guard(b.plan, image, b.proposal(np.full(b.racks, 80e3), mode=Mode.LIVE), state)
        image = b.image(b.values(orders.cap_w, orders.cap_w), now_s=1000.0 + cycle, cycle=cycle)
    total_w = {name: orders.cap_w[list(racks)].sum() for name, racks in RACKS_OF.items()}
    assert total_w["x"] == pytest.approx(160e3)
    assert total_w["y"] == pytest.approx(130e3, rel=1e-4)
    assert total_w["z"] == pytest.approx(75e3, rel=1e-4)
    assert orders.cap_w[5] == pytest.approx(80e3)
