"""Weather of a year: drawn, read, and what it does to a site, against the plant itself."""

from pathlib import Path

import numpy as np
import pytest
from helpers_plant import make_plant
from helpers_site import tiny_site
from hypothesis import given, settings
from hypothesis import strategies as st

from sim.plant.base import PlantError
from sim.plant.events import Scenario
from sim.plant.weather import HOURS, Climate, Year, draw_year, read_year, wet_bulb_c
from sim.plant.year import run_year

LEVEL = ({"do": "training", "to": 0.7, "depth": 0.0}, {"do": "inference", "to": 0.6})


def test_wet_bulb_of_stulls_example() -> None:
    """20 C and 50 % are 13.7 C (Stull 2011); the dew point of that air is 9.3 C."""
    assert wet_bulb_c(np.array([20.0]), np.array([9.26]))[0] == pytest.approx(13.7, abs=0.1)


def test_a_drawn_year_has_its_climates_months_days_and_spells() -> None:
    years = [draw_year(Climate(), np.random.default_rng(seed)) for seed in range(20)]
    dry = np.mean([y.dry_c for y in years], axis=0)
    january, july = dry[: 31 * 24].mean(), dry[181 * 24 : 212 * 24].mean()
    assert january == pytest.approx(5.6, abs=1.5)
    assert july == pytest.approx(28.2, abs=1.5)
    by_hour = dry.reshape(365, 24).mean(axis=0)
    assert int(by_hour.argmax()) == 15
    assert np.ptp(by_hour) == pytest.approx(10.6, abs=0.3)
    spell = years[0].dry_c - dry
    lag = [np.corrcoef(spell[:-h], spell[h:])[0, 1] for h in (1, 60)]
    assert lag[0] > 0.95
    assert 0.15 < lag[1] < 0.6


@given(seed=st.integers(0, 2**31), hour=st.floats(-100.0, 20_000.0), mean_c=st.floats(-10.0, 35.0))
@settings(max_examples=30, deadline=None)
def test_wet_is_never_above_dry_and_the_year_comes_round(seed: int, hour: float, mean_c: float) -> None:
    year = draw_year(Climate(mean_c=mean_c), np.random.default_rng(seed))
    dry, wet = year.at(hour)
    assert wet <= dry
    assert year.at(hour + HOURS) == pytest.approx((dry, wet), abs=1e-6)
    assert np.array_equal(year.dry_c, draw_year(Climate(mean_c=mean_c), np.random.default_rng(seed)).dry_c)


def test_a_file_is_a_whole_year_of_possible_air(tmp_path: Path) -> None:
    path = tmp_path / "air.csv"
    rows = [f"{10 + h % 24},{8 + h % 24}" for h in range(HOURS)]
    path.write_text("\n".join(["dry_bulb_c,wet_bulb_c", *rows]))
    assert read_year(path).at(15.5) == (25.5, 23.5)
    for spoilt, complaint in (
        (rows[:-1], "8759 hours"),
        ([*rows[:-1], "10,20"], "row 8761"),
        ([*rows[:-1], "nan,5"], "row 8761"),
        ([*rows[:-1], "warm,5"], "columns"),
    ):
        path.write_text("\n".join(["dry_bulb_c,wet_bulb_c", *spoilt]))
        with pytest.raises(PlantError, match=complaint):
            read_year(path)
    with pytest.raises(PlantError, match="nowhere"):
        read_year(tmp_path / "nowhere.csv")


def test_a_scenario_takes_its_air_from_its_day_of_the_year() -> None:
    winter, summer = (make_plant(weather={"climate": {}, "start_day": day}, seed=3) for day in (14.0, 196.0))
    assert summer.truth().dry_bulb_c - winter.truth().dry_bulb_c > 10.0
    again = make_plant(weather={"climate": {}, "start_day": 14.0}, seed=3)
    assert again.truth().dry_bulb_c == winter.truth().dry_bulb_c


def test_slices_of_a_year_are_where_the_plant_comes_to_rest() -> None:
    """A day of constant air: its energy is the plant's own power, once it has settled, times a day."""
    scenario = Scenario.model_validate(
        {"name": "level", "title": "level", "events": LEVEL, "inference_daily": 0.0}
        | {"weather": {"dry_bulb_c": 33.0, "depression_k": 8.0, "swing_k": 0.0}}
    )
    air = Year(np.full(HOURS, 33.0), np.full(HOURS, 25.0))
    (month,) = run_year(tiny_site(), scenario, air, 1, lambda _: None, hours=24)
    plant = make_plant(*LEVEL, weather={"dry_bulb_c": 33.0, "depression_k": 8.0, "swing_k": 0.0}, inference_daily=0.0)
    plant.step(1800.0)
    truths = []
    for _ in range(240):
        plant.step()
        truths.append(plant.truth())
    for energy_j, power_w, share in (
        (month.site_j, np.mean([t.site_power_w for t in truths]), 0.02),  # bursts of inference are not in a year
        (month.fans_j + month.chillers_j + month.pumps_j, np.mean([t.cooling_w for t in truths]), 0.05),
        (month.losses_j, np.mean([t.losses_w for t in truths]), 0.02),
    ):
        assert energy_j == pytest.approx(power_w * 86_400.0, rel=share)
    assert month.site_j == pytest.approx(
        month.it_j + month.fans_j + month.chillers_j + month.pumps_j + month.losses_j + month.loads_j, rel=1e-6
    )


def test_a_year_answers_to_its_weather() -> None:
    """Cold air costs little, hot air more."""
    scenario = Scenario.model_validate({"name": "level", "title": "level", "events": LEVEL})
    cooling_j = []
    for dry_c in (0.0, 20.0, 30.0, 38.0):
        air = Year(np.full(HOURS, dry_c), np.full(HOURS, dry_c - 6.0))
        (month,) = run_year(tiny_site(), scenario, air, 1, lambda _: None, hours=6)
        cooling_j.append(month.fans_j + month.chillers_j)
    assert cooling_j[0] < cooling_j[1] < cooling_j[2] < cooling_j[3]


def test_a_year_of_requests_serves_their_mean() -> None:
    air, energy_j = Year(np.full(HOURS, 20.0), np.full(HOURS, 15.0)), []
    for to in (0.2, 0.6):  # below the safe caps, which are in force
        scenario = Scenario.model_validate(
            {"name": "level", "title": "level", "events": [{"do": "inference", "to": to}], "requests": {}}
            | {"inference_daily": 0.0}
        )
        (month,) = run_year(tiny_site(), scenario, air, 1, lambda _: None, hours=6)
        energy_j.append(month.it_j)
    assert energy_j[1] - energy_j[0] == pytest.approx(0.4 * (81600 - 20000) * 6 * 3600.0, rel=0.1)  # one rack
