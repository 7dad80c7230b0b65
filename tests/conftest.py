"""What all tests share: one profile of hypothesis, kernels compiled before anything is timed."""

import os

import pytest
from hypothesis import settings

# How long an example takes is the machine's affair; on CI the same examples every time.
settings.register_profile("headroom", deadline=None, derandomize=os.environ.get("CI") == "true")
settings.load_profile("headroom")


@pytest.fixture(scope="session")
def warm_kernels() -> None:
    """Kernels of plant and controller in the cache on the disk, where processes of a test find them."""
    from drivers.site.load import resolve_site
    from sim.lab.lockstep import LockStep
    from sim.scenarios import load_scenario

    LockStep(resolve_site("hall"), load_scenario("nameplate")).cycle()
