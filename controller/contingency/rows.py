"""Every single loss of a site, compiled: what it moves where, and the rows that today's caps must keep for it."""

from dataclasses import dataclass, replace

import numpy as np

from controller.contingency.building import Building, survey
from controller.contingency.cells import Cells, after_rows, base_rows, compile_cells
from controller.contingency.losses import Loss
from controller.contingency.prevent import Preventive, preventive
from controller.frames import Floats, Ints, Rows
from drivers.site.model import Site


@dataclass(frozen=True)
class Losses:
    """All single losses. D cells (a stage of a loss, and a survivor that carries more then), J preventive rows."""

    building: Building
    cases: tuple[Loss, ...]
    base: Rows  # [N] load of each node per W of rack before the loss
    delta: Rows  # [D] extra load of the survivor per W of the racks that hang otherwise then
    delta_case: Ints  # [D]
    delta_stage: Ints  # [D]
    delta_node: Ints  # [D]
    delta_moved_w: Floats  # [D] load that nobody caps and that moves there
    rows: Rows  # [J] racks slower than begin_s, at today's caps
    fast: Rows  # [J] racks that have acted by then
    case_of: Ints  # [J]
    stage_of: Ints  # [J]
    node_of: Ints  # [J]
    begin_s: Floats  # [J] the survivor carries the row's load from here, after the load has arrived,
    hold_s: Floats  # [J] to here
    weight: Floats  # [J] of the free trip state; sums to 1 over the intervals of a survivor
    fast_w: Floats  # [J] racks that have acted at their lowest caps, and the margin for those that do not obey
    floor_load_w: Floats  # [J] what the floors of the slow racks alone make of the row
    moved_w: Floats  # [J]
    name: tuple[str, ...]  # [J]
    reserve_w: Floats  # [N] largest small move onto a wide survivor, taken off its limit instead of a row
    act_s: Floats  # [R] from a loss until the rack has obeyed
    rows_before: int  # preventive rows and non-zeros before wide survivors and equal rows were left out
    nonzeros_before: int

    def at_shares(self, share: Floats) -> "Losses":
        """The same at measured cord shares [R, 2]; what leaves a node is never more than was on it."""
        whole = share / np.maximum(share.sum(axis=1, keepdims=True), 1.0)
        coeff = self.delta.fixed + (self.delta.cords * whole[self.delta.racks]).sum(axis=1)
        return replace(
            self,
            base=self.base.at_shares(share),
            delta=replace(self.delta, coeff=coeff),
            rows=self.rows.at_shares(share),
            fast=self.fast.at_shares(share),
        )

    def after(self, cells: Ints) -> Rows:
        """Load of the survivors of these cells after their loss, per W of every rack [len(cells)]."""
        return after_rows(self.base, self.delta, self.delta_node, cells)


def compile_losses(site: Site, out: frozenset[str] = frozenset(), only: frozenset[str] | None = None) -> Losses:
    """Compile every loss of a checked site, on top of elements that are `out` by plan; `only` these elements."""
    b = survey(site)
    cases, cells = compile_cells(b, out, only)
    base = base_rows(b, out)
    act_s = np.array([_act_s(site, r.actuator) for r in site.racks])
    p = preventive(b, cases, cells, base, act_s)
    return Losses(
        building=b,
        cases=cases,
        base=base,
        delta=cells.delta,
        delta_case=cells.case,
        delta_stage=cells.stage,
        delta_node=cells.node,
        delta_moved_w=cells.moved_w,
        rows=p.rows,
        fast=p.fast,
        case_of=cells.case[p.cell],
        stage_of=cells.stage[p.cell],
        node_of=cells.node[p.cell],
        begin_s=p.begin_s,
        hold_s=p.hold_s,
        weight=p.weight,
        fast_w=p.fast_w,
        floor_load_w=p.floor_load_w,
        moved_w=cells.moved_w[p.cell],
        name=_names(b, cases, cells, p),
        reserve_w=p.reserve_w,
        act_s=act_s,
        rows_before=p.rows_before,
        nonzeros_before=p.nonzeros_before,
    )


def _act_s(site: Site, actuator: str) -> float:
    """From a loss until a rack has obeyed; three time constants are counted as settled."""
    a = site.actuators[actuator]
    return site.control.react_s + a.latency_s + 3.0 * a.settle_s


def _names(b: Building, cases: tuple[Loss, ...], cells: Cells, p: Preventive) -> tuple[str, ...]:
    nodes = [f"{x.kind} {x.id}" for x in b.site.nodes]
    out = []
    for cell, begin_s in zip(p.cell.tolist(), p.begin_s.tolist(), strict=True):
        loss = cases[cells.case[cell]]
        stage = loss.stages[cells.stage[cell]].name
        words = f"{nodes[cells.node[cell]]} after loss of {loss.kind} {loss.id}"
        words += "" if stage == "instant" else f" ({stage})"
        out.append(words + (f", from {begin_s:.1f} s" if begin_s > 0.0 else ""))
    return tuple(out)
