"""The answers of the catalog server, and which requests it refuses."""

import json
import os
import re
import secrets
from dataclasses import asdict
from functools import lru_cache
from http import HTTPStatus
from typing import Any

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from lakehouse.rest_catalog.leases import EpochLeases, RestCatalogError
from lakehouse.table.epoch import Epoch
from lakehouse.table.published import read_epochs
from lakehouse.table.s3 import bucket_errors, client_properties
from lakehouse.table.storage import Storage
from ridelake.errors import CannotConnect, NotReady, RidelakeError, UsageError, did_you_mean, first_line
from ridelake.settings import LakeAddress

NAMESPACE = "ridelake"
BODY_BYTES_MAX = 65_536
WRITING_METHODS = ("POST", "PUT", "PATCH", "DELETE")

NAMESPACES = "/v1/{prefix}/namespaces"
TABLES = f"{NAMESPACES}/{{namespace}}/tables"
ENDPOINTS = [
    f"GET {NAMESPACES}",
    f"GET {NAMESPACES}/{{namespace}}",
    f"HEAD {NAMESPACES}/{{namespace}}",
    f"GET {TABLES}",
    f"GET {TABLES}/{{table}}",
    f"HEAD {TABLES}/{{table}}",
]


def error_response(status: int, kind: str, message: str, **headers: str) -> JSONResponse:
    error = {"message": " ".join(message.split()), "type": kind, "code": status}
    return JSONResponse({"error": error}, status, headers)


@lru_cache(maxsize=64)
def read_metadata(address: LakeAddress, location: str) -> bytes:
    """The content of a metadata file, which never changes. Raises UsageError if the lake was moved,
    RidelakeError if the file is missing, CannotConnect."""
    try:
        with bucket_errors(address), Storage.of(address).open(location) as file:
            content = bytes(file.read())
    except OSError as error:
        reason = os.strerror(error.errno) if error.errno else first_line(error)
        raise RidelakeError(
            f"cannot read {location} ({reason}): run `ridelake verify EPOCH` to list the missing files of an "
            "epoch"
        ) from error
    place = str(json.loads(content)["location"])
    if not place.startswith(address.join("")):
        raise UsageError(
            f"the lake was moved from {place.rsplit('/', 1)[0]} to {address.root}, and Iceberg metadata has "
            "absolute paths, so other programs find no file: move it back, or publish a new lake to an empty "
            "folder with --lake"
        )
    return content


def check_place(address: LakeAddress) -> bool:
    """Whether the lake has an epoch. Raises UsageError if the lake was moved, so that the paths in its
    metadata are wrong."""
    newest = read_epochs(address, limit=1)
    for table in (one for epoch in newest for one in list(epoch.tables.values())[:1]):
        read_metadata(address, table.metadata)
    return bool(newest)


class RestCatalog:
    """The answers. Each function runs in a thread, because it may read the lake."""

    def __init__(self, leases: EpochLeases) -> None:
        self.leases, self.address = leases, leases.address
        self.defaults = client_properties(self.address) if self.address.remote else {}

    def config(self, request: Request) -> Response:
        epoch = self.leases.named(request.query_params.get("warehouse"))
        overrides = {"prefix": f"epoch-{epoch.number}"}
        return JSONResponse({"defaults": self.defaults, "overrides": overrides, "endpoints": ENDPOINTS})

    def namespaces(self, request: Request) -> Response:
        self.leases.prefixed(request.path_params["prefix"])
        parent = request.query_params.get("parent")
        if parent not in (None, "", NAMESPACE):
            raise _no_namespace(parent)
        return JSONResponse({"namespaces": [] if parent else [[NAMESPACE]]})

    def namespace(self, request: Request) -> Response:
        epoch = self._epoch(request)
        if request.method == "HEAD":
            return Response(status_code=204)
        properties = {
            "ridelake.epoch": str(epoch.number),
            "ridelake.published_at": epoch.published_at.isoformat(),
        }
        properties |= {
            f"ridelake.token.{f'{store}.' if store else ''}{name}": str(value)
            for store, token in epoch.tokens.items()
            for name, value in asdict(token).items()
            if value is not None
        }
        return JSONResponse({"namespace": [NAMESPACE], "properties": properties})

    def tables(self, request: Request) -> Response:
        names = sorted(self._epoch(request).tables)
        return JSONResponse({"identifiers": [{"namespace": [NAMESPACE], "name": name} for name in names]})

    def table(self, request: Request) -> Response:
        epoch, name = self._epoch(request), request.path_params["table"]
        if name not in epoch.tables:
            if name in epoch.left_out:
                reason = f"{name} is not in epoch {epoch.number}: {epoch.left_out[name].reason}"
            else:
                meant = did_you_mean(name, epoch.tables)
                reason = f"epoch {epoch.number} has no table {name}: {meant}see the list of tables"
            raise RestCatalogError(404, "NoSuchTableException", reason)
        if request.method == "HEAD":
            return Response(status_code=204)
        location = epoch.tables[name].metadata
        content = read_metadata(self.address, location)
        body = b'{"metadata-location": %b, "metadata": %b, "config": {}}'
        return Response(body % (json.dumps(location).encode(), content), media_type="application/json")

    def metrics(self, request: Request) -> Response:
        self._epoch(request)
        return Response(status_code=204)

    def _epoch(self, request: Request) -> Epoch:
        """The epoch of a request for a namespace."""
        epoch = self.leases.prefixed(request.path_params["prefix"])
        if request.path_params["namespace"] != NAMESPACE:
            raise _no_namespace(request.path_params["namespace"])
        return epoch


