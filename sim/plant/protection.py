"""Protections that really open: each node's own time-current curve, drawn inside its band, and how far it has gone.

The catalog gives the shortest and the longest times of a kind of device; a unit's own lie somewhere between. Where
only a standard's longest times are known, the shortest are assumed (ASSUMED), on the quick side of what is common.
A curve is a staircase: above the last point it opens within one step. Breakers see the current of their worst phase
at the voltage that is there, transformers and UPS their load. Standard-rated breakers count from their full rating:
the 80 % are for heat over hours.
"""

from typing import NamedTuple

import numpy as np

from drivers.points import Floats, Ints
from drivers.site.catalog import TRIP_CURVES, TripCurve
from drivers.site.model import Node, Site
from sim.plant.base import ALLOCATING, DT_S, KERNEL, Bools

Edge = tuple[tuple[float, float], ...]
BREAKER: Edge = ((1.35, 120.0), (2.0, 30.0), (3.0, 8.0), (6.0, 1.0))  # quick side of thermal-magnetic breakers
TRANSFORMER: Edge = ((1.2, 1800.0), (1.5, 300.0), (2.0, 30.0))  # relays below C57.91's minutes to hours at 120-150 %
UTILITY: Edge = ((1.2, 60.0), (1.5, 10.0), (2.0, 1.0))  # a relay of the utility's own
FUSE: Edge = ((1.3, 300.0), (2.0, 20.0), (4.0, 0.5))
GENERATOR: Edge = ((1.1, 60.0),)
ASSUMED = {  # by name of the curve; then by kind of the node, for nodes without one
    "ul489_standard": BREAKER,
    "ul489_large_frame": BREAKER,
    "iec60947_2": BREAKER,
    "fuse": FUSE,
    "transformer_c57_91": TRANSFORMER,
    "generator_iso8528": GENERATOR,
    "utility_feed": UTILITY,
    "generator": GENERATOR,
    "substation": TRANSFORMER,
    "transformer": TRANSFORMER,
    "switchboard": BREAKER,
    "busway": BREAKER,
    "pdu": BREAKER,
}
HOLDS = {"iec60947_2": 1.05}  # load that a standard lets no breaker trip at, where it is above the rating (FACTS H)
SMALL_FRAMES: dict[str, tuple[tuple[float, Edge], ...]] = {  # up to so many amperes the standard's times are shorter
    "ul489_standard": ((30.0, ((1.35, 3600.0), (2.0, 120.0))), (50.0, ((1.35, 3600.0), (2.0, 240.0)))),
    "iec60947_2": ((63.0, ((1.30, 3600.0),)),),
}
UNKNOWN_UPPER = 2.0  # times the shortest, where no longest time is known
BREAKER_COOL_S = 600.0


class Protections(NamedTuple):
    """Curves of all nodes; P points at most."""

    base_w: Floats  # [N] power at multiple 1
    gain: Floats  # [N] of the worst phase over the mean
    quiet_w: Floats  # [N] largest power that is continuous
    steps: Ints  # [N]
    multiple: Floats  # [N, P]
    seconds: Floats  # [N, P]
    cool_s: Floats  # [N]


def compile_protections(site: Site, rated_w: Floats, worst_phase: Floats, rng: np.random.Generator) -> Protections:
    """Draw each unit's curve; `worst_phase` [N] is its share of the mean. KeyError on a curve not in the catalog."""
    curves = [_curve(n) for n in site.nodes]
    widest = max(len(c.points) for c in curves)
    multiple, seconds = np.ones((len(curves), widest)), np.ones((len(curves), widest))
    place = rng.uniform(0.0, 1.0, len(curves))  # 0 at the shortest times, 1 at the longest
    for i, curve in enumerate(curves):
        for p, (load, least_s) in enumerate(curve.points):
            most_s = next((s for m, s in curve.longest if m >= load), UNKNOWN_UPPER * least_s)
            multiple[i, p], seconds[i, p] = load, least_s * max(most_s / least_s, 1.0) ** place[i]
    amps = np.array([n.rating_unit == "A" for n in site.nodes])
    derating = np.array([min(n.derating / c.derating, 1.0) for n, c in zip(site.nodes, curves, strict=True)])
    base_w, gain = rated_w * derating, np.where(amps, worst_phase, 1.0)
    full_w = np.array([c.continuous for c in curves]) * base_w
    return Protections(
        base_w=base_w,
        gain=gain,
        quiet_w=full_w / gain * (1.0 + 1e-12),
        steps=np.array([len(c.points) for c in curves]),
        multiple=multiple,
        seconds=np.minimum.accumulate(seconds, axis=1),
        cool_s=np.array([c.cool_s for c in curves]),
    )


def _curve(node: Node) -> TripCurve:
    """The band of a node's protection: the catalog's, its lower edge assumed where it has none."""
    named = TRIP_CURVES[node.trip_curve] if node.trip_curve else None
    if named and named.points:
        return named
    if not named and node.kind == "ups":
        return TRIP_CURVES["ups_apc"]
    points = ASSUMED[node.trip_curve or node.kind]
    derating = named.derating if named else (0.8 if points is BREAKER else 1.0)
    longest = named.longest if named else ()
    if node.rating_unit == "A":
        frames = SMALL_FRAMES.get(node.trip_curve, ())
        longest = next((edge for most_a, edge in frames if node.rating <= most_a), longest)
    holds = HOLDS.get(node.trip_curve, 1.0)
    return TripCurve(points, False, "assumed", longest, holds, BREAKER_COOL_S, derating)


@KERNEL
def _trip_s(p: Protections, i: int, pull_w: float) -> float:
    """Time from cold to open at a load that is not continuous [s]."""
    load = abs(pull_w) / p.base_w[i] * p.gain[i]
    for k in range(p.steps[i]):
        if load <= p.multiple[i, k]:
            return float(p.seconds[i, k])
    return DT_S


@KERNEL
def protect(p: Protections, pull_w: Floats, in_service: Bools, heat: Floats, tripped: Bools) -> int:
    """One step: `heat` [N] is 0..1 of the way to a trip; what gets there opens. Number of new trips."""
    trips = 0
    for i in range(len(pull_w)):
        if abs(pull_w[i]) <= p.quiet_w[i] or not in_service[i]:
            if heat[i] > 0.0:
                heat[i] = max(0.0, heat[i] - DT_S / p.cool_s[i])
            continue
        heat[i] = min(heat[i] + DT_S / _trip_s(p, i, pull_w[i]), 1.0)
        if heat[i] > 1.0 - 1e-9:
            in_service[i] = False
            tripped[i] = True
            trips += 1
    return trips


@ALLOCATING
def times_to_trip(p: Protections, pull_w: Floats, heat: Floats) -> Floats:
    """How long each protection stays closed at the load it has now [N, s]."""
    left = np.full(len(pull_w), np.inf)
    for i in range(len(pull_w)):
        if abs(pull_w[i]) > p.quiet_w[i]:
            left[i] = max(0.0, 1.0 - heat[i]) * _trip_s(p, i, pull_w[i])
    return left
