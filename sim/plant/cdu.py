"""Coolant distribution units: valve on the facility side, heat exchanger, pump on the racks' side.

The pump stands between heat exchanger and racks, as in the published units (FACTS P.1: 14.6 psi before the pump and
23.0 psi in the return), so what it gives to the coolant warms the supply.
"""

import math

from drivers.points import Floats
from sim.plant.base import DT_S, KERNEL, Bools
from sim.plant.hydraulics import Hydraulics
from sim.plant.thermal import ThermalState

VALVE_KP_PER_K = 0.1  # k = 1 over 10 K (FACTS P.7)
VALVE_LEAST = 0.05  # of the stroke
RANGEABILITY = 50.0  # of an equal-percentage valve: flow ratio of full to least controllable opening (IEC 60534-2-4)
LOG_RANGEABILITY = math.log(RANGEABILITY)
AUTHORITY = 0.5  # share of the valve in the pressure drop of its branch at full flow (FACTS P.7)
STROKE_STEP = 1e-5  # flow follows a valve's stroke so closely: 4e-5 of it
FILM_STEP = 1e-4  # of the facility flow: effectiveness follows it so closely, and is worked out no oftener
FILM_EXPONENT = 0.8  # h ~ flow^0.8 (FACTS P.7; Dittus, Boelter)
PUMP_UP_S, PUMP_DOWN_S = 5.0, 1.5
PUMP_LEAST = 0.05  # of the speed at nominal flow
PUMP_TI_S = 120.0  # of a pump that holds a pressure, k = 1 over the pressure at nominal flow (FACTS P.7)
PUMP_TO_COOLANT = 0.52  # wire to water (FACTS P.1); the rest warms the air, and by the rear doors the loop
RACK_EXPONENT, EXCHANGER_EXPONENT, FILTER_EXPONENT = 1.85, 2.0, 1.76  # pressure drop ~ flow^n (FACTS P.7)


@KERNEL
def effectiveness(ntu: float, ratio: float) -> float:
    """Counter-flow heat exchanger: share of the greatest possible heat, from NTU and C_min / C_max (Kays, London)."""
    if ratio > 0.9999:
        return ntu / (1.0 + ntu)
    e = math.exp(-ntu * (1.0 - ratio))
    return (1.0 - e) / (1.0 - ratio * e)


@KERNEL
def valve_flow(stroke: float) -> float:
    """Flow of an equal-percentage valve with its branch, as share of that at full stroke, constant pressure over both.

    Inherent characteristic R^(stroke - 1); installed 1 / sqrt(a / phi^2 + 1 - a) with authority a (IEC 60534-2-4).
    """
    phi = math.exp(LOG_RANGEABILITY * (stroke - 1.0))
    return float(1.0 / math.sqrt(AUTHORITY / phi**2 + 1.0 - AUTHORITY))


@KERNEL
def ask_flow(hyd: Hydraulics, s: ThermalState) -> None:
    """Each CDU's valve holds its secondary supply (PI, no wind-up); starts the step's sums over each loop."""
    for k in range(len(s.mix_w)):
        s.asked_lpm[k], s.mix_w[k] = 0.0, 0.0
    for c in range(len(hyd.cdu_loop)):
        error = s.cdu_supply_c[c] - s.cdu_target_c[c]
        wanted = VALVE_KP_PER_K * error + s.valve_i[c]
        if not (wanted > 1.0 and error > 0.0) and not (wanted < 0.0 and error < 0.0):
            s.valve_i[c] += VALVE_KP_PER_K * error * DT_S / hyd.cdu_valve_ti_s[c]
        wanted = min(max(wanted, VALVE_LEAST), 1.0)
        most = hyd.cdu_valve_step[c]
        s.valve[c] += min(max(wanted - s.valve[c], -most), most)
        if abs(s.valve[c] - s.at_stroke[c]) > STROKE_STEP:
            s.at_stroke[c], s.valve_share[c] = s.valve[c], valve_flow(s.valve[c])
        s.asked_lpm[hyd.cdu_loop[c]] += s.valve_share[c] * hyd.cdu_primary_lpm[c]


