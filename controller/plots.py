"""Line charts over time as inline SVG: no script, no network, legible in black and white by their dashes."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from html import escape

import numpy as np

from drivers.points import Floats

WIDTH, HEIGHT = 560, 190
LEFT, RIGHT, TOP, BOTTOM = 46, 8, 8, 22
COLOURS = ("#1461a8", "#c7500b", "#1d7a3f", "#7b3fa0", "#9a7400", "#b3124f", "#0b7f86", "#555555", "#3d3d9e", "#6b8e23")
DASHES = ("", "6 3", "2 2", "8 3 2 3")
TICKS = (1.0, 2.0, 2.5, 5.0, 10.0)
STEPS_S = (1, 5, 10, 30, 60, 120, 300, 600, 1800, 3600, 7200, 10800, 21600, 43200, 86400, 172800, 604800)
MOMENTS = 8
MARKS = 8  # events with a word of their own; more are lines only


@dataclass(frozen=True)
class Line:
    """A curve: `values` at equal steps of `bin_s`, None where there is nothing."""

    name: str
    values: Sequence[float | None]
    bin_s: float
    colour: int = 0
    dash: int = 0


def chart(
    title: str,
    lines: Sequence[Line],
    events: Sequence[tuple[float, str]] = (),
    *,
    zero: bool = False,
    moment: Callable[[float], str] | None = None,
) -> str:
    """An SVG of some lines; `events` are drawn as marks at their second, `zero` lets the axis begin at nothing.

    `moment` says what a second of the time axis is called, else it is its number.
    """
    arrays = [np.array([np.nan if v is None else v for v in line.values], dtype=float) for line in lines]
    known = np.concatenate([a[np.isfinite(a)] for a in arrays] or [np.zeros(0)])
    low, high = (float(known.min()), float(known.max())) if len(known) else (0.0, 1.0)
    ticks = _ticks(min(low, 0.0) if zero else low, max(high, 0.0) if zero else high)
    end_s = max((len(line.values) * line.bin_s for line in lines), default=0.0) or 1.0
    frame = _Frame(end_s, ticks[0], ticks[-1])
    parts = [f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{escape(title)}">']
    parts += [_level(frame, v) for v in ticks]
    times = _ticks(0.0, end_s) if moment is None else _moments(end_s)
    parts += [_second(frame, t, f"{t:g}" if moment is None else moment(t)) for t in times if t <= end_s]
    parts += [_mark(frame, t, word if i < MARKS else "", i) for i, (t, word) in enumerate(events) if t <= end_s]
    parts += [_curve(frame, line, a) for line, a in zip(lines, arrays, strict=True)]
    return "".join([*parts, "</svg>"])


def key(lines: Sequence[Line]) -> str:
    """The legend of some lines, in HTML."""
    return " ".join(
        f'<span><svg width="22" height="8"><line x1="0" x2="22" y1="4" y2="4" {_stroke(x)}/></svg> '
        f"{escape(x.name)}</span>"
        for x in lines
    )


@dataclass(frozen=True)
class _Frame:
    end_s: float
    low: float
    high: float

    def x(self, t_s: float) -> float:
        return LEFT + (WIDTH - LEFT - RIGHT) * t_s / self.end_s

    def y(self, value: float) -> float:
        return HEIGHT - BOTTOM - (HEIGHT - TOP - BOTTOM) * (value - self.low) / (self.high - self.low)


def _curve(frame: _Frame, line: Line, values: Floats) -> str:
    """One path; gaps where nothing is known."""
    path, down = [], False
    for i, value in enumerate(values):
        if not np.isfinite(value):
            down = False
            continue
        path.append(f"{'L' if down else 'M'}{frame.x((i + 0.5) * line.bin_s):.1f} {frame.y(value):.1f}")
        down = True
    return f'<path d="{"".join(path)}" fill="none" {_stroke(line)}/>'


def _stroke(line: Line) -> str:
    dash = DASHES[line.dash % len(DASHES)]
    return f'stroke="{COLOURS[line.colour % len(COLOURS)]}" stroke-width="1.4"' + (
        f' stroke-dasharray="{dash}"' if dash else ""
    )


def _level(frame: _Frame, value: float) -> str:
    y = frame.y(value)
    return (
        f'<line class="grid" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>'
        f'<text x="{LEFT - 4}" y="{y + 3:.1f}" text-anchor="end">{value:g}</text>'
    )


def _second(frame: _Frame, t_s: float, word: str) -> str:
    return f'<text x="{frame.x(t_s):.1f}" y="{HEIGHT - 8}" text-anchor="middle">{escape(word)}</text>'


def _mark(frame: _Frame, t_s: float, word: str, row: int) -> str:
    x = frame.x(t_s)
    near_end = x > WIDTH - 150
    text = f'<text class="event" x="{x - 3 if near_end else x + 3:.1f}" y="{TOP + 8 + 9 * (row % 4)}"'
    text += f"{' text-anchor=' + chr(34) + 'end' + chr(34) if near_end else ''}>{escape(word)}</text>"
    return f'<line class="event" x1="{x:.1f}" x2="{x:.1f}" y1="{TOP}" y2="{HEIGHT - BOTTOM}"/>' + text * bool(word)


def _moments(end_s: float) -> list[float]:
    """Seconds at round steps of a clock, at most MOMENTS."""
    step = next((s for s in STEPS_S if end_s / s <= MOMENTS), end_s / MOMENTS)
    return [float(t) for t in np.arange(0.0, end_s + 1e-9, step)]


def _ticks(low: float, high: float) -> list[float]:
    """Round numbers from below `low` to above `high`, about five."""
    span = high - low if high - low > 1e-6 * max(abs(high), 1.0) else 1.0
    rough = span / 5.0
    power = 10.0 ** np.floor(np.log10(rough))
    step = float(next(t for t in TICKS if t * power >= rough * 0.999) * power)
    first, last = np.floor(low / step + 1e-9), np.ceil(high / step - 1e-9)
    return [float(f"{k * step:.10g}") for k in np.arange(first, max(last, first + 1) + 1)]
