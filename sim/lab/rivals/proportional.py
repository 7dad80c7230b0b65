"""Priority-proportional: the budget above the floors in proportion to the weight of each rack's class."""

import numpy as np

from controller.frames import Floats, Rows
from sim.lab.rivals.loads import Demand, OtherLoad, room_w
from sim.lab.rivals.policy import Layout, Seen

WEIGHT = 0.5  # of a class against the one above it
HALVINGS = 40


class Proportional:
    """A class has twice the share of the next one; what a rack does not ask for goes to the others.

    Nathuji, Schwan, VPM Tokens: Virtual Machine-Aware Power Budgeting in Datacenters, HPDC 2008
    (doi:10.1145/1383422.1383438): a budget is dealt out as tokens in proportion to shares, unused ones to those who
    ask for more. Choices: weights 1, 1/2, 1/4 .. by class; a rack's floor is its own in any case; every limit deals
    out what it has left, and a rack gets the least of its limits' offers; then what nobody asked for, as head room.
    """

    def __init__(self, layout: Layout, seed: int) -> None:
        del seed
        self._layout, self._other, self._demand = layout, OtherLoad(layout), Demand(layout)
        self._weight: Floats = np.power(WEIGHT, layout.priority, dtype=np.float64)

    def caps_w(self, seen: Seen) -> Floats:
        """Caps in proportion [R, W]."""
        layout = self._layout
        room = room_w(layout, self._other.follow(seen), seen.envelope_w)
        asked_w = deal(layout.rows, room, layout.floor_w, self._demand.follow(seen), self._weight)
        return deal(layout.rows, room, asked_w, layout.max_w, self._weight)


def deal(rows: Rows, room: Floats, least_w: Floats, most_w: Floats, weight: Floats) -> Floats:
    """Power from `least_w` up to `most_w` [R, W]: under each row all have the same part of weight x what they lack."""
    lack_w = np.maximum(most_w - least_w, 0.0)
    binds = rows.dot(least_w + lack_w) > room
    entry = np.flatnonzero(binds[rows.of_entry])
    of_row, rack, coeff = rows.of_entry[entry], rows.racks[entry], rows.coeff[entry]
    held = coeff * least_w[rack]
    low, high = np.where(binds, 0.0, np.inf), np.full(len(room), 1.0 / weight.min())
    for _ in range(HALVINGS):
        part = (low + high) / 2.0
        given = np.minimum(part[of_row] * weight[rack], 1.0) * lack_w[rack]
        load_w = np.bincount(of_row, held + coeff * given, minlength=len(room))
        fits = load_w <= room
        low, high = np.where(binds & fits, part, low), np.where(fits, high, part)
    part = np.minimum(rows.rack_min(low, len(least_w)), 1.0 / weight.min())
    return np.asarray(least_w + np.minimum(part * weight, 1.0) * lack_w)
