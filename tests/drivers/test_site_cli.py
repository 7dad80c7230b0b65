"""`headroom site`: exit status, text and JSON, and a directory that is not overwritten."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from helpers_site import edit_cell, tiny_site
from typer.testing import CliRunner

from drivers.cli import app, joined
from drivers.site.load import load_site
from drivers.site.write import write_site

runner = CliRunner()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_site(tiny_site(), tmp_path / "tiny")
    return tmp_path / "tiny"


def test_good_site(folder: Path) -> None:
    result = runner.invoke(app, ["site", "check", str(folder)])
    assert result.exit_code == 0
    assert result.output == f"{folder}: no problems\n"


def test_problems_as_text(folder: Path) -> None:
    edit_cell(folder, "racks", "r1", "cdu", "cc1")
    result = runner.invoke(app, ["site", "check", str(folder)])
    assert result.exit_code == 1
    assert result.output == f"racks.csv:2: cdu 'cc1' is not in cdus.csv. Did you mean 'c1'?\n{folder}: 1 problem\n"


def test_problems_as_json(folder: Path) -> None:
    edit_cell(folder, "racks", "r1", "cdu", "cc1")
    edit_cell(folder, "racks", "r3", "gpus", "many")
    result = runner.invoke(app, ["site", "check", str(folder), "--json"])
    assert result.exit_code == 1
    assert json.loads(result.output) == {
        "site": str(folder),
        "problems": [
            {"file": "racks.csv", "line": 2, "what": "cdu 'cc1' is not in cdus.csv", "fix": "Did you mean 'c1'?"},
            {"file": "racks.csv", "line": 4, "what": "gpus is 'many'", "fix": "Write a whole number"},
        ],
    }


def test_no_such_site() -> None:
    result = runner.invoke(app, ["site", "check", "colosus"])
    assert result.exit_code == 1
    assert "colosus: there is no such site. Did you mean 'colossus'?" in result.output


def test_new_writes_a_site_that_passes(tmp_path: Path) -> None:
    result = runner.invoke(app, ["site", "new", "hall", str(tmp_path / "mine")])
    assert result.exit_code == 0, result.output
    assert len(load_site(tmp_path / "mine").racks) == 64
    assert runner.invoke(app, ["site", "check", str(tmp_path / "mine")]).exit_code == 0


def test_new_keeps_what_is_there(folder: Path) -> None:
    before = {p.name: p.read_text() for p in folder.iterdir()}
    result = runner.invoke(app, ["site", "new", "hall", str(folder)])
    assert result.exit_code == 1
    assert "is not an empty directory; nothing was written" in result.output
    assert {p.name: p.read_text() for p in folder.iterdir()} == before
    file = folder / "site.yaml"
    assert runner.invoke(app, ["site", "new", "hall", str(file)]).exit_code == 1


def test_new_unknown_site(tmp_path: Path) -> None:
    result = runner.invoke(app, ["site", "new", "holl", str(tmp_path / "x")])
    assert result.exit_code == 1
    assert "there is no site 'holl'. Did you mean 'hall'?" in result.output
    assert not (tmp_path / "x").exists()


def test_new_where_nothing_can_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    result = runner.invoke(app, ["site", "new", "hall", str(tmp_path / "file" / "x")])
    assert result.exit_code == 1
    assert "cannot be written" in result.output


def test_joined_commands_have_site() -> None:
    assert "site" in [group.name for group in joined().registered_groups]


def test_help_imports_nothing_heavy() -> None:
    heavy = ("numpy", "numba", "pydantic", "yaml", "pymodbus", "aiomqtt")
    code = f"import sys; from drivers.cli import joined; joined(); print([m for m in {heavy} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
