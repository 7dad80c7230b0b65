"""Voltages down the tree, and the current that each element carries at the voltage that is there.

A branch drops voltage over its series impedance: V_in^2 = V^2 + 2 (R P + X Q) + (R^2 + X^2) S^2 / V^2 with P, Q, S at
its output, the exact AC relation of a radial branch (Baran, Wu 1989, DOI 10.1109/61.25627). Powers are those of this
step and losses follow the voltages of the last one, so both settle within a few steps. Feeds hold their source's,
double-conversion UPS their own. There are no tap changers.
"""

import math

from sim.plant.base import KERNEL, POWER_FACTOR
from sim.plant.electrical import ElecState
from sim.plant.network import Tree

LEAST = 0.25  # of the nominal voltage squared; below it a branch would have collapsed


@KERNEL
def sag(tree: Tree, s: ElecState) -> None:
    """Fill `volt2` and `pull_w`, from the feeds down; a dead node keeps its nominal voltage, which nobody sees."""
    for k in range(len(s.order) - 1, -1, -1):
        i = s.order[k]
        real, reactive = s.out_w[i], s.out_var[i]
        apparent2 = real * real + reactive * reactive
        volt2 = s.source[i] * s.source[i]
        if s.via[i] >= 0:
            volt2 = s.volt2[s.via[i]]
        elif s.live[i] and tree.parent[i] >= 0 and not tree.is_ups[i]:
            volt2 = s.volt2[tree.parent[i]] - 2.0 * (tree.r[i] * real + tree.x[i] * reactive)
            volt2 -= (tree.r[i] ** 2 + tree.x[i] ** 2) * apparent2 / max(volt2, LEAST)
        s.volt2[i] = max(volt2, LEAST)
        s.pull_w[i] = POWER_FACTOR * math.sqrt(apparent2 / s.volt2[i] if tree.in_amps[i] else apparent2)
