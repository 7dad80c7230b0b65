"""Uniform cap: one power limit for all."""

import numpy as np

from controller.frames import Floats
from sim.lab.rivals.loads import OtherLoad, room_w
from sim.lab.rivals.policy import Layout, Seen


class Uniform:
    """All racks have the same share of their nameplate, the highest that every limit bears.

    Meta, 150 MW GB200 cluster, arXiv 2605.24461: one limit for every GPU of the site (960 W of 1,200 W), chosen so
    that the whole fits. Choices: it is chosen again each second against the measured load that is no rack's and the
    envelope that the utility asks for now; nothing is known of what a rack wants, nor of classes and jobs.
    """

    def __init__(self, layout: Layout, seed: int) -> None:
        del seed
        self._layout, self._other = layout, OtherLoad(layout)
        self._full_w = layout.rows.dot(layout.max_w)

    def caps_w(self, seen: Seen) -> Floats:
        """One share for all, as caps [R, W]."""
        room = room_w(self._layout, self._other.follow(seen), seen.envelope_w)
        loaded = self._full_w > 0.0
        share = float(np.min(room[loaded] / self._full_w[loaded], initial=1.0))
        return self._layout.max_w * share
