"""Sparkplug devices in a site's files: written and read back, and every slip of a topic said with the way out."""

from pathlib import Path

import pytest
from helpers_site import edit_cell, only
from helpers_sparkplug import PROFILES, sparkplug_site

from drivers.check import check_path, check_site
from drivers.site.load import load_site
from drivers.site.write import write_site


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_site(sparkplug_site(), tmp_path)
    return tmp_path


def test_a_site_with_sparkplug_devices_has_no_problem(folder: Path) -> None:
    assert check_site(sparkplug_site(), PROFILES) == []
    assert check_path(folder, PROFILES) == []
    assert load_site(folder).devices == sparkplug_site().devices


@pytest.mark.parametrize(
    ("column", "value", "what"),
    [
        ("topic", "Memphis1", "'Memphis1' is no place of a Sparkplug device"),
        ("topic", "Memphis1/+/r1", "'Memphis1/+/r1' is no place of a Sparkplug device"),
        ("topic", "", "'sp-r1' has no topic"),
        ("host", "10.0.0.1", "is on MQTT but has a Modbus address"),
        ("topic", "Memphis1/row1/r2", "is also"),
        ("protocol", "dsx", "protocol is dsx, profile 'sparkplug_rack' speaks sparkplug"),
        ("profile", "sparkplug_meter", "profile 'sparkplug_meter' measures a node, 'r1' is a rack"),
    ],
)
def test_one_wrong_cell(folder: Path, column: str, value: str, what: str) -> None:
    edit_cell(folder, "devices", "sp-r1", column, value)
    problem = only(folder)
    assert what in problem.what
