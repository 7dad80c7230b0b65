"""The commands that ask: of a running controller, and of the site file where none runs."""

import json
import socket
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from controller.ask import FILE
from controller.design import NOTE
from drivers.cli import joined

RACK = "h1b1r4-09"


def headroom(*args: str) -> Result:
    return CliRunner().invoke(joined(), list(args))


def told(folder: Path, *args: str) -> Any:
    """The JSON answer where no controller runs."""
    result = headroom(*args, "--json", "--state", str(folder))
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


def test_a_rack_is_explained_by_the_site_file_and_that_is_said(tmp_path: Path) -> None:
    folder = tmp_path / "none"
    result = headroom("explain", "hall", RACK, "--state", str(folder))
    assert result.exit_code == 0
    assert result.stdout.startswith(f"({NOTE})\nRack {RACK} may draw ")
    assert "The limit is " in result.stdout
    assert f"looked in {folder}" in result.stderr  # one may run elsewhere
    assert not folder.exists()  # asking makes nothing
    reply = told(folder, "explain", "hall", RACK)
    assert reply["source"] == NOTE
    assert reply["rack"] == RACK
    assert isinstance(reply["work_per_kw"], float)
    assert list(reply["lines"]) == result.stdout.splitlines()[1:]


def test_bottlenecks_are_ranked(tmp_path: Path) -> None:
    reply = told(tmp_path, "bottlenecks", "hall")
    prices = [x["work_per_kw"] for x in reply["bottlenecks"]]
    assert prices
    assert prices == sorted(prices, reverse=True)
    result = headroom("bottlenecks", "hall", "--state", str(tmp_path))
    assert "racks" in result.stdout.splitlines()[2]
    whole = headroom("bottlenecks", "hall", "--all", "--state", str(tmp_path))
    assert all(x["name"] in whole.stdout for x in reply["bottlenecks"])


def test_contingencies_are_a_table_worst_first(tmp_path: Path) -> None:
    result = headroom("contingencies", "hall", "--state", str(tmp_path))
    assert result.exit_code == 0
    lines = result.stdout.splitlines()
    assert lines[0] == f"({NOTE})"
    assert " not secured" in lines[1]
    assert lines[2].startswith("loss ")
    assert " NO " in lines[3]
    assert "--all" in lines[-1]
    whole = headroom("contingencies", "hall", "--all", "--state", str(tmp_path)).stdout.splitlines()
    assert len(whole) > len(lines)
    reply = told(tmp_path, "contingencies", "hall", "--all")
    assert reply["count"] == len(reply["losses"])


def test_an_outage_is_judged_before_anyone_switches(tmp_path: Path) -> None:
    result = headroom("outage", "hall", "h1b1u1", "--state", str(tmp_path))
    assert result.exit_code == 0
    assert result.stdout.startswith(f"({NOTE})\nWith ups h1b1u1 out")
    reply = told(tmp_path, "outage", "hall", "h1b1u1")
    assert reply["possible"] is True
    assert len(reply["cap_w"]) == 64


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (("outage", "hall", "h1b1u9"), ("no element 'h1b1u9'", "Did you mean 'h1b1u")),
        (("explain", "hall", "h1b1r4-9"), ("no rack 'h1b1r4-9'", "Did you mean 'h1b1r4-")),
        (("explain", "hall", "zzz"), ("no rack 'zzz'", "racks.csv")),
        (("bottlenecks", "holl"), ("Did you mean 'hall'",)),
    ],
)
def test_a_slip_is_told_with_what_was_meant(tmp_path: Path, args: tuple[str, ...], words: tuple[str, ...]) -> None:
    result = headroom(*args, "--state", str(tmp_path))
    assert result.exit_code == 1
    assert "Traceback" not in result.output
    assert all(x in result.output for x in words)


def test_an_act_that_no_controller_takes_up_is_not_said_to_be(tmp_path: Path) -> None:
    act = ("mode", "hall", "hold", "--state", str(tmp_path))
    result = headroom(*act)
    assert result.exit_code == 0
    assert f"no controller runs on {tmp_path}" in result.output
    with socket.socket(socket.AF_UNIX) as sock:
        sock.bind(str(tmp_path / FILE))
        sock.listen()
        assert "takes it up within a second" in headroom(*act).output
