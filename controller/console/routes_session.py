"""Signing in and out, one's own password and tokens, and the users."""

import asyncio
from typing import Annotated, Any, Literal

from fastapi import APIRouter, HTTPException, Request, Response
from pydantic import BaseModel, ConfigDict, Field

from controller.console.accounts import LONGEST, AccountError, Role
from controller.console.doors import Engineer, TheDesk, Viewer, named, same_origin
from controller.console.sessions import LASTS_S

router = APIRouter(tags=["users"])
RoleName = Literal["viewer", "operator", "engineer"]
Name = Annotated[str, Field(min_length=1, max_length=32)]
Password = Annotated[str, Field(min_length=1, max_length=LONGEST)]
ERRORS: dict[int | str, dict[str, Any]] = {
    code: {"description": text, "content": {"application/json": {"schema": {"type": "object"}}}}
    for code, text in ((400, "The body cannot be read"), (413, "The body is too long"),
                       (401, "Nobody known is asking"), (403, "Not with this role"), (404, "There is no such thing"),
                       (409, "It cannot be done"), (422, "It makes no sense"), (429, "Too many tries"),
                       (503, "The controller or plant does not answer"))
}  # fmt: skip


def errors(*codes: int) -> dict[int | str, dict[str, Any]]:
    """What a route answers beside its good answer, for the description of the API."""
    return {code: ERRORS[code] for code in (400, *codes, 413)}


class _In(BaseModel):
    model_config = ConfigDict(extra="forbid")


class SignIn(_In):
    """Name and password."""

    user: Name
    password: Password


class NewPassword(_In):
    """One's own password, changed."""

    old: Password
    new: Password


class NewUser(_In):
    """A user to add."""

    user: Name
    role: RoleName
    password: Password


class NewToken(_In):
    """A token to make."""

    role: RoleName = "viewer"


@router.post("/v1/login", responses=errors(401, 403, 422, 429))
async def login(request: Request, response: Response, desk: TheDesk, told: SignIn) -> dict[str, Any]:
    """Sign a browser in: a session cookie, and the token that its further requests carry."""
    if not same_origin(request):
        raise HTTPException(403, "this request was made by another site's page")
    address = request.client.host if request.client else "?"
    keys = (f"user {told.user}", f"address {address}")
    wait_s = desk.throttle.wait_s(keys, desk.clock.now_s())
    if wait_s > 0.0:
        text = f"too many tries: wait {wait_s:.0f} s"
        raise HTTPException(429, text, {"Retry-After": str(int(wait_s) + 1)})
    desk.throttle.failed(keys, desk.clock.now_s())  # until it is known to be good: tries at a time count too
    async with desk.hashing:
        who = await asyncio.to_thread(desk.accounts.check, told.user, told.password)
    if who is None:
        raise HTTPException(401, "user or password is wrong")
    desk.throttle.passed(keys)
    secret, session = desk.sessions.begin(who.name, desk.wall_s(), desk.accounts.mark(who.name))
    response.set_cookie(
        desk.cookie, secret, max_age=int(LASTS_S), path="/", secure=desk.secure, httponly=True, samesite="strict"
    )
    return {"user": who.name, "role": who.role.name.lower(), "csrf": session.csrf}


@router.post("/v1/logout", responses=errors(401, 403))
async def logout(request: Request, response: Response, desk: TheDesk, _: Viewer) -> dict[str, Any]:
    """Sign this browser out."""
    desk.sessions.end(request.cookies.get(desk.cookie, ""))
    response.delete_cookie(desk.cookie, path="/", secure=desk.secure, httponly=True, samesite="strict")
    return {"signed_in": False}


@router.get("/v1/me", responses=errors(401))
async def me(desk: TheDesk, caller: Viewer) -> dict[str, Any]:
    """Who is signed in, and what that role may do."""
    return {
        "user": caller.who.name,
        "role": named(caller),
        "csrf": caller.session.csrf if caller.session else "",
        "plant": desk.plant.there,
    }


@router.post("/v1/me/password", responses=errors(401, 403, 409, 422, 429))
async def change_password(desk: TheDesk, caller: Viewer, told: NewPassword) -> dict[str, Any]:
    """Change one's own password; every session of the user ends."""
    keys = (f"user {caller.who.name}",)
    if (wait_s := desk.throttle.wait_s(keys, desk.clock.now_s())) > 0.0:
        raise HTTPException(429, f"too many tries: wait {wait_s:.0f} s")
    desk.throttle.failed(keys, desk.clock.now_s())
    async with desk.hashing:
        good = await asyncio.to_thread(desk.accounts.check, caller.who.name, told.old)
    if good is None:
        raise HTTPException(403, "the old password is wrong")
    desk.throttle.passed(keys)
    await _change(desk.accounts.set_password, caller.who.name, told.new)
    desk.sessions.end_all(caller.who.name)
    return {"changed": True}


@router.post("/v1/tokens", responses=errors(401, 403, 409, 422))
async def new_token(desk: TheDesk, caller: Viewer, told: NewToken) -> dict[str, Any]:
    """A token of one's own for a program; its secret is told only here."""
    role = Role[told.role.upper()]
    if role > caller.who.role:  # a token of a lesser role is no way to a greater one
        raise HTTPException(403, f"this needs the role {told.role}, {caller.who.name} is {named(caller)}")
    return {"token": await _change(desk.accounts.new_token, caller.who.name, role), "role": told.role}


@router.delete("/v1/tokens", responses=errors(401, 403))
async def revoke_tokens(desk: TheDesk, caller: Viewer) -> dict[str, Any]:
    """Take away all of one's own tokens; for who has signed in, as a stolen token must not end the others."""
    if caller.session is None:
        raise HTTPException(403, "sign in with your password: a token takes no tokens away")
    return {"revoked": await asyncio.to_thread(desk.accounts.revoke_tokens, caller.who.name)}


@router.get("/v1/users", responses=errors(401, 403))
async def users(desk: TheDesk, _: Engineer) -> dict[str, Any]:
    """Every user's name and role."""
    return {"users": {name: role.name.lower() for name, role in desk.accounts.users().items()}}


@router.post("/v1/users", responses=errors(401, 403, 409, 422))
async def add_user(desk: TheDesk, _: Engineer, told: NewUser) -> dict[str, Any]:
    """Add a user."""
    async with desk.hashing:
        await _change(desk.accounts.add, told.user, Role[told.role.upper()], told.password)
    return {"user": told.user, "role": told.role}


@router.delete("/v1/users/{user}", responses=errors(401, 403, 409, 422))
async def remove_user(desk: TheDesk, caller: Engineer, user: Name) -> dict[str, Any]:
    """Take a user out, with sessions and tokens."""
    if user == caller.who.name:
        raise HTTPException(409, "nobody takes themselves out: another engineer can")
    await _change(desk.accounts.remove, user)
    desk.sessions.end_all(user)
    return {"removed": user}


async def _change(do: Any, *args: Any) -> Any:
    """A change of the accounts, off the loop: it writes to the disk; 409 where it cannot be done."""
    try:
        return await asyncio.to_thread(do, *args)
    except AccountError as error:
        raise HTTPException(409, str(error)) from error
