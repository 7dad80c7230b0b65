"""Decimated traces and the charts made of them: peaks stay, memory and coordinates are bounded."""

import re
import xml.etree.ElementTree as ET

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from controller.plots import HEIGHT, WIDTH, Line, chart
from sim.lab.trace import ROWS, Trace

NUMBER = re.compile(r"-?\d+(?:\.\d+)?")
values = st.floats(-1e9, 1e9, allow_nan=False)


@given(st.integers(1, 20), st.integers(0, 2**32 - 1))
def test_a_trace_keeps_peaks_dips_and_the_last_in_bounded_rows(thousands: int, seed: int) -> None:
    rows = np.random.default_rng(seed).normal(size=(thousands * 101, 3))
    trace = Trace(("peak", "dip", "last"), peaks=("peak",), dips=("dip",))
    for row in rows:
        trace.add(row)
    told = trace.told()
    columns, bin_s = told["columns"], told["bin_s"]
    assert len(columns["peak"]) == -(-len(rows) // bin_s) <= ROWS
    parts = [rows[i : i + bin_s] for i in range(0, len(rows), bin_s)]
    assert np.allclose(columns["peak"], [p[:, 0].max() for p in parts], rtol=1e-4)
    assert np.allclose(columns["dip"], [p[:, 1].min() for p in parts], rtol=1e-4)
    assert np.allclose(columns["last"], [p[-1, 2] for p in parts], rtol=1e-4)


def test_what_is_no_number_is_none() -> None:
    trace = Trace(("x",))
    trace.add(np.array([np.nan]))
    assert trace.told()["columns"]["x"] == [None]


@given(st.lists(st.lists(st.none() | values, max_size=40), max_size=4), st.booleans(), values)
def test_every_chart_is_well_formed_and_stays_in_its_frame(
    curves: list[list[float | None]], zero: bool, at_s: float
) -> None:
    lines = [Line(f"<{i}>", curve, 2.0, i, i) for i, curve in enumerate(curves)]
    svg = ET.fromstring(chart("a & b", lines, [(abs(at_s), "<script>")], zero=zero))
    for path in svg.iter("path"):
        numbers = [float(x) for x in NUMBER.findall(path.attrib["d"])]
        assert all(-0.1 <= x <= WIDTH + 0.1 for x in numbers[0::2])
        assert all(-0.1 <= y <= HEIGHT + 0.1 for y in numbers[1::2])
    assert len(list(svg.iter("path"))) == len(curves)
    assert "nan" not in ET.tostring(svg, "unicode").lower()
