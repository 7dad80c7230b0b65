"""Scenarios drawn from a seed: single faults and combined ones. Equal seed and number, equal scenario.

`random:N` are N scenarios of one fault each, `combined:N` of two or three; one of them alone is `random-SEED-NUMBER`.
"""

import re
from collections.abc import Callable
from typing import Any

import numpy as np

from drivers.site.model import Site
from sim.lab.losses import RETURNING, Element, elements
from sim.plant.events import Scenario

SETTLED_S = 240.0  # the site has climbed to its demand within its ramp: then faults befall it
SPREAD_S = 60.0  # over which the moment of a fault is drawn
HOTTEST_C = 42.0  # the record of Memphis, with a drawn heat wave and all
NEXT_S = 45.0  # between combined faults, at most
BACK_S = (5.0, 180.0)  # a fault that ends does so within these
KINDS = ("random", "combined")
NAME = re.compile(r"(random|combined)-(\d+)-(\d+)")
NODES = {"utility_feed", "substation", "transformer", "ups", "switchboard", "busway", "pdu"}
Rng = np.random.Generator
Event = dict[str, Any]


def drawn(site: Site, kind: str, seed: int, number: int) -> Scenario:
    """Scenario `number` of a seed: full demand in some weather, then one fault or, combined, two or three."""
    rng = np.random.default_rng([seed, number, KINDS.index(kind)])
    faults = 1 if kind == "random" else int(rng.integers(2, 4))
    at_s = SETTLED_S + float(rng.uniform(0.0, SPREAD_S))
    events = _demand(rng)
    names = []
    for _ in range(faults):
        name, fault = _fault(site, rng, round(at_s * 4.0) / 4.0)
        names.append(name)
        events += fault
        at_s += float(rng.uniform(0.0, NEXT_S))
    rise_k = sum(e.get("rise_k", 0.0) for e in events)
    weather = {
        "dry_bulb_c": round(min(float(rng.uniform(15.0, 38.0)), HOTTEST_C - rise_k), 1),
        "depression_k": round(float(rng.uniform(4, 14)), 1),
    }
    title = " and ".join(names)
    return Scenario.model_validate(
        {
            "name": f"{kind}-{seed}-{number}",
            "title": title,
            "weather": weather,
            "events": events,
            "outcome": {"envelope_over_s": None, "gpu_shutdown_racks": None},  # trips, deadlines, racks forced down
        }
    )


def by_name(site: Site, name: str) -> Scenario | None:
    """The drawn scenario of such a name, None where it is no such name."""
    found = NAME.fullmatch(name)
    return drawn(site, found[1], int(found[2]), int(found[3])) if found else None


def _demand(rng: Rng) -> list[Event]:
    """From three quarters of nameplate to all of it, the largest gang swinging."""
    return [
        {"do": "training", "to": round(float(rng.uniform(0.75, 1.0)), 3)},
        {"do": "training", "jobs": "largest", "depth": round(float(rng.uniform(0.1, 0.35)), 3), "period_s": 4},
        {"do": "inference", "to": round(float(rng.uniform(0.6, 1.2)), 3)},
    ]


def _fault(site: Site, rng: Rng, at_s: float) -> tuple[str, list[Event]]:
    """One fault in words and as events; every kind is as likely as the others."""
    kinds: dict[str, list[Element]] = {}
    for element in [*elements(site), *(Element(n.id, n.kind) for n in site.nodes if n.kind == "pdu")]:
        kinds.setdefault(element.kind, []).append(element)
    choices: list[Callable[[], tuple[str, Event]]] = [
        *(lambda of=of: _loss(of, rng) for of in kinds.values()),
        *(lambda how=how: _device(site, how, rng) for how in ("silent", "frozen", "sentinel", "lying")),
        *(lambda make=make: make(site, rng) for make in (_gateway, _ignore, _slow, _broker, _down, _stall, _jump)),
        *(lambda make=make: make(site, rng) for make in (_replay, _request, _crash, _rush, _heat)),
    ]
    name, event = choices[int(rng.integers(len(choices)))]()
    return name, [{"at_s": at_s} | event]


def _for_s(rng: Rng) -> float:
    """How long a fault lasts: half of them for good (0)."""
    return 0.0 if rng.random() < 0.5 else _while_s(rng)


