"""`headroom year`: what a year of weather does to a site's energy, month by month."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from drivers.clock import perf_s
from drivers.site.model import Site
from sim.plant.events import Scenario
from sim.plant.weather import HOURS, Climate, draw_year, read_year
from sim.plant.year import Tally, run_year

MWH = 3.6e9


def year(site: Site, scenario: Scenario, weather: Path | None, seed: int, say: Callable[[str], None]) -> dict[str, Any]:
    """Energies [MWh], hours and peaks of a year and of its months; PUE is that of the whole year (ISO/IEC 30134-2)."""
    air = draw_year(Climate(), np.random.default_rng(seed)) if weather is None else read_year(weather)
    began_s = perf_s()
    months = run_year(site, scenario, air, seed, say)
    whole = Tally(**{k: sum(getattr(m, k) for m in months) for k in vars(months[0])})
    whole.peak_w, whole.peak_dry_c = max(m.peak_w for m in months), max(m.peak_dry_c for m in months)
    result = _figures(whole) | {"pue": whole.site_j / whole.it_j}
    took_s = perf_s() - began_s
    return {
        "site": site.name,
        "scenario": scenario.name,
        "weather": "drawn" if weather is None else str(weather),
        "seed": seed,
        **result,
        "wall_s": took_s,
        "x_realtime": HOURS * 3600.0 / took_s,
        "months": [_figures(m) for m in months],
    }


def _figures(m: Tally) -> dict[str, float]:
    energies = {f"{k.removesuffix('_j')}_mwh": v / MWH for k, v in vars(m).items() if k.endswith("_j")}
    hours = {k: v for k, v in vars(m).items() if k.endswith("_h")}
    return energies | hours | {"peak_mw": m.peak_w / 1e6, "peak_dry_bulb_c": m.peak_dry_c, "steps": m.steps}
