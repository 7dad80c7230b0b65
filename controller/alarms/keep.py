"""Alarms over a restart: what stands and what is set aside, in a file beside the acts. Export for people."""

import csv
import io
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from controller.alarms.board import Board
from controller.alarms.machine import Record, State

FILE = "alarms.json"


def dump(board: Board) -> dict[str, Any]:
    """All that must outlive a restart, JSON-ready."""
    kept = [r for records in board.records.values() for r in records.values() if r.state is not State.NORMAL]
    names = ("element", "text", "since_ms", "acked_by", "shelved_until_ms", "out", "first_out", "seen", "aside_by")
    return {
        "alarms": [
            {"code": r.kind.code, "process": str(r.process)} | {name: getattr(r, name) for name in names} for r in kept
        ]
    }


def restore(board: Board, given: Mapping[str, Any], now_s: float, now_ms: int) -> None:
    """Put back what `dump` gave; an entry that makes no sense, or of a code that is no more, is left out."""
    entries = given.get("alarms")
    for entry in entries if isinstance(entries, list) else ():
        try:
            kind = board.kinds[entry["code"]]
            record = Record(
                kind,
                str(entry["element"]),
                text=str(entry["text"]),
                process=State(entry["process"]),
                since_ms=int(entry["since_ms"]),
                acked_by=str(entry["acked_by"]),
                out=bool(entry["out"]),
                first_out=bool(entry["first_out"]),
                seen=int(entry["seen"]),
                aside_by=str(entry["aside_by"]),
            )
            until_ms = int(entry["shelved_until_ms"])
        except (KeyError, TypeError, ValueError):
            continue
        if until_ms > now_ms:
            record.shelved_until_ms, record.shelved_until_s = until_ms, now_s + (until_ms - now_ms) / 1000.0
        board.records[kind.code][record.element] = record


def read(state: Path) -> dict[str, Any]:
    """The file; empty where there is none or it makes no sense: conditions that stand are raised anew then."""
    try:
        given = json.loads((state / FILE).read_bytes())
    except (OSError, ValueError):
        return {}
    return given if isinstance(given, dict) else {}


def as_csv(listed: Sequence[Mapping[str, Any]]) -> str:
    """A list of alarms as CSV with a header; text that a spreadsheet would take for a formula is quoted."""
    file = io.StringIO()
    columns = list(listed[0]) if listed else ["id"]
    writer = csv.DictWriter(file, columns, lineterminator="\n")
    writer.writeheader()
    writer.writerows(
        {k: f"'{v}" if isinstance(v, str) and v[:1] in "=+-@" else v for k, v in x.items()} for x in listed
    )
    return file.getvalue()