def _no_namespace(name: str) -> RestCatalogError:
    return RestCatalogError(
        404, "NoSuchNamespaceException", f"there is no namespace {name}: the only one is {NAMESPACE}"
    )


def _on_error(request: Request, error: Exception) -> Response:
    match error:
        case RestCatalogError():
            return error_response(error.status, error.kind, str(error))
        case HTTPException():  # no such route
            kind = "NoSuchEndpointException" if error.status_code == 404 else "BadRequestException"
            message = (
                f"{HTTPStatus(error.status_code).phrase}: {request.method} is not supported at this address"
            )
            return error_response(error.status_code, kind, message)
        case CannotConnect():
            return error_response(503, "ServiceUnavailableException", str(error))
        case NotReady():  # no epoch yet
            return error_response(404, "NoSuchNamespaceException", str(error))
        case RidelakeError():
            return error_response(500, "InternalServerError", str(error))
    message = f"internal error: {type(error).__name__}: {error}"
    return error_response(500, "InternalServerError", message)


class RequestFilter:
    """Refuses requests before the application sees them: without the token, to another host, with a large
    body, or to change something. `token` None: any request to one of our own hosts is accepted; the check of
    the host excludes pages in a browser whose name was made to resolve to this machine (DNS rebinding)."""

    def __init__(self, app: ASGIApp, token: str | None, hosts: set[str]) -> None:
        self._app, self._hosts = app, hosts
        self._token = token.encode() if token is not None else None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        answer = self._refused(Request(scope)) if scope["type"] == "http" else None
        await (answer or self._app)(scope, receive, send)

    def _refused(self, request: Request) -> Response | None:
        if self._token is None:
            if request.headers.get("host", "").lower() not in self._hosts:
                message = "unknown host: use the address that `ridelake catalog serve` has printed"
                return error_response(400, "BadRequestException", message)
        else:
            scheme, _, given = request.headers.get("authorization", "").partition(" ")
            same = secrets.compare_digest(given.strip().encode(), self._token)
            if scheme.lower() != "bearer" or not same:
                message = "the token is missing or wrong: send the token of `ridelake catalog serve`"
                return error_response(
                    401, "NotAuthorizedException", message, **{"www-authenticate": "Bearer"}
                )
        size = request.headers.get("content-length", "0")
        if "transfer-encoding" in request.headers or len(size) > 9 or int(size) > BODY_BYTES_MAX:
            message = f"the request is too large: send at most {BODY_BYTES_MAX:,} bytes with Content-Length"
            return error_response(413, "BadRequestException", message, connection="close")
        if request.method in ("GET", "HEAD"):
            return None
        if request.method == "POST" and request.scope["path"].endswith("/metrics"):
            return None
        if request.method in WRITING_METHODS:
            message = "this catalog is read-only: change the rows in Postgres and run `ridelake sync`"
            return error_response(403, "ForbiddenException", message)
        message = f"{request.method} is not allowed: use GET or HEAD"
        return error_response(405, "UnsupportedOperationException", message, allow="GET, HEAD")


def build_catalog_app(leases: EpochLeases, token: str | None, hosts: set[str]) -> ASGIApp:
    """`hosts`: the accepted values of the Host header, if there is no token."""
    catalog = RestCatalog(leases)
    table = f"{TABLES}/{{table:path}}"  # the name of a table can contain a slash
    routes = [
        Route("/v1/config", catalog.config),
        Route(f"{table}/metrics", catalog.metrics, methods=["POST"]),
        Route(table, catalog.table),
        Route(TABLES, catalog.tables),
        Route(f"{NAMESPACES}/{{namespace}}", catalog.namespace),
        Route(NAMESPACES, catalog.namespaces),
    ]
    for route in routes:
        route.path_regex = re.compile(route.path_regex.pattern, re.DOTALL)  # … and a line break
    handled: dict[Any, Any] = dict.fromkeys(
        (RestCatalogError, HTTPException, RidelakeError, Exception), _on_error
    )
    app = Starlette(routes=routes, exception_handlers=handled)
    app.router.redirect_slashes = False
    return RequestFilter(app, token, hosts)
