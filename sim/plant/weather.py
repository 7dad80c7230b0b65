"""A year of air, hour by hour: drawn from a climate by a seed, or read from a file; 8,760 pairs of figures, no more.

Dry-bulb: a yearly and a daily wave and a walk of days (first-order autoregression, as in Hansen and Driscoll 1977,
doi 10.1175/1520-0450(1977)016<1043:AMMFTG>2.0.CO;2). Dew point: below the day's mean by a depression of its own.
Wet-bulb from both by Stull 2011, doi 10.1175/JAMC-D-11-0143.1, which is good to 1 K; vapour pressure by Magnus.
"""

import csv
import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from drivers.points import Floats
from sim.plant.base import PlantError
from sim.plant.event_model import EventModel

HOURS = 8760
COLDEST_DAY, HOTTEST_HOUR = 18.0, 15.0
MAGNUS_A, MAGNUS_B_C = 17.62, 243.12  # over water (WMO-No. 8)


class Climate(EventModel):
    """Of a place; the defaults are near Memphis (monthly means 5.6 C in January to 28.2 C in July; NOAA 1991-2020)."""

    mean_c: float = 17.5
    season_k: float = 11.3  # amplitude of the year
    daily_k: float = 5.3  # amplitude of the day
    spell_k: float = 4.0  # one sigma of the walk of days
    spell_h: float = 60.0  # after which it has forgotten 63 %
    dryness_k: float = 6.5  # dew point below the day's mean
    dryness_spread_k: float = 3.0


@dataclass(frozen=True)
class Year:
    """Air by the hour of the year."""

    dry_c: Floats  # [HOURS]
    wet_c: Floats

    def at(self, hour: float) -> tuple[float, float]:
        """Dry- and wet-bulb at an hour of the year [C], straight between the hours; the year comes round."""
        whole = math.floor(hour)
        part, i, j = hour - whole, whole % HOURS, (whole + 1) % HOURS
        dry = self.dry_c[i] + (self.dry_c[j] - self.dry_c[i]) * part
        wet = self.wet_c[i] + (self.wet_c[j] - self.wet_c[i]) * part
        return float(dry), float(min(dry, wet))


def draw_year(climate: Climate, rng: np.random.Generator) -> Year:
    """A year of a climate."""
    hour = np.arange(HOURS)
    season = -np.cos(2.0 * math.pi * (hour / 24.0 - COLDEST_DAY) / 365.0)
    spell, moist = _walk(rng, climate.spell_h), _walk(rng, climate.spell_h)
    mean = climate.mean_c + climate.season_k * season + climate.spell_k * spell
    dry = mean + climate.daily_k * np.cos(2.0 * math.pi * (hour % 24 - HOTTEST_HOUR) / 24.0)
    dew = np.minimum(mean - climate.dryness_k + climate.dryness_spread_k * moist, dry - 0.2)
    return Year(dry, wet_bulb_c(dry, dew))


def _walk(rng: np.random.Generator, memory_h: float) -> Floats:
    """First-order autoregression, mean 0, sigma 1 [HOURS]."""
    keep = math.exp(-1.0 / memory_h)
    push = math.sqrt(1.0 - keep * keep) * rng.standard_normal(HOURS)
    walk = np.empty(HOURS)
    now = float(rng.standard_normal())
    for i in range(HOURS):
        now = keep * now + push[i]
        walk[i] = now
    return walk


def wet_bulb_c(dry_c: Floats, dew_c: Floats) -> Floats:
    """Wet-bulb from dry-bulb and dew point [C] at sea level: Stull's fit, between 5 and 99 % relative humidity."""

    def magnus(c: Floats) -> Floats:
        pressure: Floats = np.exp(MAGNUS_A * c / (MAGNUS_B_C + c))
        return pressure

    rh = np.clip(100.0 * magnus(dew_c) / magnus(dry_c), 5.0, 99.0)
    wet = dry_c * np.arctan(0.151977 * np.sqrt(rh + 8.313659)) + np.arctan(dry_c + rh) - np.arctan(rh - 1.676331)
    wet += 0.00391838 * rh**1.5 * np.arctan(0.023101 * rh) - 4.686035
    lower: Floats = np.minimum(wet, dry_c)
    return lower


def read_year(path: Path) -> Year:
    """A CSV file of 8,760 hours from 1 January on with columns dry_bulb_c and wet_bulb_c; PlantError otherwise."""
    try:
        with path.open(encoding="utf-8", newline="") as file:
            rows = [(float(r["dry_bulb_c"]), float(r["wet_bulb_c"])) for r in csv.DictReader(file)]
    except (OSError, KeyError, ValueError, TypeError) as error:
        raise PlantError(f"weather {path}: {error}; give a CSV file with columns dry_bulb_c and wet_bulb_c") from error
    air = np.array(rows).reshape(-1, 2)
    if len(air) != HOURS:
        raise PlantError(f"weather {path}: {len(air)} hours; a year has {HOURS}, one a row from 1 January on")
    bad = np.flatnonzero(
        ~np.isfinite(air).all(axis=1) | (air[:, 1] > air[:, 0] + 0.5) | (np.abs(air) > 70.0).any(axis=1)
    )
    if len(bad):
        raise PlantError(f"weather {path}: row {bad[0] + 2}: {air[bad[0]]} C cannot be dry- and wet-bulb of one air")
    return Year(air[:, 0], np.minimum(air[:, 1], air[:, 0]))
