"""`headroom console` and `headroom user`; the work is imported inside each command."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NoReturn

import typer

if TYPE_CHECKING:
    from controller.console.accounts import Accounts, Role
    from controller.console.serve import Where

app = typer.Typer()
user = typer.Typer(no_args_is_help=True, help="The console's users: viewer, operator, engineer.")
app.add_typer(user, name="user")

SITE = Annotated[str, typer.Argument(metavar="SITE", help="A site's directory, or a built-in site: colossus, hall.")]
STATE = Annotated[Path | None, typer.Option("--state", help="State directory; default: ~/.local/state/headroom.")]
NAME = Annotated[str, typer.Argument(metavar="NAME", help="The user's name.")]
ROLE = Annotated[str, typer.Option(help="viewer, operator or engineer.")]
LISTEN = Annotated[str, typer.Option("--listen", metavar="HOST:PORT", help="Where the console listens.")]
CERT = Annotated[Path | None, typer.Option("--tls-cert", help="Certificate (PEM); beyond this machine it is needed.")]
KEY = Annotated[Path | None, typer.Option("--tls-key", help="Its key (PEM).")]
PROXY = Annotated[bool, typer.Option("--behind-proxy", help="A proxy in front does TLS.")]
HERE = "127.0.0.1:8600"


@app.command("console")
def console(
    site: SITE,
    listen: LISTEN = HERE,
    state: STATE = None,
    tls_cert: CERT = None,
    tls_key: KEY = None,
    behind_proxy: PROXY = False,
    plant: Annotated[Path | None, typer.Option(help="Control socket of a simulated plant (sim --control).")] = None,
) -> None:
    """The operator's console alone, for a controller that runs with --no-console on the same state directory."""
    import logging

    from controller.acts import state_dir
    from controller.console.serve import ConsoleError, serve
    from drivers.site.load import resolve_site
    from drivers.site.problems import SiteError

    logging.basicConfig(level=logging.WARNING, format="%(levelname)s console: %(message)s")
    try:
        found = resolve_site(site)
        folder = state_dir(found, state)
        at = where(listen, tls_cert, tls_key, behind_proxy)
        typer.echo(welcome(folder, at))
        serve(found, folder, at, plant)
    except (SiteError, ConsoleError) as error:
        _fail(str(error))
    except OSError as error:
        _fail(f"state directory {error.filename}: {error.strerror}; give another with --state")


def where(listen: str, cert: Path | None = None, key: Path | None = None, behind_proxy: bool = False) -> "Where":
    """Where to listen, checked; ConsoleError with what is wrong."""
    from controller.console.serve import ConsoleError, Where

    host, _, port = listen.rpartition(":")
    if not host or not port.isdigit() or not 0 < int(port) < 65536:
        raise ConsoleError(f"--listen {listen!r}: give HOST:PORT, for example {HERE}")
    at = Where(host.strip("[]"), int(port), cert, key, behind_proxy)
    at.check()
    return at


def welcome(folder: Path, at: "Where") -> str:
    """Where the console is; on the first run also the first user's password, which is told only here."""
    from controller.console.accounts import FIRST_USER, Accounts

    own = folder / "console"
    own.mkdir(mode=0o700, parents=True, exist_ok=True)
    password = Accounts(own).first_password()
    first = f"  first user {FIRST_USER}, password {password} (told only now)" if password else ""
    return f"console: {at.url}{first}"


@user.command("add")
def add(site: SITE, name: NAME, role: ROLE = "viewer", state: STATE = None) -> None:
    """Add a user; the password is asked for, or read from standard input."""
    from controller.console.accounts import AccountError

    try:
        _accounts(site, state).add(name, _role(role), _password())
    except AccountError as error:
        _fail(str(error))
    typer.echo(f"{name} is {role}")


@user.command("password")
def password(site: SITE, name: NAME, state: STATE = None) -> None:
    """Give a user another password."""
    from controller.console.accounts import AccountError

    try:
        _accounts(site, state).set_password(name, _password())
    except AccountError as error:
        _fail(str(error))
    typer.echo(f"{name} has a new password")


@user.command("role")
def set_role(site: SITE, name: NAME, role: str, state: STATE = None) -> None:
    """Give a user another role."""
    from controller.console.accounts import AccountError

    try:
        _accounts(site, state).set_role(name, _role(role))
    except AccountError as error:
        _fail(str(error))
    typer.echo(f"{name} is {role}")


@user.command("remove")
def remove(site: SITE, name: NAME, state: STATE = None) -> None:
    """Take a user out, with sessions and tokens."""
    from controller.console.accounts import AccountError

    try:
        _accounts(site, state).remove(name)
    except AccountError as error:
        _fail(str(error))
    typer.echo(f"{name} is out")


@user.command("token")
def token(site: SITE, name: NAME, role: ROLE = "viewer", state: STATE = None) -> None:
    """A token for a program that acts as this user; told only here."""
    from controller.console.accounts import AccountError

    try:
        typer.echo(_accounts(site, state).new_token(name, _role(role)))
    except AccountError as error:
        _fail(str(error))


@user.command("list")
def users(site: SITE, state: STATE = None) -> None:
    """Every user and role."""
    for name, role in _accounts(site, state).users().items():
        typer.echo(f"{name:32s} {role.name.lower()}")


def _accounts(site: str, state: Path | None) -> "Accounts":
    from controller.acts import state_dir
    from controller.console.accounts import Accounts
    from drivers.site.load import resolve_site
    from drivers.site.problems import SiteError

    try:
        own = state_dir(resolve_site(site), state) / "console"
        own.mkdir(mode=0o700, parents=True, exist_ok=True)
    except SiteError as error:
        _fail(str(error))
    except OSError as error:
        _fail(f"state directory {error.filename}: {error.strerror}; give another with --state")
    return Accounts(own)


def _role(name: str) -> "Role":
    from controller.console.accounts import Role

    if name.upper() not in Role.__members__:
        _fail(f"role {name!r}: give viewer, operator or engineer")
    return Role[name.upper()]


def _password() -> str:
    import sys

    if sys.stdin.isatty():
        return str(typer.prompt("password", hide_input=True, confirmation_prompt=True))
    return sys.stdin.readline().rstrip("\n")


def _fail(text: str) -> NoReturn:
    typer.echo(text, err=True)
    raise typer.Exit(1)
