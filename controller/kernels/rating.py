"""Continuous ratings in W from native units and the measured electrical state, compiled: node by node."""

import numpy as np
from numba import njit
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]

DENIED = 1.03
LIGHT_SHARE = 0.1  # below this load, measured power factor and unbalance say nothing
VOLT_WORST = 0.95  # of nominal: lower edge of normal service (ANSI C84.1 range A)
UNBALANCE_WORST = 1.05  # worst phase over mean, three-phase power supplies evenly loaded
SLOW_PER_CYCLE = 0.02  # of the way


@njit(cache=True, error_model="numpy")
def at_measured(
    volt: Floats, a: Floats, b: Floats, c: Floats, power: Floats, apparent_va: Floats, below_w: Floats,
    phase: Floats, volt_v: Floats, rating: Floats, in_amps: Bools, in_va: Bools,
    base_w: Floats, last_w: Floats, worst_pf: float,
) -> Floats:  # fmt: skip
    """Ratings [N, W]: a measured narrowing at once, a widening or a narrowing out of ignorance slowly.

    Line voltage, three currents, power and apparent power are NaN where unknown; `below_w` is what the children show,
    `base_w` the rating at the worst case, `last_w` the answer before (inf: none).
    """
    out = np.empty(len(power))
    for i in range(len(power)):
        p, v, x, y, z = power[i], volt[i], a[i], b[i], c[i]
        mean = (x + y + z) / 3.0
        worst = np.nan if np.isnan(x) or np.isnan(y) or np.isnan(z) else max(x, y, z)
        from_amps = phase[i] * v * mean
        va = apparent_va[i]
        if np.isnan(va) or from_amps > va:
            va = from_amps
        pf, unbalance = worst_pf, UNBALANCE_WORST
        # where its children show more, its power factor says nothing either
        if p > LIGHT_SHARE * base_w[i] and not below_w[i] > p * DENIED:
            shown = p / va if va > 0.0 else np.nan
            if np.isfinite(shown):
                pf = min(max(shown, 0.5), 1.0)
            lean = worst / mean if mean > 0.0 else np.nan
            if np.isfinite(lean):
                unbalance = min(max(lean, 1.0), 3.0)
        ratio = min(max(v / volt_v[i], 0.5), 1.05) if np.isfinite(v) else VOLT_WORST
        now = rating[i]
        if in_amps[i]:
            now = phase[i] * volt_v[i] * ratio * rating[i] * pf / unbalance
        elif in_va[i]:
            now = rating[i] * pf
        before = last_w[i] if np.isfinite(last_w[i]) else now
        measured = np.isfinite(p) and np.isfinite(v)
        out[i] = now if measured and now <= before else before + (now - before) * SLOW_PER_CYCLE
    return out
