"""System programs that some tests need."""

import os
import shutil

import pytest

PATH = f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/local/sbin:/usr/bin:/usr/local/bin"


def need_program(program: str, package: str) -> str:
    """The program's path; without it the test is skipped with the package's name, and fails where CI=true."""
    path = shutil.which(program, path=PATH)
    if path is None:
        reason = f"{program} is missing: apt-get install {package}"
        if os.environ.get("CI") == "true":
            pytest.fail(reason)
        pytest.skip(reason)
    return path
