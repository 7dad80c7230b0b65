"""The commands of an operator, by the API where a console is named, else on the machine itself; and the users' own."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from helpers_console import Served, Stand
from typer.testing import CliRunner, Result

from controller.cli import app
from controller.console.accounts import Role
from controller.console.desk import Desk, desk
from drivers.clock import RealClock

pytestmark = pytest.mark.usefixtures("warm_kernels")


class Machine:
    """A console, and a shell that knows it (`far`) or stands on its machine."""

    def __init__(self, served: Served) -> None:
        self.served, self.desk = served, served.desk
        self.token = {role: self.desk.accounts.new_token("admin", role) for role in Role}

    def far(self, *args: str, role: Role = Role.OPERATOR) -> Result:
        """A command over the API."""
        env = {"HEADROOM_URL": self.served.url, "HEADROOM_TOKEN": self.token[role]}
        return CliRunner().invoke(app, args, env=env)

    def here(self, *args: str, given: str | None = None) -> Result:
        """A command on the machine."""
        return CliRunner().invoke(app, [*args, "--state", str(self.desk.folder)], input=given)


@pytest.fixture(scope="module")
def machine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Machine]:
    folder: Path = tmp_path_factory.mktemp("state")
    with Stand(folder) as stand:
        at: Desk = desk(stand.cycles.site, folder, RealClock())
        at.accounts.first_password()
        with Served(at) as served:
            yield Machine(served)


def test_status_and_alarms_are_told_here_and_from_afar(machine: Machine) -> None:
    for run in (machine.far, machine.here):
        told = run("status", "hall")
        assert told.exit_code == 0, told.output
        assert "of 5.70 MW" in told.output
        assert json.loads(run("status", "hall", "--json").output)["racks"] == 64
        assert run("alarms", "hall").exit_code in (0, 1)


def test_a_job_is_held_and_released_from_afar(machine: Machine) -> None:
    assert machine.far("hold", "hall", "moe", "--why", "a drill").exit_code == 0
    assert len(machine.desk.acts.poll().held) == 5
    assert machine.far("release", "hall", "moe").exit_code == 0
    assert not machine.desk.acts.poll().held
    entry = machine.desk.acts.recent[-1][0]
    assert (entry["by"], entry["job"]) == ("admin", "moe")
    assert machine.far("envelope", "hall", "5").exit_code == 0
    assert machine.desk.acts.poll().envelope_w == 5e6
    assert machine.far("envelope", "hall", "release").exit_code == 0


def test_a_viewer_is_refused_in_words(machine: Machine) -> None:
    told = machine.far("hold", "hall", "moe", role=Role.VIEWER)
    assert told.exit_code == 1
    assert "needs the role operator" in told.output
    assert machine.far("hold", "hall", "nobody").exit_code == 1


def test_a_rack_is_explained_from_afar(machine: Machine) -> None:
    told = machine.far("explain", "hall", "h1b1r1-01", role=Role.VIEWER)
    assert told.exit_code == 0, told.output
    assert "Rack h1b1r1-01 may draw" in told.output
    assert "no rack" in machine.far("explain", "hall", "nobody").output


def test_where_nobody_answers_it_is_said(tmp_path: Path) -> None:
    told = CliRunner().invoke(app, ["status", "hall", "--state", str(tmp_path)])
    assert told.exit_code == 1
    assert "no controller found" in told.output
    env = {"HEADROOM_URL": "http://127.0.0.1:9", "HEADROOM_TOKEN": "x"}
    assert "does not answer" in CliRunner().invoke(app, ["status", "hall"], env=env).output
    assert (
        "HEADROOM_TOKEN is not" in CliRunner().invoke(app, ["status", "hall"], env={"HEADROOM_URL": "http://x"}).output
    )


def test_users_are_kept_by_command(machine: Machine) -> None:
    added = machine.here("user", "add", "hall", "ann", "--role", "operator", given="a long enough password\n")
    assert added.exit_code == 0, added.output
    assert "a long enough" not in added.output
    assert machine.desk.accounts.check("ann", "a long enough password") is not None
    assert machine.here("user", "role", "hall", "ann", "viewer").exit_code == 0
    assert machine.here("user", "token", "hall", "ann", "--role", "engineer").exit_code == 1
    token = machine.here("user", "token", "hall", "ann").output.strip()
    assert machine.desk.accounts.by_token(token) is not None
    assert "ann" in machine.here("user", "list", "hall").output
    assert machine.here("user", "remove", "hall", "ann").exit_code == 0
    assert machine.here("user", "add", "hall", "bob", given="short\n").exit_code == 1


@pytest.mark.parametrize("listen", ["0.0.0.0:8600", "8600", "localhost:x", "127.0.0.1:0"])
def test_the_console_does_not_open_itself_to_a_network_by_a_slip(listen: str, tmp_path: Path) -> None:
    told = CliRunner().invoke(app, ["console", "hall", "--listen", listen, "--state", str(tmp_path)])
    assert told.exit_code == 1
    assert "give " in told.output
