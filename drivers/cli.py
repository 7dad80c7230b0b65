"""The `headroom` command: joins the commands of the three packages; the work is imported inside each command."""

from importlib.metadata import entry_points
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(
    no_args_is_help=True, add_completion=False, help="Power and cooling control plane for AI data centers."
)
site_app = typer.Typer(no_args_is_help=True, help="Describe and check a site.")
app.add_typer(site_app, name="site")

WHICH = "A site's directory, or a built-in site: colossus, hall."


@site_app.command("check")
def check(
    path: Annotated[str, typer.Argument(metavar="PATH", help=WHICH)],
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object instead of text.")] = False,
) -> None:
    """List every problem of a site: file, line, what is wrong, what to do. Exit 1 on any."""
    import json

    from drivers.check import check_path
    from drivers.profile import load_profiles
    from drivers.site.problems import SiteError

    try:
        problems = check_path(path, load_profiles())
    except SiteError as error:
        problems = error.problems
    if as_json:
        rows = [{"file": p.file, "line": p.line, "what": p.what, "fix": p.fix} for p in problems]
        typer.echo(json.dumps({"site": path, "problems": rows}, indent=1))
    else:
        for problem in problems:
            typer.echo(str(problem))
        typer.echo(f"{path}: {len(problems) or 'no'} problem{'s' if len(problems) != 1 else ''}")
    if problems:
        raise typer.Exit(1)


@site_app.command("new")
def new(
    name: Annotated[str, typer.Argument(metavar="NAME", help="colossus or hall.")],
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="A new or empty directory.")],
) -> None:
    """Write a reference site's files, to start from."""
    from drivers.site.problems import did_you_mean
    from drivers.site.reference import SITES
    from drivers.site.write import write_site

    if name not in SITES:
        _fail(f"there is no site '{name}'. " + did_you_mean(name, SITES, "Known: " + ", ".join(SITES)))
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        _fail(f"{folder} is not an empty directory; nothing was written. Give a new one, or empty it first")
    try:
        write_site(SITES[name](), folder)
    except OSError as error:
        _fail(f"{folder} cannot be written: {error.strerror}")
    typer.echo(f"wrote {name} to {folder}; check it with: headroom site check {folder}")


def _fail(text: str) -> None:
    typer.echo(text, err=True)
    raise typer.Exit(1)


def joined() -> typer.Typer:
    """One app with the commands of every installed package (entry-point group `headroom`)."""
    whole = typer.Typer(no_args_is_help=True, add_completion=False, help=app.info.help)
    for point in sorted(entry_points(group="headroom"), key=lambda p: p.name):
        if find_spec(point.module) is None:
            continue  # a rack agent's installation carries the drivers only
        part = app if point.name == "drivers" else point.load()
        whole.registered_commands += part.registered_commands
        whole.registered_groups += part.registered_groups
    return whole


def main() -> None:
    """Entry point of the `headroom` command."""
    joined()()
