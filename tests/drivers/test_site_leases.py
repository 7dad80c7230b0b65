"""Rules of the site check on leases: times that messages carry, and a fall that stays inside the ramp."""

from functools import cache
from pathlib import Path

import pytest
from helpers_site import edit_yaml, only, tiny_site, yaml_line

from drivers.check import check_path, check_site
from drivers.profile import load_profiles
from drivers.site.problems import Problem
from drivers.site.write import write_site

profiles = cache(load_profiles)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_site(tiny_site(), tmp_path)
    return tmp_path


def test_decay_that_leaves_the_ramp(folder: Path) -> None:
    """54.3 kW at the meters from the envelope to the safe caps; racks that draw short decays fall 1.53 times faster."""
    where = edit_yaml(folder, "lease_decay_s: 15", "lease_decay_s: 5")
    problem = only(folder)
    assert problem.where == where
    assert problem.what.startswith("when every lease ends the site falls by 16.57 kW each second")
    assert problem.what.endswith(", its ramp_down_w_per_s is 10.00 kW")
    assert problem.fix == "Set control.lease_decay_s to at least 9, or raise the ramp or the safe caps"
    edit_yaml(folder, "lease_decay_s: 5", "lease_decay_s: 9")
    assert check_path(folder, profiles()) == []
    edit_yaml(folder, "  lease_decay_s: 9\n", "# no decay given\n")
    assert only(folder).where == yaml_line(folder, "control:")  # the default is too short, too


def test_only_what_the_envelope_lets_in_can_fall(folder: Path) -> None:
    """As above with an envelope above nameplate: 85.7 kW."""
    edit_yaml(folder, "lease_decay_s: 15", "lease_decay_s: 10")
    assert check_path(folder, profiles()) == []
    edit_yaml(folder, "envelope_w: 330000", "envelope_w: 400000")
    assert only(folder).fix.startswith("Set control.lease_decay_s to at least 14,")


@pytest.mark.parametrize(
    ("old", "new", "what"),
    [
        ("lease_ttl_s: 10", "lease_ttl_s: 61", "lease_ttl_s is 61, a lease message carries 1 to 60 s"),
        ("lease_ttl_s: 10", "lease_ttl_s: 0.5", "lease_ttl_s is 0.5, a lease message carries 1 to 60 s"),
        ("lease_decay_s: 15", "lease_decay_s: 601", "lease_decay_s is 601, a lease message carries 0 to 600 s"),
    ],
)
def test_times_that_no_lease_can_carry(folder: Path, old: str, new: str, what: str) -> None:
    where = edit_yaml(folder, old, new)
    assert only(folder) == Problem(where, what, "Every agent would refuse it: choose a time within")


def test_a_lease_group_must_fit_a_topic() -> None:
    site = tiny_site()
    racks = tuple(r.model_copy(update={"lease_group": "g#1"}) for r in site.racks)
    (problem,) = check_site(site.model_copy(update={"racks": racks}), profiles())
    assert "cannot be part of an MQTT topic" in problem.what
