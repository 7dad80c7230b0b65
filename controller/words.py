"""Rows and powers in words: one place for the feed, the alarms, the explanations and the view."""

from collections.abc import Sequence

from controller.plan import Plan


def row_text(plan: Plan, row: int) -> str:
    """The name of a row: `envelope`, `ups h1b1u2`, `ups h1b1u2 after loss of ups h1b1u1`."""
    if row == plan.envelope_row:
        return "envelope"
    if row >= len(plan.row_name):
        losses, at = plan.losses, row - len(plan.row_name)
        lost = losses.cases[losses.case_of[at]]
        return f"{row_text(plan, int(losses.node_of[at]))} after loss of {lost.kind.replace('_', ' ')} {lost.id}"
    return f"{row_kind(plan, row).replace('_', ' ')} {plan.row_name[row]}"


def row_kind(plan: Plan, row: int) -> str:
    """What a row limits: a node's kind, `cdu`, `loop`, `tenant`, `envelope` or `loss`."""
    return plan.row_kind[row] if row < len(plan.row_name) else "loss"


def power(watts: float) -> str:
    """`61.2 kW`, `2.61 MW`."""
    return f"{watts / 1e6:,.2f} MW" if abs(watts) >= 999.95e3 else f"{watts / 1e3:,.1f} kW"


def duration(seconds: float) -> str:
    """`84 s`, `12 min`, `3.5 h`."""
    if seconds < 120.0:
        return f"{seconds:.0f} s"
    return f"{seconds / 60.0:.0f} min" if seconds < 7200.0 else f"{seconds / 3600.0:.1f} h"


def count(number: int, thing: str) -> str:
    """`1 rack`, `3,412 losses`."""
    plural = thing + ("es" if thing.endswith("s") else "s")
    return f"{number:,} {thing if number == 1 else plural}"


def some(names: Sequence[str], most: int = 3) -> str:
    """The first few names and how many more there are."""
    more = len(names) - most
    return ", ".join(names[:most]) + (f" and {more} more" if more > 0 else "")
