"""The facility's water side: pumps that follow the valves, towers, dry coolers and chillers against the weather."""

import math

import numpy as np

from sim.plant.base import ALLOCATING, DT_S, KERNEL, Bools
from sim.plant.hydraulics import CHILLER, DESIGN_DRY_C, DRY_COOLER, PUMP, Hydraulics
from sim.plant.thermal import ThermalState

CHILLER_DERATE_PER_K = 0.015  # capacity lost per kelvin above the design dry-bulb
CHILLER_POWER_PER_K = 0.025
PART_LOAD = (0.222903, 0.313387, 0.463710)  # hermetic centrifugal (DOE-2.1E EIR-fPLR, also ASHRAE 90.1 models)
CHILLER_LEAST = 0.1  # of what it can do: least steady load
MOST = 1.05  # of a unit's capacity, however warm its water: fill, coils and fans were built for it
WATER_SIDE = 0.6  # NTU ~ flow^-0.6 of a tower's fill or a coil
FREE_CONVECTION = 0.125  # share of a dry cooler's heat with its fans off (FACTS P.7)
PUMP_UP_S, PUMP_DOWN_S = 5.0, 3.0
STANDBY_DELAY_S = 4.0
REJECTION_TAU_S = 30.0
PUMP_LEAST = 0.2  # of the flow at capacity
PUMP_HEAD = 0.5  # of the head that stays as flow falls: the farthest valve keeps its pressure


@KERNEL
def _pump_wanted(hyd: Hydraulics, s: ThermalState, u: int, powered: Bools) -> bool:
    """A standby pump runs while fewer healthy pumps are left in its loop than belong there."""
    if not hyd.unit_standby[u]:
        return True
    down = 0
    for k in range(len(hyd.unit_kind)):
        same = hyd.unit_kind[k] == PUMP and hyd.unit_loop[k] == hyd.unit_loop[u]
        healthy = s.unit_ok[k] and powered[k]
        if same and not hyd.unit_standby[k] and not healthy:
            down += 1
        if same and hyd.unit_standby[k] and healthy and k < u:
            down -= 1
    return down > 0


@ALLOCATING
def run_pumps(hyd: Hydraulics, s: ThermalState, powered: Bools) -> None:
    """Pumps follow what the valves ask, up to what they have; power is flow times head."""
    able = np.zeros(len(hyd.loop_set_c))
    for u in range(len(hyd.unit_kind)):
        if hyd.unit_kind[u] != PUMP:
            continue
        on = s.unit_ok[u] and powered[u] and _pump_wanted(hyd, s, u, powered)
        if on and hyd.unit_standby[u]:
            s.unit_wait_s[u] += DT_S
            on = s.unit_wait_s[u] > STANDBY_DELAY_S
        else:
            s.unit_wait_s[u] = 0.0
        tau = PUMP_UP_S if on else PUMP_DOWN_S
        s.unit_speed[u] += ((1.0 if on else 0.0) - s.unit_speed[u]) * DT_S / tau
        able[hyd.unit_loop[u]] += s.unit_speed[u] * hyd.unit_capacity[u]
    for k in range(len(able)):
        s.loop_flow_lpm[k] = min(s.asked_lpm[k], able[k])
        s.granted[k] = s.loop_flow_lpm[k] / max(s.asked_lpm[k], 1e-9)
    for u in range(len(hyd.unit_kind)):
        if hyd.unit_kind[u] == PUMP:
            k = hyd.unit_loop[u]
            share = max(s.loop_flow_lpm[k] / max(able[k], 1e-9), PUMP_LEAST)
            live = s.unit_ok[u] and powered[u]
            full_w = hyd.unit_power_w[u] * s.unit_speed[u]
            s.unit_w[u] = full_w * share * (PUMP_HEAD + (1.0 - PUMP_HEAD) * share**2) if live else 0.0


@KERNEL
def _able(hyd: Hydraulics, s: ThermalState, u: int, spread: float, dry_c: float, wet_c: float) -> float:
    """Heat that a running unit could reject now with its fans at full speed [W], whatever it was built for.

    Towers and dry coolers: eps-NTU against wet- and dry-bulb on their part of the water, `spread` times their part
    at design; chillers by dry-bulb.
    """
    loop = hyd.unit_loop[u]
    capacity = float(hyd.unit_capacity[u])
    if hyd.unit_kind[u] == CHILLER:
        return capacity * max(0.5, 1.0 - CHILLER_DERATE_PER_K * max(0.0, dry_c - DESIGN_DRY_C))
    air_c = dry_c if hyd.unit_kind[u] == DRY_COOLER else wet_c
    share = float(s.loop_flow_lpm[loop] / hyd.loop_flow_lpm[loop]) * spread
    if share < 1e-6:
        return 0.0
    ntu = float(hyd.unit_ntu[u]) * share**-WATER_SIDE
    w_k = share * float(hyd.unit_w_k[u])
    return (1.0 - math.exp(-ntu)) * w_k * max(0.0, float(s.returning_c[loop]) - air_c)


