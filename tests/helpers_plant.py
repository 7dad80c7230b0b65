"""Plants for tests: scenarios in one line, leases, the tiny site under test."""

from collections.abc import Mapping

import numpy as np
from helpers_site import tiny_site

from drivers.lease import Lease
from drivers.profile import load_profiles
from drivers.site.model import Site
from sim.plant.events import Scenario
from sim.plant.plant import Plant

FULL = ({"do": "training", "to": 1.0, "depth": 0.0}, {"do": "inference", "to": 1.5})
UNCAPPED = {"do": "ignore_caps", "at_s": 0, "count": 100_000}


def make_plant(*events: Mapping[str, object], site: Site | None = None, seed: int = 1, **settings: object) -> Plant:
    """A plant of the tiny site (or `site`) with a scenario of `events`; `settings` are fields of Scenario."""
    scenario = Scenario.model_validate({"name": "test", "title": "test", "events": events} | settings)
    return Plant(site or tiny_site(), load_profiles(), scenario, seed)


def give_caps(plant: Plant, cap_w: float, *, seq: int, ttl_s: float = 10.0, safe_w: float = 61200.0) -> None:
    """One lease for every group: the same cap for every rack."""
    holder = plant.agents.holder
    for group in plant.agents.groups.values():
        n = len(group.racks)
        caps, safe = np.full(n, int(cap_w), dtype=np.int64), np.full(n, int(safe_w), dtype=np.int64)
        echo = holder.beat[group.racks]
        plant.accept_lease(Lease(group.name, group.roster, 1, seq, ttl_s, 5.0, echo, caps, safe))