def _while_s(rng: Rng) -> float:
    return round(float(np.exp(rng.uniform(*np.log(BACK_S)))) * 4.0) / 4.0


def _loss(of: list[Element], rng: Rng) -> tuple[str, Event]:
    element = of[int(rng.integers(len(of)))]
    for_s = _for_s(rng) if element.kind in RETURNING else 0.0
    do = "outage" if element.kind in NODES else "storage_trip" if element.kind == "storage" else "cooling_trip"
    return f"loss of {element.kind} {element.id}", {"do": do, "id": element.id, "for_s": for_s}


def _device(site: Site, how: str, rng: Rng) -> tuple[str, Event]:
    measures = str(rng.choice(["pdu", "meter", "cdu", *["storage"] * bool(site.storage)]))
    count = int(rng.integers(1, max(2, len(site.racks) // 4)))
    name = f"{how} {measures} devices"
    if how == "lying":
        point = "supply_c" if measures == "cdu" else "power_w" if measures != "storage" else "soc_pct"
        scale = round(float(rng.choice([rng.uniform(0.7, 0.97), rng.uniform(1.03, 1.3)])), 3)
        return name, {"do": "spoof", "measures": measures, "point": point, "scale": scale, "for_s": _while_s(rng)}
    return name, {"do": "device_fault", "measures": measures, "how": how, "count": count, "for_s": _for_s(rng)}


def _gateway(site: Site, rng: Rng) -> tuple[str, Event]:
    nth = int(rng.integers(max(1, len(site.gateways))))
    return f"gateway {nth} silent", {"do": "gateway_silent", "nth": nth, "for_s": _for_s(rng)}


def _ignore(_: Site, rng: Rng) -> tuple[str, Event]:
    share = float(rng.choice([0.02, 0.05, 0.2]))
    return f"{share:.0%} of the racks ignore caps", {"do": "ignore_caps", "share": share, "for_s": _for_s(rng)}


def _slow(_: Site, rng: Rng) -> tuple[str, Event]:
    share, settle_s = round(float(rng.uniform(0.02, 0.3)), 3), round(float(rng.uniform(2.0, 13.0)), 1)
    return f"{share:.0%} of the actuators slow", {"do": "slow_actuators", "share": share, "settle_s": settle_s}


def _broker(_: Site, rng: Rng) -> tuple[str, Event]:
    return "broker lost", {"do": "broker_down", "for_s": _for_s(rng)}


def _down(_: Site, rng: Rng) -> tuple[str, Event]:
    return "controller dies", {"do": "controller_down", "for_s": _for_s(rng)}


def _stall(_: Site, rng: Rng) -> tuple[str, Event]:
    return "controller stalls", {"do": "controller_stall", "for_s": _while_s(rng)}


def _jump(_: Site, rng: Rng) -> tuple[str, Event]:
    of = str(rng.choice(["wall", "monotonic"]))
    by_s = round(float(rng.uniform(1.0, 7200.0)) * (1.0 if of == "monotonic" else float(rng.choice([-1.0, 1.0]))), 1)
    return f"{of} clock jumps by {by_s:.0f} s", {"do": "clock_jump", "of": of, "by_s": by_s}


def _replay(_: Site, rng: Rng) -> tuple[str, Event]:
    return "old leases replayed", {"do": "forged_leases", "how": "replay", "count": 64, "for_s": _while_s(rng)}


def _request(_: Site, rng: Rng) -> tuple[str, Event]:
    to, within_s = round(float(rng.uniform(0.7, 0.98)), 3), 120.0
    return f"curtailment to {to:.0%}", {"do": "envelope", "to": to, "within_s": within_s, "for_s": 180.0}


def _crash(_: Site, rng: Rng) -> tuple[str, Event]:
    return "largest job crashes and restarts", {"do": "crash", "jobs": "largest", "restart_s": _while_s(rng)}


def _rush(_: Site, rng: Rng) -> tuple[str, Event]:
    to, over_s = round(float(rng.uniform(1.0, 2.0)), 2), round(float(rng.uniform(1.0, 60.0)), 1)
    return "inference surges", {"do": "inference", "to": to, "over_s": over_s}


def _heat(_: Site, rng: Rng) -> tuple[str, Event]:
    rise_k = round(float(rng.uniform(3.0, 9.0)), 1)
    return f"heat wave of {rise_k} K", {"do": "weather", "rise_k": rise_k, "over_s": 300.0}
