"""The console's web application: pages and their assets, the API, the pictures; and what every answer carries."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from fastapi import FastAPI
from fastapi.responses import FileResponse, RedirectResponse, Response
from fastapi.staticfiles import StaticFiles
from starlette.datastructures import MutableHeaders
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from controller.console import live, metrics, routes_act, routes_jobs, routes_past, routes_session, routes_view
from controller.console.desk import Desk
from controller.console.doors import found

STATIC = Path(__file__).parent / "static"
LONGEST_BODY = 1 << 20
HEADERS = {
    "Content-Security-Policy": "default-src 'self'; frame-ancestors 'none'; base-uri 'none'; form-action 'self'; "
    "object-src 'none'",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), microphone=(), geolocation=()",
}
ABOUT = """Headroom's console: the present state of a site, questions about it, and acts.

Programs send `Authorization: Bearer TOKEN`; a token is made by `POST /v1/tokens` or `headroom user token`.
Browsers have a session cookie and send `X-CSRF-Token` with whatever changes something."""


def build(desk: Desk) -> FastAPI:
    """The application on a desk; its link runs while it serves."""

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        tasks = [asyncio.ensure_future(x) for x in (desk.link.run(), desk.lag.run(desk.clock))]
        yield
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    app = FastAPI(
        title="Headroom", version="1", description=ABOUT, docs_url=None, redoc_url=None, openapi_url="/v1/openapi.json",
        lifespan=lifespan,
    )  # fmt: skip
    app.state.desk = desk
    for module in (routes_session, routes_view, routes_past, routes_act, routes_jobs, metrics):
        app.include_router(module.router)
    app.include_router(live.router)
    app.add_api_route("/", _page, include_in_schema=False)
    app.add_api_route("/login", _login, include_in_schema=False)
    app.mount("/static", StaticFiles(directory=STATIC), name="static")
    if desk.hosts:  # a page of another name that points here is none of ours
        app.add_middleware(TrustedHostMiddleware, allowed_hosts=list(desk.hosts), www_redirect=False)
    app.add_middleware(Outer, secure=desk.secure)
    return app


async def _page(request: Request) -> Response:
    """The console for whoever is signed in, the way to sign in for the others."""
    return RedirectResponse("/login") if found(request) is None else FileResponse(STATIC / "index.html")


async def _login() -> Response:
    return FileResponse(STATIC / "login.html")


class Outer:
    """Outermost: refuses bodies that are too long, puts the security headers on every answer."""

    def __init__(self, app: ASGIApp, secure: bool) -> None:
        self._app = app
        self._headers = HEADERS | ({"Strict-Transport-Security": "max-age=31536000"} if secure else {})

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        path = scope["path"]

        async def finish(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in self._headers.items():
                    headers[name] = value
                if path.startswith("/static/"):
                    headers["Cache-Control"] = "no-cache"  # asked for again each time: a new version is seen at once
                elif "cache-control" not in headers:
                    headers["Cache-Control"] = "no-store"
            await send(message)

        length = next((v for k, v in scope["headers"] if k == b"content-length"), b"0")
        if not length.isdigit() or int(length) > LONGEST_BODY:
            await Response(status_code=413)(scope, receive, finish)
            return
        await self._app(scope, _bounded(receive), finish)


def _bounded(receive: Receive) -> Receive:
    """The same request, cut off where a body that names no length grows too long."""
    taken = 0

    async def bounded() -> Message:
        nonlocal taken
        message = await receive()
        taken += len(message.get("body", b""))
        return {"type": "http.disconnect"} if taken > LONGEST_BODY else message

    return bounded