@ALLOCATING
def _survey(hyd: Hydraulics, s: ThermalState, powered: Bools, dry_c: float, wet_c: float) -> None:
    """Fill `unit_full_w` and `unit_able_w`; the water of units that are off goes through the others of their loop."""
    loops = len(hyd.loop_set_c)
    running, installed = np.zeros(loops), np.zeros(loops)
    for u in range(len(hyd.unit_kind)):
        if hyd.unit_kind[u] != PUMP and hyd.unit_kind[u] != CHILLER:
            installed[hyd.unit_loop[u]] += hyd.unit_capacity[u]
            if s.unit_ok[u] and powered[u]:
                running[hyd.unit_loop[u]] += hyd.unit_capacity[u]
    for u in range(len(hyd.unit_kind)):
        on = hyd.unit_kind[u] != PUMP and s.unit_ok[u] and powered[u]
        spread = installed[hyd.unit_loop[u]] / max(running[hyd.unit_loop[u]], 1e-9)
        s.unit_full_w[u] = _able(hyd, s, u, spread, dry_c, wet_c) if on else 0.0
        s.unit_able_w[u] = min(s.unit_full_w[u], MOST * hyd.unit_capacity[u])


@ALLOCATING
def reject(hyd: Hydraulics, s: ThermalState, powered: Bools, dry_c: float, wet_c: float) -> float:
    """Step the loops: rejection holds the supply at its set-point as far as units and weather allow; stored [J].

    Towers and dry coolers come first, chillers trim.
    """
    _survey(hyd, s, powered, dry_c, wet_c)
    free, cold = np.zeros(len(hyd.loop_set_c)), np.zeros(len(hyd.loop_set_c))
    for u in range(len(hyd.unit_kind)):
        if hyd.unit_kind[u] == CHILLER:
            cold[hyd.unit_loop[u]] += s.unit_able_w[u]
        else:
            free[hyd.unit_loop[u]] += s.unit_able_w[u]
    stored = 0.0
    for k in range(len(hyd.loop_set_c)):
        w_k = s.loop_flow_lpm[k] * hyd.loop_w_lpm_k[k]
        wish = max(0.0, w_k * (s.returning_c[k] - hyd.loop_set_c[k]))
        s.rejecting_w[k] += (wish - s.rejecting_w[k]) * DT_S / REJECTION_TAU_S
        q = min(s.rejecting_w[k], free[k] + cold[k])
        s.loop_heat_w[k] = q
        half = hyd.loop_half_j_k[k]
        supply = s.loop_supply_c[k] + (w_k * (s.returning_c[k] - s.loop_supply_c[k]) - q) * DT_S / half
        back = s.loop_return_c[k] + s.mix_w[k] * DT_S / half
        stored += half * ((supply - s.loop_supply_c[k]) + (back - s.loop_return_c[k]))
        s.loop_supply_c[k], s.loop_return_c[k] = supply, back
    for u in range(len(hyd.unit_kind)):
        k = hyd.unit_loop[u]
        by_free = min(s.loop_heat_w[k], free[k])
        if hyd.unit_kind[u] == CHILLER:
            _unit_power(hyd, s, u, (s.loop_heat_w[k] - by_free) / max(cold[k], 1e-9), dry_c)
        elif hyd.unit_kind[u] != PUMP:
            _unit_power(hyd, s, u, by_free / max(free[k], 1e-9), dry_c)
    return stored


@KERNEL
def part_load(share: float) -> float:
    """Power of a chiller at a share of what it can do now, over that at all of it; below CHILLER_LEAST it cycles."""
    at = max(share, CHILLER_LEAST)
    power = PART_LOAD[0] + PART_LOAD[1] * at + PART_LOAD[2] * at * at
    return float(power * min(1.0, share / CHILLER_LEAST))


@KERNEL
def _unit_power(hyd: Hydraulics, s: ThermalState, u: int, share: float, dry_c: float) -> None:
    """Fans: cube of speed, heat ~ air^0.8 above free convection; chillers: a COP that falls with lift and part load."""
    able = s.unit_able_w[u]
    s.unit_heat_w[u] = share * able
    s.unit_speed[u] = share if able > 0.0 else 0.0
    if able <= 0.0:
        s.unit_w[u] = 0.0
    elif hyd.unit_kind[u] == CHILLER:
        lift = max(0.4, 1.0 + CHILLER_POWER_PER_K * (dry_c - DESIGN_DRY_C))
        s.unit_w[u] = hyd.unit_power_w[u] * part_load(share) * able / hyd.unit_capacity[u] * lift
    else:
        of_full = s.unit_heat_w[u] / s.unit_full_w[u]  # colder air does the same with less of it
        air = (max(0.0, of_full - FREE_CONVECTION) / (1.0 - FREE_CONVECTION)) ** 1.25
        s.unit_w[u] = hyd.unit_power_w[u] * air**3
