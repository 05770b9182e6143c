"""The web server: its addresses, and what it refuses.

    GET  /TOKEN/            the page
    GET  /TOKEN/assets/…    its style, scripts and the tour
    GET  /TOKEN/events      the stream of server-sent events
    POST /TOKEN/NAME        a command (`commands.py`)

The server listens on the loopback interface, but every program of this machine and every page in a browser
can send requests to it. Therefore the address contains a random token, the Host header must be that of the
page (DNS rebinding), and a POST needs `Content-Type: application/json` and the Origin of the page, if it has
one (cross-site requests). Bodies, connections and viewers are limited.
"""

import asyncio
import json
import secrets
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.requests import ClientDisconnect, Request
from starlette.responses import FileResponse, JSONResponse, Response
from starlette.routing import Mount, Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from bench.live.stream import Viewers
from ridelake.errors import RidelakeError, UsageError

Command = Callable[[dict[str, Any]], None]

BODY_BYTES_MAX = 65_536
DISCARDED_BYTES_MAX = 32_000_000  # of a larger body, read so that the client receives the answer
SEND_SECONDS = 20.0  # a viewer that receives nothing for longer is disconnected

ASSETS = (Path(__file__).parent / "page", Path(__file__).parents[1] / "pages")
ASSET_TYPES = {
    ".css": "text/css",
    ".js": "text/javascript",
    ".json": "application/json",
    ".svg": "image/svg+xml",
}
HEADERS = {
    "Content-Security-Policy": "default-src 'self'; frame-ancestors 'none'; base-uri 'none'",
    "Referrer-Policy": "no-referrer",
    "X-Frame-Options": "DENY",
    "X-Content-Type-Options": "nosniff",
    "Cache-Control": "no-store",
}


def refusal(status: int, line: str) -> JSONResponse:
    return JSONResponse({"error": line}, status, HEADERS)


class RequestGuard:
    """Refuses requests that are not from the page, before the application gets them."""

    def __init__(self, app: ASGIApp, token: str, port: int) -> None:
        self._app, self._token = app, token.encode()
        self._hosts = {f"{name}:{port}" for name in ("127.0.0.1", "localhost", "[::1]")}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        request = Request(scope, receive)
        answer = self._refused(request)
        if answer is None and request.method == "POST":
            body = await _body(request)
            if body is None:
                answer = refusal(413, f"the request is too large: send at most {BODY_BYTES_MAX:,} bytes")
            else:
                receive = _replay(body)
        await (answer or self._app)(scope, receive, send)

    def _refused(self, request: Request) -> Response | None:
        host = request.headers.get("host", "")
        if host.lower() not in self._hosts:
            return refusal(400, "unknown host: use the address that `ridelake live` has printed")
        first = request.scope["path"].removeprefix("/").partition("/")[0]
        if not secrets.compare_digest(first.encode(), self._token):
            return refusal(404, "unknown address: use the one that `ridelake live` has printed")
        if request.method not in ("GET", "POST"):
            return refusal(405, f"{request.method} is not allowed: use GET or POST")
        if request.method != "POST":
            return None
        origin = request.headers.get("origin")
        if origin is not None and origin.lower() != f"http://{host.lower()}":
            return refusal(403, "the request is from another page: use the page of `ridelake live`")
        if request.headers.get("content-type", "").split(";")[0].strip().lower() != "application/json":
            return refusal(415, "the body has another type: send Content-Type: application/json")
        return None


async def _body(request: Request) -> bytes | None:
    """The body; None if it is too large. Most of a larger body is read and discarded, because a client reads
    the answer only after it has sent everything."""
    body, size = b"", 0
    with suppress(ClientDisconnect):
        async for block in request.stream():
            size += len(block)
            if size <= BODY_BYTES_MAX:
                body += block
            elif size > DISCARDED_BYTES_MAX:
                break
    return body if size <= BODY_BYTES_MAX else None


def _replay(body: bytes) -> Receive:
    async def receive() -> Message:
        return {"type": "http.request", "body": body, "more_body": False}

    return receive


class EventStream:
    """The response to GET events: all events of one viewer, until it disconnects."""

    def __init__(self, viewers: Viewers) -> None:
        self._viewers = viewers

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers = HEADERS | {"Content-Type": "text/event-stream; charset=utf-8"}
        raw = [(name.lower().encode(), value.encode()) for name, value in headers.items()]
        sending = asyncio.create_task(self._send(raw, send))
        leaving = asyncio.create_task(_until_disconnected(receive))
        try:
            await asyncio.wait({sending, leaving}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            sending.cancel()
            leaving.cancel()

    async def _send(self, headers: list[tuple[bytes, bytes]], send: Send) -> None:
        with self._viewers.join() as viewer, suppress(TimeoutError):
            await send({"type": "http.response.start", "status": 200, "headers": headers})
            async for event in viewer.events():
                async with asyncio.timeout(SEND_SECONDS):
                    await send({"type": "http.response.body", "body": event, "more_body": True})


async def _until_disconnected(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


def build_app(token: str, port: int, viewers: Viewers, commands: Mapping[str, Command]) -> ASGIApp:
    """`commands`: by the last part of the address; each receives the body of the POST and raises
    RidelakeError if it is refused."""

    async def page(request: Request) -> Response:
        return FileResponse(ASSETS[0] / "index.html", headers=HEADERS)

    assets = {file.name: file for folder in reversed(ASSETS) for file in folder.iterdir()}

    async def asset(request: Request) -> Response:
        name = request.path_params["name"]
        kind = ASSET_TYPES.get(Path(name).suffix)
        if kind is None or name not in assets:
            return refusal(404, f"there is no asset {name}")
        return FileResponse(assets[name], media_type=kind, headers=HEADERS)

    async def events(request: Request) -> Any:
        if viewers.full:
            return refusal(503, "too many pages are open: close one and reload")
        return EventStream(viewers)

    async def command(request: Request) -> Response:
        name = request.path_params["name"]
        if name not in commands:
            return refusal(404, f"there is no command {name}")
        try:
            body = json.loads(await request.body() or b"{}")
        except (ValueError, RecursionError):
            return refusal(400, "the body is not JSON: send an object such as {}")
        if not isinstance(body, dict):
            return refusal(400, "the body is not an object: send an object such as {}")
        try:
            await run_in_threadpool(commands[name], body)
        except RidelakeError as error:
            return refusal(400 if isinstance(error, UsageError) else 409, " ".join(str(error).split()))
        return JSONResponse({"ok": True}, headers=HEADERS)

    @asynccontextmanager
    async def ticking(app: Starlette) -> AsyncIterator[None]:
        ticks = asyncio.create_task(viewers.send_ticks())
        try:
            yield
        finally:
            ticks.cancel()

    routes = [
        Route("/", page),
        Route("/assets/{name}", asset),
        Route("/events", events, methods=["GET"]),
        Route("/{name}", command, methods=["POST"]),
    ]
    app = Starlette(routes=[Mount(f"/{token}", routes=routes)], lifespan=ticking)
    return RequestGuard(app, token, port)
