"""What a loss takes with it, in ids and in words."""

from controller.contingency.building import Building
from controller.contingency.losses import Loss, Stage

FEW = 3  # as many are named, more are counted
WORDS = {"utility_feed": "utility feed", "dry_cooler": "dry cooler", "ups": "UPS", "cdu": "CDU", "pdu": "PDU"}


def takes(b: Building, loss: Loss, stage: Stage) -> dict[str, tuple[str, ...]]:
    """Kind -> ids of all that is dead at this stage, besides the element itself: nodes, units, racks."""
    out: dict[str, list[str]] = {}
    for n in stage.dead:
        node = b.site.nodes[n]
        if node.id != loss.id:
            out.setdefault(node.kind, []).append(node.id)
    for c in stage.stopped:
        if (b.column_kind[c], b.column_id[c]) != (loss.kind, loss.id) and b.column_kind[c] != "load":
            out.setdefault(b.column_kind[c], []).append(b.column_id[c])
    racks = b.site.racks
    dark, hot = [racks[r].id for r in stage.dark], [racks[r].id for r in stage.hot]
    found = {**out, "rack without power": dark, "rack without cooling": hot}
    return {kind: tuple(ids) for kind, ids in found.items() if ids}


def worst_stage(loss: Loss) -> Stage:
    """The stage that leaves most in the dark, the first of equals."""
    return max(loss.stages, key=lambda s: (len(s.dark), len(s.dead) + len(s.stopped), -s.at_s))


def in_words(taken: dict[str, tuple[str, ...]]) -> str:
    """`3 busways, pump h1loop1-pump1, 564 racks without power`; empty for nothing."""
    parts = []
    for kind, ids in taken.items():
        word = WORDS.get(kind, kind)
        if kind in ("controller", "broker"):
            parts.append("the controllers" if kind == "controller" else "the broker")
        elif len(ids) <= FEW and "without" not in kind:
            parts.append(f"{word} {', '.join(ids)}")
        else:
            parts.append(f"{len(ids):,} {_plural(word, len(ids))}")
    return ", ".join(parts)


def _plural(word: str, number: int) -> str:
    if number == 1 or word == "UPS":
        return word
    if word.startswith("rack "):
        return word.replace("rack", "racks", 1)
    return word + ("es" if word.endswith(("s", "ch")) else "s")
