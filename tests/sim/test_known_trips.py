"""Protections against the points of standards and makers' sheets (FACTS H), written down here once more.

Each row: at this multiple of the rating nothing opens before the first time, and everything has by the second.
"""

import numpy as np
import pytest
from helpers_site import tiny_site

from drivers.site.model import Site
from sim.plant.base import DT_S
from sim.plant.network import compile_network
from sim.plant.protection import compile_protections, protect, times_to_trip

HOUR = 3600.0
NEVER = np.inf
UNITS = 200

BANDS = [  # curve, rating [A] or None for a UPS, load, holds for [s], open by [s]
    ("ul489_standard", 20.0, 1.00, NEVER, NEVER),
    ("ul489_standard", 20.0, 1.35, 0.0, 1 * HOUR),
    ("ul489_standard", 20.0, 2.00, 0.0, 120.0),
    ("ul489_standard", 50.0, 1.35, 0.0, 1 * HOUR),
    ("ul489_standard", 50.0, 2.00, 0.0, 240.0),
    ("ul489_standard", 400.0, 1.00, NEVER, NEVER),
    ("ul489_standard", 400.0, 1.35, 0.0, 2 * HOUR),
    ("ul489_standard", 400.0, 2.00, 0.0, 28 * 60.0),
    ("ul489_large_frame", 2500.0, 1.00, NEVER, NEVER),
    ("ul489_large_frame", 2500.0, 1.35, 0.0, 2 * HOUR),
    ("ul489_large_frame", 2500.0, 2.00, 0.0, 28 * 60.0),
    ("iec60947_2", 63.0, 1.05, NEVER, NEVER),
    ("iec60947_2", 63.0, 1.30, 0.0, 1 * HOUR),
    ("iec60947_2", 400.0, 1.05, NEVER, NEVER),
    ("iec60947_2", 400.0, 1.30, 0.0, 2 * HOUR),
    ("ups_huawei_2000g", None, 1.05, NEVER, NEVER),
    ("ups_huawei_2000g", None, 1.10, 600.0, 1200.0),
    ("ups_huawei_2000g", None, 1.30, 60.0, 120.0),
    ("ups_huawei_2000g", None, 1.50, 3.0, 6.0),
    ("ups_huawei_2000g", None, 1.51, 0.0, 0.5),
    ("ups_huawei_2000g_hot", None, 1.10, 300.0, 600.0),
    ("ups_huawei_2000g_hot", None, 1.30, 30.0, 60.0),
    ("ups_huawei_2000g_hot", None, 1.50, 1.5, 3.0),
    ("ups_staco", None, 1.00, NEVER, NEVER),
    ("ups_staco", None, 1.10, 120.0, 240.0),
    ("ups_staco", None, 1.25, 30.0, 60.0),
    ("ups_apc", None, 1.05, NEVER, NEVER),
    ("ups_apc", None, 1.25, 60.0, 600.0),
    ("ups_apc", None, 1.50, 30.0, 60.0),
]


def many(curve: str, rating_a: float | None) -> Site:
    """A row of UPS or of 100 %-rated breakers with one curve."""
    base = next(n for n in tiny_site().nodes if n.kind == ("ups" if rating_a is None else "busway"))
    unit = {"trip_curve": curve, "parent": "", "derating": 1.0}
    unit |= {} if rating_a is None else {"rating": rating_a, "rating_unit": "A"}
    return tiny_site(nodes=tuple(base.model_copy(update=unit | {"id": f"x{i}"}) for i in range(UNITS)))


@pytest.mark.parametrize(("curve", "rating_a", "load", "holds_s", "open_by_s"), BANDS)
def test_times_of_the_standard(
    curve: str, rating_a: float | None, load: float, holds_s: float, open_by_s: float
) -> None:
    site = many(curve, rating_a)
    rated_w = np.array([n.rating * (n.volt_v * 3**0.5 if n.rating_unit == "A" else 1.0) for n in site.nodes]) * 0.98
    p = compile_protections(site, rated_w, np.ones(UNITS), np.random.default_rng(7))
    # A breaker whose curve allows 80 % for continuous load counts from its full rating.
    pull_w = load * rated_w
    opens_s = times_to_trip(p, pull_w, np.zeros(UNITS))
    assert np.all(opens_s >= min(holds_s, 1e9) - 1e-9)
    assert np.all(opens_s <= open_by_s)
    if np.isfinite(opens_s).all():
        assert len(set(opens_s.round(3))) > UNITS // 2 or load > 1.5
        return
    in_service, heat, tripped = np.ones(UNITS, dtype=bool), np.zeros(UNITS), np.zeros(UNITS, dtype=bool)
    for _ in range(round(HOUR / DT_S)):
        protect(p, pull_w, in_service, heat, tripped)
    assert in_service.all()


def test_each_protection_opens_when_it_said() -> None:
    """Stepping the state to its end takes as long as `times_to_trip` said from cold."""
    site = many("ups_huawei_2000g", None)
    rated_w = compile_network(tiny_site()).tree.rated_w[[n.kind == "ups" for n in tiny_site().nodes]][0]
    p = compile_protections(site, np.full(UNITS, rated_w), np.ones(UNITS), np.random.default_rng(7))
    pull_w = np.full(UNITS, 1.45 * rated_w)
    said_s = times_to_trip(p, pull_w, np.zeros(UNITS))
    in_service, heat, tripped = np.ones(UNITS, dtype=bool), np.zeros(UNITS), np.zeros(UNITS, dtype=bool)
    opened_s = np.full(UNITS, np.inf)
    for k in range(1, 100):
        protect(p, pull_w, in_service, heat, tripped)
        opened_s = np.where(tripped & np.isinf(opened_s), k * DT_S, opened_s)
    assert opened_s == pytest.approx(said_s, abs=DT_S)
