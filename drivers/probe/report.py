"""What a probe found: text for a screen, JSON, CSV and a page of HTML to sign at commissioning."""

import csv
import html
import math
from collections.abc import Iterator, Sequence
from io import StringIO
from typing import Any

from drivers.modbus.identity import declared
from drivers.probe.walk import DeviceCheck, PointCheck, expected

COLUMNS = (
    *("device", "where", "profile", "point", "function", "address", "words"),
    *("value", "unit", "expected", "verdict", "took_ms", "note"),
)
DEVICE_COLUMNS = ("device", "where", "profile", "must be", "says it is", "points right", "slowest_ms", "findings")
STYLE = (
    "body{font:14px sans-serif}table{border-collapse:collapse}"
    "td,th{border:1px solid #999;padding:2px 6px}.bad{background:#fcc}"
)


def hex_words(check: PointCheck) -> str:
    """Raw registers in wire order."""
    return " ".join(f"{word:04X}" for word in check.words)


def _row(device: DeviceCheck, check: PointCheck) -> tuple[str, ...]:
    p = check.point
    value = "" if math.isnan(check.value) else f"{check.value:.9g}"
    addr = f"{p.model}+{p.addr}" if p.model else str(p.addr)
    head = (device.device.id, device.where, device.device.profile, p.name, str(p.fc), addr)
    return (*head, hex_words(check), value, p.unit, expected(p), check.verdict, f"{1e3 * check.took_s:.1f}", check.note)


def _rows(checks: Sequence[DeviceCheck]) -> Iterator[tuple[str, ...]]:
    """A row for each point; one row for a device that shows none."""
    for d in checks:
        yield from (_row(d, p) for p in d.points)
        if not d.points:
            yield (d.device.id, d.where, d.device.profile, *[""] * 7, "silent", "", "; ".join(d.findings))


def as_text(checks: Sequence[DeviceCheck], *, points: bool) -> Iterator[str]:
    """Lines: the points where asked for, then every failing device and why, then the sum."""
    for d in checks if points else ():
        yield f"{d.device.id}  {d.where}  {d.device.profile}  {d.identity or ''}".rstrip()
        for p in d.points:
            _, _, _, name, fc, addr, words, value, unit, wants, verdict, took, note = _row(d, p)
            mark = " " if verdict == "ok" else "!"
            line = f"{mark} {fc}:{addr:>7} {name:28} {words:20} {value:>14} {unit:6} {wants:24} {took:>7} ms  {verdict}"
            yield f"{line}  {note}".rstrip()
    bad = [d for d in checks if d.findings]
    yield from (f"{d.device.id} at {d.where}: {'; '.join(d.findings)}" for d in bad)
    count = sum(len(d.points) for d in checks)
    yield f"{len(checks)} devices, {count} points: {len(bad)} devices with findings"


def as_json(checks: Sequence[DeviceCheck]) -> dict[str, Any]:
    """One object: devices with their points; a value that is not there is null."""
    return {
        "devices": [
            {
                "id": d.device.id, "where": d.where, "profile": d.device.profile,
                "identity": vars(d.identity) if d.identity else None, "findings": d.findings,
                "points": [
                    {
                        "point": p.point.name, "unit": p.point.unit, "function": p.point.fc, "address": p.point.addr,
                        "model": p.point.model,
                        "words": list(p.words), "value": None if math.isnan(p.value) else p.value,
                        "expected": expected(p.point), "verdict": p.verdict, "took_ms": round(1e3 * p.took_s, 3),
                        "note": p.note,
                    }
                    for p in d.points
                ],
            }
            for d in checks
        ],
        "failing": sum(bool(d.findings) for d in checks),
    }  # fmt: skip


def as_csv(checks: Sequence[DeviceCheck]) -> str:
    """A row for each point."""
    out = StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(COLUMNS)
    writer.writerows(_rows(checks))
    return out.getvalue()


def _device_row(d: DeviceCheck) -> tuple[str, ...]:
    """A device: who it is by the site file and by its own word, points that are right, the slowest answer."""
    told = declared(d.device)
    wanted = ", ".join(f"{name} {text}" for name, text in told.items()) if told else "not said"
    right = sum(p.verdict == "ok" for p in d.points)
    slowest_ms = max((1e3 * p.took_s for p in d.points), default=0.0)
    points = f"{right} of {len(d.points)}"
    shown = str(d.identity) if d.identity else "silent"
    return d.device.id, d.where, d.device.profile, wanted, shown, points, f"{slowest_ms:.1f}", "; ".join(d.findings)


def as_html(checks: Sequence[DeviceCheck], title: str, when: str = "") -> str:
    """One page without anything from elsewhere: sum, devices, points, lines to sign. Texts are escaped."""

    def cells(row: Sequence[str], tag: str = "td") -> str:
        return "".join(f"<{tag}>{html.escape(cell)}</{tag}>" for cell in row)

    *bad, total = as_text(checks, points=False)
    rows = (f'<tr class="{"" if r[10] == "ok" else "bad"}">{cells(r)}</tr>' for r in _rows(checks))
    devices = (f'<tr class="{"bad" if r[-1] else ""}">{cells(r)}</tr>' for r in map(_device_row, checks))
    body = [
        f"<h1>{html.escape(title)}</h1><p>{html.escape(f'{when}; {total}' if when else total)}</p>",
        "<ul>" + "".join(f"<li>{html.escape(line)}</li>" for line in bad) + "</ul>",
        f"<h2>Devices</h2><table><tr>{cells(DEVICE_COLUMNS, 'th')}</tr>{''.join(devices)}</table>",
        f"<h2>Points</h2><table><tr>{cells(COLUMNS, 'th')}</tr>{''.join(rows)}</table>",
        "<p>Checked by: ____________________ Date: ____________</p>",
    ]
    head = f'<meta charset="utf-8"><title>{html.escape(title)}</title><style>{STYLE}</style>'
    return f"<!doctype html><html><head>{head}</head><body>{''.join(body)}</body></html>\n"
