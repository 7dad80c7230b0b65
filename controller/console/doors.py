"""Who is asking, and whether they may: sessions, tokens, roles, and requests that another site's page has made."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Annotated
from urllib.parse import urlsplit

from fastapi import Depends, HTTPException
from starlette.requests import HTTPConnection, Request

from controller.console.accounts import Role, Who
from controller.console.desk import Desk
from controller.console.sessions import Session

SAFE = {"GET", "HEAD", "OPTIONS"}
CSRF = "X-CSRF-Token"
UNKNOWN = HTTPException(401, "sign in, or give a token", {"WWW-Authenticate": "Bearer"})


@dataclass(frozen=True)
class Caller:
    """Somebody who is known; `session` where a browser is signed in."""

    who: Who
    session: Session | None = None


def desk_of(request: HTTPConnection) -> Desk:
    """What the console knows."""
    desk: Desk = request.app.state.desk
    return desk


def found(request: HTTPConnection) -> Caller | None:
    """Who is asking by token or session, None where neither is good."""
    desk = desk_of(request)
    scheme, _, secret = request.headers.get("authorization", "").partition(" ")
    if scheme.lower() == "bearer":
        who = desk.accounts.by_token(secret.strip())
        return None if who is None else Caller(who)
    session = desk.sessions.find(request.cookies.get(desk.cookie, ""), desk.wall_s())
    if session is None or session.mark != desk.accounts.mark(session.user):
        return None  # signed out, or the password is another since
    who = desk.accounts.who(session.user)
    return None if who is None else Caller(who, session)


def same_origin(request: HTTPConnection) -> bool:
    """Whether the page that sends this is ours: browsers say where a request comes from."""
    origin = request.headers.get("origin")
    return origin is None or urlsplit(origin).netloc == request.headers.get("host")


def needs(role: Role) -> Callable[[Request], Awaitable[Caller]]:
    """A dependency that lets in whoever has at least that role."""

    async def door(request: Request) -> Caller:
        caller = found(request)
        if caller is None:
            raise UNKNOWN
        if caller.session is not None and request.method not in SAFE:
            if not same_origin(request):
                raise HTTPException(403, "this request was made by another site's page")
            if request.headers.get(CSRF, "") != caller.session.csrf:
                raise HTTPException(403, f"the header {CSRF} is missing or of another session: reload the page")
        if caller.who.role < role:
            raise HTTPException(403, f"this needs the role {role.name.lower()}, {caller.who.name} is {named(caller)}")
        return caller

    return door


def named(caller: Caller) -> str:
    """The caller's role in words."""
    return caller.who.role.name.lower()


Viewer = Annotated[Caller, Depends(needs(Role.VIEWER))]
Operator = Annotated[Caller, Depends(needs(Role.OPERATOR))]
Engineer = Annotated[Caller, Depends(needs(Role.ENGINEER))]
TheDesk = Annotated[Desk, Depends(desk_of)]
