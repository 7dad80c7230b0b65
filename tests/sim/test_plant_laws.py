"""Laws that hold whatever the site's state: balance, monotonicity, and what scaling a whole site must do."""

import numpy as np
import pytest
from helpers_plant import UNCAPPED, make_plant
from helpers_site import tiny_site
from hypothesis import given, settings
from hypothesis import strategies as st

from drivers.site.model import Site, SiteModel
from sim.plant.plant import Plant

AIR = {"dry_bulb_c": 30.0, "depression_k": 8.0, "swing_k": 0.0}


def at_rest(share: float, weather: dict[str, float] | None = None, site: Site | None = None, seed: int = 1) -> Plant:
    """A plant without swings or bursts, ten minutes at a share of nameplate."""
    plant = make_plant(
        {"do": "training", "to": share, "depth": 0.0},
        {"do": "inference", "to": share},
        UNCAPPED,
        site=site,
        seed=seed,
        weather=weather or AIR,
        inference_daily=0.0,
    )
    plant.step(240.0)
    return plant


def scaled(site: Site, k: float) -> Site:
    """The same site with everything extensive `k` times as large: powers, ratings, flows, volumes, GPUs."""
    names = {
        "nodes": ("rating",),
        "racks": ("other_w", "idle_w", "floor_w", "max_w", "safe_cap_w", "gpus"),
        "cdus": ("capacity_w", "flow_lpm", "pump_w"),
        "loops": ("flow_lpm", "volume_l"),
        "cooling": ("capacity", "power_w"),
        "loads": ("power_w",),
        "storage": ("power_w", "energy_wh"),
    }

    def bigger(row: SiteModel, columns: tuple[str, ...]) -> SiteModel:
        return row.model_copy(update={c: type(getattr(row, c))(k * getattr(row, c)) for c in columns})

    tables = {t: tuple(bigger(row, cols) for row in getattr(site, t)) for t, cols in names.items()}
    return site.model_copy(update=tables)


@given(
    seed=st.integers(0, 2**31),
    share=st.floats(0.0, 1.0),
    dry_c=st.floats(-15.0, 45.0),
    depression_k=st.floats(0.0, 15.0),
    flow=st.floats(0.0, 1.0),
    target_c=st.floats(25.0, 50.0),
    bess_w=st.floats(-200e3, 200e3),
    lost=st.sampled_from(["u1", "t2", "sub1", "feed2", "pump1", "dry1", "chiller1", "c2", "bess1", "msa"]),
)
@settings(max_examples=30, deadline=None)
def test_heat_and_power_balance_in_any_state(
    seed: int, share: float, dry_c: float, depression_k: float, flow: float, target_c: float, bess_w: float, lost: str
) -> None:
    """The plant checks itself to 1e-9 each step; here it is summed up once more by another path."""
    plant = make_plant(
        {"do": "training", "to": share, "period_s": 2.0},
        {"do": "inference", "to": share},
        seed=seed,
        weather={"dry_bulb_c": dry_c, "depression_k": depression_k},
        ups_battery_s=2.0,
    )
    plant.write("bess1", "power_set_w", bess_w)
    plant.write("c1", "flow_target_lpm", 90.0 * flow)
    plant.write("c3", "supply_target_c", target_c)
    for k in range(48):
        if k in (8, 32):
            plant.director.put(lost, in_service=k == 32)
        plant.step()
        t = plant.truth()
        used_w = t.it_power_w + t.cooling_w + t.losses_w + t.load_w
        assert t.site_power_w + t.battery_w + t.storage_w == pytest.approx(used_w, rel=1e-9)
        gpu_w = np.add.reduceat(plant.gpu_power_w(), plant.gpus.start[:-1])
        rest_w = plant.jobs.power_w - gpu_w
        assert np.all(rest_w >= -1e-6)
        assert np.all(rest_w <= plant.network.racks.other_w + 1e-6)
        assert np.isfinite(plant.gpu_c()).all()


@given(low=st.floats(0.3, 0.9), more=st.floats(0.05, 0.1), seed=st.integers(0, 1000))
@settings(max_examples=6, deadline=None)
def test_more_work_draws_more_everywhere_and_is_hotter(low: float, more: float, seed: int) -> None:
    a, b = at_rest(low, seed=seed), at_rest(low + more, seed=seed)
    ta, tb = a.truth(), b.truth()
    assert tb.site_power_w > ta.site_power_w
    assert np.all(tb.rack_w[:3] > ta.rack_w[:3])
    assert tb.losses_w > ta.losses_w
    assert tb.hottest_gpu_c > ta.hottest_gpu_c
    assert b.thermal.loop_heat_w[0] > a.thermal.loop_heat_w[0]


@given(dry_c=st.floats(15.0, 36.0), more_k=st.floats(2.0, 6.0))
@settings(max_examples=6, deadline=None)
def test_hotter_air_never_helps(dry_c: float, more_k: float) -> None:
    cool, hot = (at_rest(0.8, {"dry_bulb_c": c, "depression_k": 8.0, "swing_k": 0.0}) for c in (dry_c, dry_c + more_k))
    units = cool.network.hydraulics.unit_kind > 0
    assert np.all(hot.thermal.unit_able_w[units] <= cool.thermal.unit_able_w[units] + 1e-6)
    assert hot.truth().cooling_w >= cool.truth().cooling_w * (1 - 1e-3)
    assert hot.thermal.loop_supply_c[0] >= cool.thermal.loop_supply_c[0] - 0.02


@given(k=st.integers(2, 8), share=st.floats(0.4, 0.95))
@settings(max_examples=6, deadline=None)
def test_a_site_k_times_as_large_has_the_same_temperatures_and_k_times_the_powers(k: int, share: float) -> None:
    """No formula hides a dimension: intensive states stay, extensive ones scale."""
    one, many = (at_rest(share, site=scaled(tiny_site(), size)) for size in (0.25, 0.25 * k))  # at most 144 GPUs a rack
    a, b = one.thermal, many.thermal
    for name in ("silicon_c", "fluid_c", "cdu_supply_c", "cdu_return_c", "loop_supply_c", "loop_return_c", "valve"):
        assert getattr(b, name) == pytest.approx(getattr(a, name), rel=2e-3), name
    for name in ("cdu_heat_w", "cdu_w", "cdu_flow_lpm", "loop_flow_lpm", "unit_w"):
        assert getattr(b, name) == pytest.approx(k * getattr(a, name), rel=5e-3, abs=1.0), name
    ta, tb = one.truth(), many.truth()
    for name in ("site_power_w", "it_power_w", "losses_w", "cooling_w"):
        assert getattr(tb, name) == pytest.approx(k * getattr(ta, name), rel=5e-3), name
    assert many.elec.volt2 == pytest.approx(one.elec.volt2, rel=1e-4)
