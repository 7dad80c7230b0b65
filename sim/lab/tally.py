"""What many runs of losses amount to: counts by kind, and whether the plant agreed with the controller's verdict."""

from collections.abc import Sequence
from typing import Any

from sim.lab.branch import Answer

COLUMNS = ("losses", "secured", "trips", "late", "hot racks", "slowest s", "racks cut", "shed", "work lost %")


def violations(run: Answer) -> list[str]:
    """What went wrong in a run, in words: trips of unfaulted elements, limits missed, racks shut down by heat."""
    said = [f"{node} tripped after {after_s:.2f} s" for node, after_s in run["trips"].items()]
    said += run["late"]
    return said + [f"{run['hot_racks']} racks shut down by heat"] * bool(run["hot_racks"])


def summary(runs: Sequence[Answer], usual_share: float, stopped: bool = False) -> dict[str, Any]:
    """Totals and the same by kind; `broken` names the promises that were broken, `not_secured` why no promise was made.

    `usual_share` is the work done without a loss, of that asked for: what is lost is held against it.
    """
    broken = [
        {"id": r["id"], "kind": r["kind"], "disobedient": r["disobedient"], "what": violations(r)}
        for r in runs
        if r["secured"] and violations(r)
    ]
    kinds = dict.fromkeys(r["kind"] for r in runs)
    not_secured: dict[str, dict[str, int]] = {}
    for r in runs:
        if r["secured"] is False:
            why = not_secured.setdefault(r["kind"], {})
            why[r["why"]] = why.get(r["why"], 0) + 1
    return {
        "complete": not stopped,
        "work_share_before": usual_share,
        "broken": broken,
        "not_secured": not_secured,
        **_figures(runs, usual_share),
        "kinds": {kind: _figures([r for r in runs if r["kind"] == kind], usual_share) for kind in kinds},
        "with_disobedience": _figures([r for r in runs if r["disobedient"] > 0.0], usual_share),
        "all_obey": _figures([r for r in runs if r["disobedient"] == 0.0], usual_share),
    }


def _figures(runs: Sequence[Answer], usual_share: float) -> dict[str, Any]:
    asked, done = sum(r["work_asked"] for r in runs), sum(r["work_done"] for r in runs)
    return {
        "losses": len(runs),
        "elements": len({r["id"] for r in runs}),
        "secured": sum(bool(r["secured"]) for r in runs),
        "broken_promises": sum(bool(r["secured"]) and bool(violations(r)) for r in runs),
        "losses_with_trips": sum(bool(r["trips"]) for r in runs),
        "trips": sum(len(r["trips"]) for r in runs),
        "losses_with_late_limits": sum(bool(r["late"]) for r in runs),
        "hot_racks": sum(r["hot_racks"] for r in runs),
        "slowest_back_s": max((r["back_s"] for r in runs), default=0.0),
        "longest_over_s": max((r["over_s"] for r in runs), default=0.0),
        "least_trip_s": min((r["least_trip_s"] for r in runs if r["least_trip_s"] is not None), default=None),
        "most_trip_used": max((r["trip_used"] for r in runs), default=0.0),
        "racks_cut": max((r["racks_cut"] for r in runs), default=0),
        "racks_shed": max((sum(r["shed"].values()) for r in runs), default=0),
        "losses_with_shed": sum(bool(r["shed"]) for r in runs),
        "work_lost_share": 1.0 - done / (asked * usual_share) if asked else 0.0,
    }


def table(result: dict[str, Any]) -> list[str]:
    """The summary as lines of a table, one per kind."""
    rows = [("kind", *COLUMNS)]
    for kind, f in [*result["kinds"].items(), ("all", result)]:
        rows.append(
            (
                kind,
                str(f["losses"]),
                str(f["secured"]),
                str(f["trips"]),
                str(f["losses_with_late_limits"]),
                str(f["hot_racks"]),
                f"{f['longest_over_s']:.2f}",
                str(f["racks_cut"]),
                str(f["losses_with_shed"]),
                f"{100.0 * f['work_lost_share']:.2f}",
            )
        )
    wide = [max(len(r[i]) for r in rows) for i in range(len(rows[0]))]
    lines = [" ".join(f"{cell:>{w + 1}}" for cell, w in zip(row, wide, strict=True)) for row in rows]
    lines = [row[0].ljust(wide[0]) + line[wide[0] + 1 :] for row, line in zip(rows, lines, strict=True)]
    for b in result["broken"]:
        lines.append(f"BROKEN {b['kind']} {b['id']} ({b['disobedient']:.0%} disobey): {'; '.join(b['what'][:3])}")
    for kind, why in result["not_secured"].items():
        lines += [f"not secured: {kind}: {reason} ({count} losses)" for reason, count in why.items()]
    return lines