@KERNEL
def _pump_target(hyd: Hydraulics, s: ThermalState, c: int) -> float:
    """Flow that a CDU's pump goes for [L/min]: its target, or what a PI asks that holds the pressure over the racks.

    Flow follows speed: the system's curve is near enough to a square for the affinity laws.
    """
    if math.isnan(hyd.cdu_hold[c]):
        return float(s.cdu_target_lpm[c])
    error = hyd.cdu_hold[c] - (s.cdu_flow_lpm[c] / hyd.cdu_flow_lpm[c]) ** RACK_EXPONENT
    wanted = error + s.pump_i[c]
    if not (wanted > 1.0 and error > 0.0) and not (wanted < 0.0 and error < 0.0):
        s.pump_i[c] += error * DT_S / PUMP_TI_S
    return float(min(max(wanted, 0.0), 1.0) * hyd.cdu_flow_lpm[c])


@KERNEL
def pump_share(rack: float, exchanger: float, filter_: float, speed: float) -> float:
    """Power of a pump at constant efficiency, as share of that at nominal flow, from the shares in the pressure drop.

    Flow times head; each part of the circuit drops its share times its power of the flow (FACTS P.7).
    """
    head = rack * speed**RACK_EXPONENT + exchanger * speed**EXCHANGER_EXPONENT + filter_ * speed**FILTER_EXPONENT
    return float(speed * head)


@KERNEL
def _follow_flow(hyd: Hydraulics, s: ThermalState, c: int) -> None:
    """What goes by powers of a CDU's secondary flow; as that hardly ever changes, worked out only when it does."""
    speed = s.cdu_flow_lpm[c] / hyd.cdu_flow_lpm[c]
    s.at_lpm[c] = s.cdu_flow_lpm[c]
    s.warm_film[c] = max(speed, 1e-6) ** -FILM_EXPONENT
    s.pump_share[c] = pump_share(hyd.cdu_head[c, 0], hyd.cdu_head[c, 1], hyd.cdu_head[c, 2], max(speed, PUMP_LEAST))


@KERNEL
def exchange(hyd: Hydraulics, s: ThermalState, powered: Bools, mixed_w: Floats) -> float:
    """Step the CDUs: pumps, heat exchanger (eps-NTU, h ~ flow^0.8 on both sides), both halves; heat stored [J]."""
    stored = 0.0
    for c in range(len(hyd.cdu_loop)):
        loop = hyd.cdu_loop[c]
        moved = s.cdu_flow_lpm[c] != s.at_lpm[c]
        if moved:
            _follow_flow(hyd, s, c)
        s.cdu_w[c] = hyd.cdu_pump_w[c] * s.pump_share[c] if powered[c] else 0.0
        open_share = s.valve_share[c] * s.granted[loop]  # of its facility flow with the valve open
        c_hot = s.cdu_flow_lpm[c] * hyd.cdu_w_lpm_k[c]
        c_cold = open_share * hyd.cdu_primary_lpm[c] * hyd.loop_w_lpm_k[loop]
        q = 0.0
        least = min(c_hot, c_cold)
        if least > 1e-6 * hyd.cdu_flow_lpm[c] * hyd.cdu_w_lpm_k[c]:
            if moved or abs(open_share - s.at_open[c]) > FILM_STEP * open_share:
                film = hyd.cdu_film[c] * open_share**-FILM_EXPONENT + (1.0 - hyd.cdu_film[c]) * s.warm_film[c]
                s.eps[c] = effectiveness(hyd.cdu_ua[c] / (film * least), least / max(c_hot, c_cold))
                s.at_open[c] = open_share
            q = s.eps[c] * least * (s.cdu_return_c[c] - s.arriving_c[loop])
        into_supply_w = c_hot * (s.cdu_return_c[c] - s.cdu_supply_c[c]) - q + PUMP_TO_COOLANT * s.cdu_w[c]
        supply = s.cdu_supply_c[c] + into_supply_w * DT_S / hyd.cdu_half_j_k[c]
        back = s.cdu_return_c[c] + mixed_w[c] * DT_S / hyd.cdu_half_j_k[c]
        stored += hyd.cdu_half_j_k[c] * ((supply - s.cdu_supply_c[c]) + (back - s.cdu_return_c[c]))
        s.cdu_supply_c[c], s.cdu_return_c[c], s.cdu_heat_w[c] = supply, back, q
        into_return_w = q + (1.0 - PUMP_TO_COOLANT) * s.cdu_w[c]
        s.mix_w[loop] += into_return_w + c_cold * (s.arriving_c[loop] - s.loop_return_c[loop])
        target = _pump_target(hyd, s, c) if powered[c] else 0.0
        tau = PUMP_UP_S if powered[c] else PUMP_DOWN_S
        s.cdu_flow_lpm[c] += (target - s.cdu_flow_lpm[c]) * DT_S / tau
    return stored
