"""The site's tables as columns, in the order of a picture's arrays: what a browser needs once, to name things."""

import json
import zlib
from collections.abc import Sequence
from typing import Any

from controller.feed import REASON_WORDS
from controller.frames import Reason
from controller.plan import Plan
from controller.words import row_kind


def pack(plan: Plan) -> bytes:
    """The sheet as deflated JSON."""
    return zlib.compress(json.dumps(sheet(plan), separators=(",", ":"), allow_nan=False).encode(), 6)


def sheet(plan: Plan) -> dict[str, Any]:
    """Columns of racks, nodes, CDUs, loops, units, storage, jobs and losses; links are positions, powers in W."""
    site = plan.site
    node = site.node_index
    job = {j.id: i for i, j in enumerate(site.jobs)}
    cdu = {x.id: i for i, x in enumerate(site.cdus)}
    loop = {x.id: i for i, x in enumerate(site.loops)}
    racks = _columns(
        site.racks, ("id", "hall", "row", "gpu_model", "gpus", "max_w", "floor_w", "safe_cap_w", "priority")
    )
    racks |= {
        "job": [job.get(r.job, -1) for r in site.racks],
        "pdu_a": [node[r.pdu_a] for r in site.racks],
        "pdu_b": [node[r.pdu_b] for r in site.racks],
        "cdu": [cdu[r.cdu] for r in site.racks],
        "loop": plan.loop_of.tolist(),
    }
    nodes = _columns(site.nodes, ("id", "kind", "hall", "rating", "rating_unit", "volt_v", "trip_curve"))
    nodes |= {"parent": plan.parent.tolist(), "full_w": plan.full_w.tolist()}
    cdus = _columns(site.cdus, ("id", "kind", "capacity_w", "flow_lpm", "supply_c"))
    losses = plan.losses
    return {
        "site": site.name,
        "title": site.title,
        "assumptions": list(site.assumptions),
        "control": site.control.model_dump(),
        "racks": racks,
        "nodes": nodes,
        "cdus": cdus | {"loop": [loop[c.loop] for c in site.cdus], "cp_w": plan.cdu_cp_w.tolist()},
        "loops": _columns(site.loops, ("id", "hall", "supply_c", "return_max_c", "flow_lpm"))
        | {"cap_w": plan.loop_cap_w.tolist(), "cp_w": plan.loop_cp_w.tolist()},
        "units": _columns(site.cooling, ("id", "kind", "capacity", "standby"))
        | {"loop": [loop[u.loop] for u in site.cooling]},
        "storage": _columns(site.storage, ("id", "power_w", "energy_wh"))
        | {"node": [node[s.node] for s in site.storage]},
        "switches": _columns(site.switches, ("id", "kind", "a", "b", "normal")),
        "jobs": _columns(site.jobs, ("id", "kind", "tenant")),
        "tenants": _columns(site.tenants, ("id", "guarantee_w", "max_w")),
        "rows": {"name": list(plan.row_name), "kind": [row_kind(plan, i) for i in range(len(plan.row_name))]},
        "losses": {
            "id": [c.id for c in losses.cases],
            "kind": [c.kind for c in losses.cases],
            "row_case": losses.case_of.tolist(),
            "row_node": losses.node_of.tolist(),
        },
        "reasons": {int(r): REASON_WORDS.get(r, r.name.lower()) for r in Reason},
    }


def _columns(things: Sequence[Any], names: tuple[str, ...]) -> dict[str, list[Any]]:
    return {name: [getattr(thing, name) for thing in things] for name in names}
