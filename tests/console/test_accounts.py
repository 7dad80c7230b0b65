"""Users, tokens, sessions and the throttle: nothing readable at rest, nobody more than their role."""

import stat
from pathlib import Path

import pytest

from controller.console.accounts import AccountError, Accounts, Role
from controller.console.sessions import FREE_TRIES, LASTS_S, LONGEST_WAIT_S, USER_WAIT_S, Sessions, Throttle

LONG = "correct horse battery"


def test_the_first_password_is_told_once_and_is_never_on_the_disk(tmp_path: Path) -> None:
    told = Accounts(tmp_path).first_password()
    assert told is not None
    assert len(told) >= 20
    assert Accounts(tmp_path).first_password() is None
    file = tmp_path / "users.json"
    assert told not in file.read_text()
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    who = Accounts(tmp_path).check("admin", told)
    assert who is not None
    assert who.role == Role.ENGINEER
    assert Accounts(tmp_path).check("admin", told + "x") is None
    assert Accounts(tmp_path).check("nobody", told) is None


def test_two_users_of_one_password_have_different_hashes(tmp_path: Path) -> None:
    accounts = Accounts(tmp_path)
    accounts.add("ann", Role.OPERATOR, LONG)
    accounts.add("bob", Role.VIEWER, LONG)
    text = (tmp_path / "users.json").read_text()
    hashes = [line for line in text.splitlines() if '"hash"' in line]
    assert len(set(hashes)) == 2


@pytest.mark.parametrize("name", ["", "Ann", "a/b", "../x", "a" * 40, "a b"])
def test_names_that_could_mean_something_else_are_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(AccountError, match="letters"):
        Accounts(tmp_path).add(name, Role.VIEWER, LONG)


def test_short_passwords_and_taken_names_are_refused(tmp_path: Path) -> None:
    accounts = Accounts(tmp_path)
    with pytest.raises(AccountError, match="12 to 256"):
        accounts.add("ann", Role.VIEWER, "short")
    accounts.add("ann", Role.VIEWER, LONG)
    with pytest.raises(AccountError, match="already"):
        accounts.add("ann", Role.ENGINEER, LONG)


def test_a_token_never_gives_more_than_its_user_has_now(tmp_path: Path) -> None:
    accounts = Accounts(tmp_path)
    accounts.add("ann", Role.OPERATOR, LONG)
    with pytest.raises(AccountError, match="no engineer"):
        accounts.new_token("ann", Role.ENGINEER)
    secret = accounts.new_token("ann", Role.OPERATOR)
    assert secret not in (tmp_path / "users.json").read_text()
    who = accounts.by_token(secret)
    assert who is not None
    assert who.role == Role.OPERATOR
    Accounts(tmp_path).set_role("ann", Role.VIEWER)  # another process: seen without a restart
    who = accounts.by_token(secret)
    assert who is not None
    assert who.role == Role.VIEWER
    accounts.remove("ann")
    assert accounts.by_token(secret) is None
    assert accounts.by_token("hr_" + "x" * 43) is None


def test_sessions_outlive_a_restart_end_in_time_and_are_hashes_on_the_disk(tmp_path: Path) -> None:
    sessions = Sessions(tmp_path)
    secret, session = sessions.begin("ann", 1000.0)
    assert secret not in (tmp_path / "sessions.json").read_text()
    again = Sessions(tmp_path)
    assert again.find(secret, 1001.0) == session
    assert again.find(secret, 1000.0 + LASTS_S) is None
    assert again.find("", 1001.0) is None
    again.end_all("ann")
    assert Sessions(tmp_path).find(secret, 1001.0) is None


def test_a_sessions_file_that_is_broken_signs_everybody_out(tmp_path: Path) -> None:
    (tmp_path / "sessions.json").write_text('{"x": 3}')
    assert Sessions(tmp_path).find("x", 0.0) is None


def test_failures_make_the_next_try_wait_ever_longer_and_a_success_forgets() -> None:
    throttle, keys = Throttle(), ("user ann", "address 10.0.0.9")
    waits = []
    for i in range(FREE_TRIES + 12):
        throttle.failed(keys, 0.0)
        waits.append(throttle.wait_s(keys, 0.0))
        assert i >= FREE_TRIES - 1 or waits[-1] == 0.0
    assert waits[FREE_TRIES - 1 :] == sorted(waits[FREE_TRIES - 1 :])
    assert waits[-1] == LONGEST_WAIT_S
    assert throttle.wait_s(("user bob", "address 10.0.0.9"), 0.0) == LONGEST_WAIT_S  # another name, same address
    assert throttle.wait_s(("user ann", "address 10.0.0.1"), 0.0) == USER_WAIT_S  # nobody shuts her out for long
    throttle.passed(keys)
    assert throttle.wait_s(keys, 0.0) == 0.0


def test_the_throttle_remembers_no_more_than_it_can_hold() -> None:
    throttle = Throttle()
    for i in range(10_000):
        throttle.failed((f"user {i}",), 0.0)
    assert len(throttle._failed) < 5_000
