"""Times as people give them: 2026-11-25T06:00 (UTC unless it says otherwise), 2026-11-25, now, -8h, -30m."""

import re
from datetime import UTC, datetime

UNITS_S = {"s": 1, "m": 60, "h": 3600, "d": 86400}


def parse_ms(text: str, now_ms: int) -> int:
    """Milliseconds since the Unix epoch. ValueError says how times are given."""
    if text == "now":
        return now_ms
    found = re.fullmatch(r"-(\d+(?:\.\d+)?)([smhd])", text)
    if found:
        return now_ms - round(1000 * float(found[1]) * UNITS_S[found[2]])
    try:
        given = datetime.fromisoformat(text)
    except ValueError:
        raise ValueError(f"time {text!r}: give 2026-11-25T06:00 (UTC), 2026-11-25, now, -8h or -30m") from None
    return round((given if given.tzinfo else given.replace(tzinfo=UTC)).timestamp() * 1000)


def iso(at_ms: int) -> str:
    """`2026-11-25T06:00:00.000Z`."""
    return datetime.fromtimestamp(at_ms / 1000, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def clock(at_ms: int) -> str:
    """`06:00:00`, UTC."""
    return datetime.fromtimestamp(at_ms / 1000, UTC).strftime("%H:%M:%S")
