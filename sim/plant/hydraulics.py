"""Site -> the water side's index arrays: CDUs, loops, pumps and heat rejection, and who feeds them."""

from typing import NamedTuple

import numpy as np

from drivers.points import Floats, Ints
from drivers.site.cooling import COOLANTS
from drivers.site.model import CoolingUnit, Site
from sim.plant.base import DT_S, Bools, ints

SECONDARY_KG_PER_W = 550.0 / 1.35e6  # coolant held by a CDU's circuit (CONTROL.md: 550 kg at 1.35 MW)
DESIGN_DRY_C, DESIGN_WET_C = 36.0, 26.0  # unit capacities hold at these, at the loop's design flow and return
BEST_NTU = 5.0  # of a heat exchanger at nominal flows (FACTS P.1: Frontier, at least 5; P.7: Deschutes 4.47)
PUMP, CHILLER, DRY_COOLER, TOWER = 0, 1, 2, 3
UNIT_KINDS = {"pump": PUMP, "chiller": CHILLER, "dry_cooler": DRY_COOLER, "tower": TOWER}


class Hydraulics(NamedTuple):
    """CDUs, loops and heat-rejection units; feeds of a unit are fed[ptr[i]:ptr[i + 1]]."""

    cdu_loop: Ints  # [C]
    cdu_flow_lpm: Floats
    cdu_set_c: Floats
    cdu_w_lpm_k: Floats
    cdu_pump_w: Floats
    cdu_half_j_k: Floats  # supply side, and the same again on the return side
    cdu_ua: Floats
    cdu_film: Floats  # share of the facility side in the film resistance of its exchanger at nominal flows
    cdu_head: Floats  # [C, 3] shares of racks, exchanger and filter in the pressure drop at nominal flow
    cdu_external_kpa: Floats  # drop over its racks at nominal flow
    cdu_hold: Floats  # share of that which its pump holds; NaN: it holds its flow
    cdu_valve_ti_s: Floats
    cdu_valve_step: Floats  # of its stroke in one step
    cdu_primary_lpm: Floats  # with its valve open
    cdu_fed_ptr: Ints
    cdu_fed: Ints
    loop_set_c: Floats  # [L]
    loop_flow_lpm: Floats
    loop_w_lpm_k: Floats
    loop_half_j_k: Floats  # without its pipes
    loop_pipe_l: Floats  # in the supply pipe, and as much in the return
    unit_kind: Ints  # [U] PUMP, CHILLER, DRY_COOLER, TOWER
    unit_loop: Ints
    unit_capacity: Floats
    unit_power_w: Floats
    unit_w_k: Floats  # of its water at design flow (towers, dry coolers)
    unit_ntu: Floats  # with that water, so that its capacity comes out at design air
    unit_standby: Bools
    unit_fed_ptr: Ints
    unit_fed: Ints


def compile_hydraulics(site: Site) -> Hydraulics:
    """Compile a checked site's water side; KeyError on a bad link."""
    loop_index = {x.id: i for i, x in enumerate(site.loops)}
    cdus, loops, units = site.cdus, site.loops, site.cooling
    cdu_loop = np.array([loop_index[c.loop] for c in cdus])
    capacity = np.array([c.capacity_w for c in cdus])
    flow = np.array([c.flow_lpm for c in cdus])
    w_k = np.array([COOLANTS[c.coolant].w_per_lpm_k for c in cdus])
    cp = np.array([COOLANTS[c.coolant].cp_j_per_kg_k for c in cdus])
    loop_flow = np.array([x.flow_lpm for x in loops])
    loop_w_k = np.array([COOLANTS[x.coolant].w_per_lpm_k for x in loops])
    per_loop = np.bincount(cdu_loop, weights=capacity, minlength=len(loops))
    primary = loop_flow[cdu_loop] * capacity / per_loop[cdu_loop]
    head = np.array([(c.external_kpa, c.exchanger_kpa, c.filter_kpa) for c in cdus])
    cdu_ptr, cdu_fed = _feeds(site, [c.fed_from for c in cdus])
    unit_w_k, unit_ntu = _economisers(site)
    unit_ptr, unit_fed = _feeds(site, [u.fed_from for u in units])
    return Hydraulics(
        cdu_loop=cdu_loop,
        cdu_flow_lpm=flow,
        cdu_set_c=np.array([c.supply_c for c in cdus]),
        cdu_w_lpm_k=w_k,
        cdu_pump_w=np.array([c.pump_w for c in cdus]),
        cdu_half_j_k=0.5 * SECONDARY_KG_PER_W * capacity * cp,
        cdu_ua=_exchanger_ua(
            capacity,
            flow * w_k,
            primary * loop_w_k[cdu_loop],
            np.array([c.supply_c - loops[k].supply_c for c, k in zip(cdus, cdu_loop, strict=True)]),
        ),
        cdu_film=_film(site, flow, primary, cdu_loop),
        cdu_head=head / head.sum(axis=1, keepdims=True),
        cdu_external_kpa=head[:, 0],
        cdu_hold=np.array([np.nan if c.hold_kpa is None else c.hold_kpa / c.external_kpa for c in cdus]),
        cdu_valve_ti_s=np.array([c.valve_ti_s for c in cdus]),
        cdu_valve_step=DT_S / np.maximum(np.array([c.valve_stroke_s for c in cdus]), DT_S),
        cdu_primary_lpm=primary,
        cdu_fed_ptr=cdu_ptr,
        cdu_fed=cdu_fed,
        loop_set_c=np.array([x.supply_c for x in loops]),
        loop_flow_lpm=loop_flow,
        loop_w_lpm_k=loop_w_k,
        loop_half_j_k=np.array([0.5 * x.volume_l - x.pipe_l for x in loops]) * loop_w_k * 60.0,
        loop_pipe_l=np.array([x.pipe_l for x in loops], dtype=float),
        unit_kind=ints(UNIT_KINDS[u.kind] for u in units),
        unit_loop=ints(loop_index[u.loop] for u in units),
        unit_capacity=_unit_floats(units, "capacity"),
        unit_power_w=_unit_floats(units, "power_w"),
        unit_w_k=unit_w_k,
        unit_ntu=unit_ntu,
        unit_standby=np.array([u.standby for u in units], dtype=bool),
        unit_fed_ptr=unit_ptr,
        unit_fed=unit_fed,
    )


