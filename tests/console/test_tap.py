"""Pictures and the tap: what goes in comes out, and no reader holds up the cycle."""

import asyncio
import json
import stat
import zlib
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
from helpers_console import Stand, hall
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from controller import feed, form, picture, sheet
from controller.tap import BEHIND_BYTES, READERS, Tap

pytestmark = pytest.mark.usefixtures("warm_kernels")


@given(hnp.arrays(np.float64, st.integers(0, 50), elements=st.floats(0, 6.5) | st.just(np.nan)))
def test_values_come_back_within_half_a_step_and_unknown_stays_unknown(value: form.Floats) -> None:
    head, arrays = form.split(form.join({"a": 1}, {"x": form.u2(value, 1e-4), "y": form.u1(value, 0.05)}))
    assert head["a"] == 1
    for name, step in (("x", 1e-4), ("y", 0.05)):
        assert np.array_equal(np.isnan(arrays[name]), np.isnan(value))
        assert np.nanmax(np.abs(arrays[name] - value), initial=0.0) <= step / 2 + 1e-12


def test_a_picture_says_what_the_frames_say() -> None:
    c = hall()
    frames = c.frames[-1]
    head, arrays = form.split(picture.pack(c.plan, picture.Layout(c.plan), frames, feed.frame(c.plan, frames, [], {})))
    assert head["racks"] == len(c.site.racks) == len(arrays["rack_w"])
    step = picture.Layout(c.plan).rack_scale
    assert arrays["rack_cap_w"] == pytest.approx(frames.orders.cap_w, abs=step)
    load_w = arrays["node_load"] * c.plan.full_w
    assert load_w == pytest.approx(frames.estimate.load_w[c.plan.node_row], abs=1e-4 * c.plan.full_w.max())
    assert int(((arrays["rack_flags"].astype(int) & form.RACK_CAPPED) > 0).sum()) == head["racks_capped"]
    loops = {x["id"]: x["supply_c"] for x in head["loops"]}
    shown = dict(zip((x.id for x in c.site.loops), arrays["loop_supply_c"], strict=True))
    assert all(shown[name] == pytest.approx(c_, abs=0.006) for name, c_ in loops.items())


def test_margins_are_those_of_the_rows_of_losses() -> None:
    """No node has less left after a loss than the least of its rows, and where a row is full the margin is none."""
    c = hall()
    frames = c.frames[-1]
    first, losses = len(c.plan.row_name), c.plan.losses
    left = frames.limits.room_w[first:] - frames.estimate.rows.dot(frames.orders.cap_w)[first:]
    share = left / frames.limits.limit_w[first:]
    _, arrays = form.split(picture.pack(c.plan, picture.Layout(c.plan), frames, feed.frame(c.plan, frames, [], {})))
    for node in np.unique(losses.node_of):
        of = share[(losses.node_of == node) & np.isfinite(share)]
        if len(of):
            assert arrays["node_margin"][node] == pytest.approx(np.clip(of.min(), -3.2, 3.2), abs=1e-4)


def test_the_sheet_names_every_element_in_the_order_of_the_arrays() -> None:
    c = hall()
    told = json.loads(zlib.decompress(sheet.pack(c.plan)))
    assert told["racks"]["id"] == [r.id for r in c.site.racks]
    assert told["nodes"]["id"] == [n.id for n in c.site.nodes]
    assert len(told["rows"]["name"]) + len(told["losses"]["row_node"]) == len(c.frames[-1].limits.limit_w)


@pytest.mark.parametrize("data", [b"", b"HRP1", b"XXXX\x00\x00\x00\x00", b"HRP1\xff\xff\xff\x7f{}"])
def test_what_is_no_picture_is_an_error(data: bytes) -> None:
    with pytest.raises(ValueError):  # noqa: PT011  (whatever is wrong with it)
        form.split(data)


async def test_a_reader_that_stands_still_misses_pictures_and_costs_nobody_else(tmp_path: Path) -> None:
    tap = Tap(tmp_path, lambda: b"sheet")
    await tap.start()
    path = str(tmp_path / form.TAP_FILE)
    assert stat.S_IMODE((tmp_path / form.TAP_FILE).stat().st_mode) == 0o600
    _, still = await asyncio.open_unix_connection(path, limit=1024)
    quick, writer = await asyncio.open_unix_connection(path)
    assert await quick.readexactly(form.PREFIX.size + 5) == form.message(form.SHEET, b"sheet")
    body = bytes(300_000)
    for _ in range(40):
        tap.put(lambda: body)
        size, kind = form.PREFIX.unpack(await quick.readexactly(form.PREFIX.size))
        assert (size, kind) == (len(body), form.PICTURE)
        await quick.readexactly(size)
    assert tap.dropped >= 40 - 3 - BEHIND_BYTES // len(body) - 2
    await tap.stop()
    for end in (still, writer):
        end.transport.abort()
        with suppress(ConnectionError):
            await end.wait_closed()


async def test_no_more_readers_than_it_can_serve_and_no_picture_made_for_nobody(tmp_path: Path) -> None:
    tap = Tap(tmp_path, lambda: b"s")
    tap.put(lambda: pytest.fail("nobody looks"))
    await tap.start()
    links = [await asyncio.open_unix_connection(str(tmp_path / form.TAP_FILE)) for _ in range(READERS + 1)]
    got = [await asyncio.wait_for(reader.read(6), 5.0) for reader, _ in links]
    assert sorted(got) == [b""] + [form.message(form.SHEET, b"s")] * READERS
    await tap.stop()
    for _, writer in links:
        writer.transport.abort()
        with suppress(ConnectionError):
            await writer.wait_closed()


def test_the_stand_is_what_tests_stand_on(tmp_path: Path) -> None:
    with Stand(tmp_path) as stand:
        assert stand.head(3)["cycle"] == 3
