"""Records for people and programs: a line of text, or a line of JSON with everything in it."""

import json
from collections.abc import Iterator, Sequence
from itertools import chain
from typing import Any

from controller import times
from controller.frames import Reason
from controller.journal import body
from controller.journal.store import Entry, Reader
from controller.words import power

SKIPPED = ("at_ms", "racks", "ends")
RACKS = 8  # changed caps that a line of text names


def line(entry: Entry) -> str:
    """One record as one printable line."""
    return _printable(f"{entry.seq:8d}  {times.iso(entry.at_ms)}  {entry.kind:6s}  {_text(entry)}")


def _text(entry: Entry) -> str:
    try:
        if entry.kind == "orders":
            head = body.orders_head(entry.body)
            load = "unknown" if head["load_w"] is None else power(head["load_w"])
            return (
                f"{head['mode']}  load {load} of {power(head['envelope_w'])}  caps {power(head['caps_w'])}  "
                f"{head['changed']} changed, {head['renewed']} renewed, {head['capped']} capped"
            )
        found = json.loads(entry.body)
        if entry.kind == "alarm":
            who = f" by {found['by']}: {found['why']}" if found["by"] else ""
            return f"{found['was']} -> {found['now']}  {found['priority']}  {found['id']}: {found['text']}{who}"
        return "  ".join(f"{k} {v}" for k, v in found.items() if k not in SKIPPED)
    except (ValueError, KeyError, TypeError) as error:
        return f"cannot be read: {error}"


def exported(reader: Reader, from_ms: int, to_ms: int, kinds: Sequence[str] = ()) -> Iterator[str]:
    """Records as JSON lines; racks by the names that the newest start before them told, without one by number."""
    racks: list[str] = []
    for entry in chain(reader.entries(0, from_ms, ("start",), 1), reader.entries(from_ms, to_ms)):
        if entry.kind == "start":
            racks = _racks(entry)
        if entry.at_ms < from_ms or (kinds and entry.kind not in kinds):
            continue
        known: dict[str, Any] = {"seq": entry.seq, "at_ms": entry.at_ms, "kind": entry.kind, "hash": entry.hash.hex()}
        try:
            if entry.kind == "orders":
                known |= _orders(entry.body, racks)
            else:
                known |= {"body": json.loads(entry.body)}
        except (ValueError, KeyError, TypeError) as error:
            known |= {"unreadable": str(error)}
        yield json.dumps(known, separators=(",", ":"))


def _racks(start: Entry) -> list[str]:
    try:
        return [str(name) for name in json.loads(start.body)["racks"]]
    except (ValueError, KeyError, TypeError):
        return []


def _orders(packed: bytes, racks: list[str]) -> dict[str, Any]:
    head, arrays = body.orders_arrays(packed)
    names = [racks[i] if i < len(racks) else i for i in arrays["rack"].tolist()]
    reasons = [Reason(int(code)).name.lower() for code in arrays["reason"]]
    rows = [head["rows"].get(str(row)) for row in arrays["row"].tolist()]
    columns = zip(names, arrays["cap_w"].tolist(), reasons, rows, arrays["shed"].tolist(), strict=True)
    return {"body": head, "caps": [list(x) for x in columns]}


def _printable(text: str) -> str:
    """Somebody's text does nothing to a terminal."""
    return "".join(c if c.isprintable() else "?" for c in text)
