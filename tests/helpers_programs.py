"""Foreign programs that tests talk to."""

import os
import shutil

import pytest


def need_program(name: str, package: str) -> str:
    """Path of a program; without it the test skips and names the package, and fails where CI=true."""
    path = shutil.which(name)
    if path is None:
        message = f"the program {name} is missing: apt-get install {package}"
        if os.environ.get("CI") == "true":
            pytest.fail(message)
        pytest.skip(message)
    return path