def _exchanger_ua(heat_w: Floats, hot_w_k: Floats, cold_w_k: Floats, approach_k: Floats) -> Floats:
    """UA that carries the heat at nominal flows with this approach (secondary supply over primary supply) [W/K].

    Counter-flow eps-NTU, solved for NTU. Never better than the best published unit (BEST_NTU).
    """
    least, most = np.minimum(hot_w_k, cold_w_k), np.maximum(hot_w_k, cold_w_k)
    ratio = np.minimum(least / most, 0.9999)
    eps = np.clip(heat_w / (least * np.maximum(approach_k + heat_w / hot_w_k, 0.1)), 0.05, 0.99)
    ntu = np.log((1.0 - eps * ratio) / (1.0 - eps)) / (1.0 - ratio)
    ua: Floats = np.minimum(ntu, BEST_NTU) * least
    return ua


def _film(site: Site, flow_lpm: Floats, primary_lpm: Floats, cdu_loop: Ints) -> Floats:
    """Share of the facility side in the film resistance: h ~ k (m / mu)^0.8 Pr^(1/3) on either side of a plate."""
    racks, water = [COOLANTS[c.coolant] for c in site.cdus], [COOLANTS[x.coolant] for x in site.loops]
    warm = flow_lpm**0.8 * np.array([x.film for x in racks])
    cold = primary_lpm**0.8 * np.array([x.film for x in water])[cdu_loop]
    share: Floats = warm / (warm + cold)
    return share


def _economisers(site: Site) -> tuple[Floats, Floats]:
    """Water and NTU of each tower and dry cooler: capacity at design air, with the loop's design flow and return."""
    w_k, ntu = np.zeros(len(site.cooling)), np.zeros(len(site.cooling))
    for loop in site.loops:
        rejecting = [(i, u) for i, u in enumerate(site.cooling) if u.loop == loop.id and u.kind != "pump"]
        free_w = sum(u.capacity for _, u in rejecting if u.kind != "chiller")
        loop_w_k = loop.flow_lpm * COOLANTS[loop.coolant].w_per_lpm_k
        return_c = loop.supply_c + sum(u.capacity for _, u in rejecting) / loop_w_k
        for i, u in rejecting:
            if u.kind != "chiller":
                air_c = DESIGN_DRY_C if u.kind == "dry_cooler" else DESIGN_WET_C
                w_k[i] = loop_w_k * u.capacity / free_w
                eps = free_w / loop_w_k / max(return_c - air_c, 1.0)
                ntu[i] = -np.log(1.0 - min(eps, 0.98))
    return w_k, ntu


def _unit_floats(units: tuple[CoolingUnit, ...], name: str) -> Floats:
    return np.array([getattr(u, name) for u in units], dtype=float)


def _feeds(site: Site, fed: list[tuple[str, ...]]) -> tuple[Ints, Ints]:
    ptr = np.concatenate([[0], np.cumsum([len(f) for f in fed])]).astype(np.int64)
    return ptr, ints(site.node_index[n] for f in fed for n in f)
