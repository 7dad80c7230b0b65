"""The water side of a site alone, under imposed rack powers and boundaries; reference trajectories of others."""

import os
import re
from pathlib import Path

import numpy as np
import pytest

from drivers.points import Floats
from drivers.site.load import load_site
from sim.plant.base import DT_S
from sim.plant.network import compile_network
from sim.plant.step import thermal_step
from sim.plant.thermal import start_thermal

SITES = Path(__file__).parent / "sites"
DATA = Path(__file__).resolve().parents[2] / "shared" / "data"
with_reference = pytest.mark.skipif(
    not DATA.exists() and os.environ.get("CI") != "true",
    reason="the published reference data are not beside the checkout (../shared/data)",
)


class Water:
    """Steps a site's plates, CDUs, loops and heat rejection; PlantError's own balance is asserted each step."""

    def __init__(self, name: str) -> None:
        site = load_site(SITES / name)
        self.site, self.net = site, compile_network(site)
        self.hyd, self.racks = self.net.hydraulics, self.net.racks
        self.state = start_thermal(self.racks, self.hyd)
        self.cdu_on = np.ones(len(site.cdus), dtype=bool)
        self.unit_on = np.ones(len(site.cooling), dtype=bool)
        self._mixed = np.zeros(len(site.cdus))

    def step(self, rack_w: Floats, dry_c: float = 30.0, wet_c: float = 20.0) -> None:
        """One plant step with these rack powers [R, W]."""
        s = self.state
        off = thermal_step(self.racks, self.hyd, s, rack_w, self.cdu_on, self.unit_on, self._mixed, dry_c, wet_c)
        assert off < 1e-9

    def run(self, seconds: float, rack_w: Floats, dry_c: float = 30.0, wet_c: float = 20.0) -> None:
        """Many steps with the same powers."""
        for _ in range(round(seconds / DT_S)):
            self.step(rack_w, dry_c, wet_c)


def trajectories(name: str) -> dict[str, Floats]:
    """Variables of a Modelica reference result, each on a linear grid over `time`: two points are a constant."""
    text = next((DATA / "reference").glob(f"*{name}.txt")).read_text()
    found = re.findall(r"^([\w.]+)=\[(.*)\]$", text, re.MULTILINE)
    return {key: np.array([float(x) for x in values.split(",")]) for key, values in found}


def pulse_mean(start_s: float, low: float, high: float, period_s: float, width: float, shift_s: float) -> float:
    """Mean over one plant step from `start_s` of a periodic pulse."""

    def area(t_s: float) -> float:
        whole, part = divmod(t_s - shift_s, period_s)
        return whole * width * period_s + min(part, width * period_s)

    return low + (high - low) * (area(start_s + DT_S) - area(start_s)) / DT_S


def rmse(a: Floats, b: Floats) -> float:
    """Root mean square difference."""
    return float(np.sqrt(np.mean((a - b) ** 2)))
