"""An S3 server: the settings of each library, its errors, and a file system for DuckDB.

Credentials and region come from the usual AWS sources: AWS_ACCESS_KEY_ID …, AWS_PROFILE, ~/.aws, the role of
the machine. Every library reads them itself, so they are not in a query, a plan or a log. The exceptions are
DataFusion and Polars, which do not read profiles, and the executors of a Spark cluster: they get
`credentials`.

The file system `PinnedFiles` opens only the files that it was created for, whatever the query contains.
"""

import re
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from functools import lru_cache
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar
from urllib.parse import quote, urlsplit

import pyarrow as pa
from fsspec import AbstractFileSystem
from pyarrow import fs

from ridelake.errors import CannotConnect, RidelakeError, UsageError
from ridelake.settings import S3, LakeAddress

if TYPE_CHECKING:
    import duckdb

CONNECT_SECONDS = 5.0
ANSWER_SECONDS = 30.0
ATTEMPTS = 3
FILES_CHECKED_MAX = 3

AWS_ERROR = re.compile(r"AWS Error (\w+)(?: \(HTTP status (\d+)\))?")
KEYS_REFUSED = {
    "INVALID_ACCESS_KEY_ID", "INVALID_CLIENT_TOKEN_ID", "SIGNATURE_DOES_NOT_MATCH", "UNRECOGNIZED_CLIENT",
    "INVALID_SIGNATURE", "MISSING_AUTHENTICATION_TOKEN", "EXPIRED_TOKEN", "REQUEST_EXPIRED",
}  # fmt: skip
NO_ANSWER = {"NETWORK_CONNECTION", "REQUEST_TIMEOUT", "SERVICE_UNAVAILABLE", "INTERNAL_FAILURE"}
THROTTLED = {"SLOW_DOWN", "THROTTLING"}
# botocore's names of the sources that belong to a machine.
MACHINE_ROLES = ("iam-role", "container-role", "assume-role-with-web-identity")


class Credentials(NamedTuple):
    """The values of AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and AWS_SESSION_TOKEN."""

    key: str
    secret: str
    token: str | None

    def __repr__(self) -> str:
        return "Credentials(…)"  # must not be in a log or a traceback


def credentials() -> Credentials | None:
    """The current credentials of the environment or the profile. None if there are none: then each machine
    uses its role."""
    if (source := _credentials_source()) is None:
        return None
    frozen = source.get_frozen_credentials()  # renews them if they expire
    return Credentials(frozen.access_key, frozen.secret_key, frozen.token)


@lru_cache(maxsize=1)
def _credentials_source() -> Any | None:
    try:  # imported here, because it takes 0.2 s to import, and few engines need it
        from botocore.session import Session
    except ImportError:  # without the extras `engines` and `spark`
        return None
    found = Session().get_credentials()
    return None if found is None or found.method in MACHINE_ROLES else found


def object_url(address: LakeAddress, location: str) -> str:
    """The HTTP URL of an object, for libraries that do not open s3://."""
    endpoint = address.s3_endpoint or f"https://s3.{s3_filesystem(address).region}.amazonaws.com"
    return f"{endpoint}/{quote(location.removeprefix(S3))}"


def filesystem_of(address: LakeAddress, location: str) -> fs.FileSystem:
    """The file system of one file: an overlay of a remote lake has local files."""
    return s3_filesystem(address) if location.startswith(S3) else fs.LocalFileSystem()


def open_file(address: LakeAddress, location: str) -> pa.NativeFile:
    return filesystem_of(address, location).open_input_file(location.removeprefix(S3))


def s3_filesystem(address: LakeAddress) -> fs.S3FileSystem:
    """One instance per endpoint, because creating one looks up the credentials, which may need the
    network."""
    return _filesystem(address.s3_endpoint)


def server_arguments(address: LakeAddress, given: Credentials | None) -> dict[str, Any]:
    """The arguments of pyarrow's S3FileSystem on another machine. `max_attempts`: of its retry strategy."""
    url = urlsplit(address.s3_endpoint) if address.s3_endpoint else None
    key, secret, token = given or (None, None, None)
    return {
        "access_key": key,
        "secret_key": secret,
        "session_token": token,
        "region": s3_filesystem(address).region,
        "endpoint_override": url.netloc if url else None,
        "scheme": url.scheme if url else "https",
        "connect_timeout": CONNECT_SECONDS,
        "max_attempts": ATTEMPTS,
    }


@lru_cache(maxsize=8)
def _filesystem(endpoint: str | None) -> fs.S3FileSystem:
    url = urlsplit(endpoint) if endpoint else None
    return fs.S3FileSystem(
        endpoint_override=url.netloc if url else None,
        scheme=url.scheme if url else "https",
        connect_timeout=CONNECT_SECONDS,
        retry_strategy=fs.AwsStandardS3RetryStrategy(max_attempts=ATTEMPTS),
        allow_delayed_open=True,  # a small file is one request instead of three
    )


def client_properties(address: LakeAddress) -> dict[str, str]:
    """For the Iceberg libraries of other programs, without credentials. Without a region, pyiceberg asks
    Amazon for it, even if the server is not Amazon's."""
    region = {"s3.region": s3_filesystem(address).region}
    return region | ({"s3.endpoint": address.s3_endpoint} if address.s3_endpoint else {})


def iceberg_properties(address: LakeAddress) -> dict[str, str]:
    """For the pyiceberg of ridelake."""
    return client_properties(address) | {"s3.connect-timeout": str(CONNECT_SECONDS)}


def polars_options(address: LakeAddress) -> dict[str, Any]:
    """For Polars' `storage_options`. Polars has no timeout by default."""
    options: dict[str, Any] = {
        "aws_region": s3_filesystem(address).region,
        "max_retries": ATTEMPTS - 1,
        "connect_timeout": f"{CONNECT_SECONDS:.0f} seconds",
        "timeout": f"{ANSWER_SECONDS:.0f} seconds",
    }
    if address.s3_endpoint is not None:
        options |= {"aws_endpoint_url": address.s3_endpoint}
        options |= {"aws_allow_http": str(address.s3_endpoint.startswith("http://")).lower()}
    return options


def polars_credentials() -> tuple[dict[str, str], None]:
    """For Polars' `credential_provider`, which it calls before it reads. Raises ValueError if there are
    none."""
    if (found := credentials()) is None:
        raise ValueError("there are no credentials in the environment or the profile")
    names = ("aws_access_key_id", "aws_secret_access_key", "aws_session_token")
    return {name: text for name, text in zip(names, found, strict=True) if text is not None}, None


@contextmanager
def bucket_errors(address: LakeAddress) -> Iterator[None]:
    """Convert S3 errors into messages for the user. Raises CannotConnect if the server does not respond,
    UsageError for permanent errors."""
    try:
        yield
    except OSError as error:
        if address.remote and (converted := _converted(address, error)):
            raise converted from error
        raise


def no_bucket(address: LakeAddress) -> UsageError:
    where = address.s3_endpoint or "Amazon S3"
    return UsageError(
        f"there is no bucket {address.bucket} at {where}: create it, or choose another bucket with --lake"
    )


def _converted(address: LakeAddress, error: OSError) -> RidelakeError | None:
    where = address.s3_endpoint or "Amazon S3"
    found = AWS_ERROR.search(str(error))
    code, status = (found[1], found[2]) if found else ("", None)
    if code == "NO_SUCH_BUCKET":
        return no_bucket(address)
    if code in KEYS_REFUSED:
        return UsageError(
            f"{where} does not accept the credentials: correct AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, "
            "or the profile that AWS_PROFILE names"
        )
    if code == "ACCESS_DENIED" or status == "403":
        return UsageError(
            f"permission denied for {address.root} at {where}: allow these credentials to list, read, "
            "write and delete objects there, or use others (AWS_PROFILE, AWS_ACCESS_KEY_ID)"
        )
    if code in THROTTLED or status == "503":
        return CannotConnect(
            f"{where} limits the rate of requests (HTTP 503): wait and run the command again, or raise the "
            "limit of the server"
        )
    if code in NO_ANSWER:
        return CannotConnect(
            f"{where} does not respond: check that the server runs and that RIDELAKE_S3_ENDPOINT is its "
            "address"
        )
    if status in ("301", "400"):
        return UsageError(
            f"{where} rejects requests for {address.bucket}: set AWS_REGION to the bucket's region, and "
            "check that RIDELAKE_S3_ENDPOINT is an S3 server"
        )
    if isinstance(error, FileNotFoundError):
        with suppress(OSError):  # the answer to a HEAD request does not say what is missing
            if s3_filesystem(address).get_file_info(address.bucket).type == fs.FileType.NotFound:
                return no_bucket(address)
        return RidelakeError(
            f"a file of the lake is missing ({error}): run the command again, because its epoch may have "
            "just been expired; otherwise run `ridelake verify EPOCH`"
        )
    return None


@contextmanager
def read_errors(address: LakeAddress, locations: Sequence[str]) -> Iterator[None]:
    """While an engine reads these files: if it fails because of the S3 server, raise the error of
    `bucket_errors` instead of that of the engine, whose text depends on its library."""
    try:
        yield
    except Exception as error:
        check_readable(address, locations, str(error))
        raise


def check_readable(address: LakeAddress, locations: Sequence[str], message: str = "") -> None:
    """Check in bounded time that the first file, and the files that the message names, can be read. Raises
    the errors of `bucket_errors`."""
    remote = [location for location in locations if location.startswith(S3)]
    named = [location for location in remote if location.rsplit("/", 1)[1] in message]
    with bucket_errors(address):
        for location in [*remote[:1], *named[:FILES_CHECKED_MAX]]:
            with open_file(address, location) as file:
                file.read_at(1, 0)


T = TypeVar("T")

# The files never change, so any fixed time is correct.
UNCHANGED_SINCE = datetime(2000, 1, 1, tzinfo=UTC)


def register_files(
    connection: "duckdb.DuckDBPyConnection", address: LakeAddress, locations: Iterable[str]
) -> "PinnedFiles":
    """Allow the connection to read the locations that are on S3."""
    remote = frozenset(location for location in locations if location.startswith(S3))
    pinned = PinnedFiles(address, remote)
    connection.register_filesystem(pinned)
    return pinned


class PinnedFiles(AbstractFileSystem):  # type: ignore[misc]
    """A read-only fsspec file system that opens only the registered files."""

    protocol = "s3"
    cachable = False

    def __init__(self, address: LakeAddress, locations: frozenset[str]) -> None:
        super().__init__()
        self._address = address
        self._storage = s3_filesystem(address)
        self._failure: OSError | None = None
        self._locations = locations

    def attempt(self, work: Callable[[], T]) -> T:
        try:
            return work()
        except OSError as error:
            self._failure = self._failure or error
            raise

    @contextmanager
    def refusals(self) -> Iterator[None]:
        """While DuckDB runs: raise an error of the S3 server itself, not DuckDB's error with a traceback."""
        import duckdb  # imported here, because a copy does not need it

        try:
            yield
        except duckdb.Error:
            failure, self._failure = self._failure, None
            if failure is None:
                raise
            with bucket_errors(self._address):
                raise failure from None

    def open(self, path: str, mode: str = "rb", **more: Any) -> "PinnedFile":
        if path not in self._locations or mode != "rb":
            raise PermissionError(f"{path} is not a file of the epoch, or is opened for writing ({mode})")
        return PinnedFile(self, self.attempt(lambda: self._storage.open_input_file(path.removeprefix(S3))))

    def glob(self, path: str, **more: Any) -> list[str]:
        return [path] if path in self._locations else []

    def exists(self, path: str, **more: Any) -> bool:
        return path in self._locations

    isfile = exists

    def size(self, path: str) -> int:
        with self.open(path) as file:
            return file.size()

    def modified(self, path: str) -> datetime:
        return UNCHANGED_SINCE


class PinnedFile:
    """DuckDB seeks and then reads one file in several threads, so each thread has its own position."""

    def __init__(self, owner: PinnedFiles, file: pa.NativeFile) -> None:
        self._owner = owner
        self._file = file
        self._places: dict[int, int] = {}

    def __enter__(self) -> "PinnedFile":
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def size(self) -> int:
        return int(self._file.size())

    def tell(self) -> int:
        return self._places.get(threading.get_ident(), 0)

    def seek(self, offset: int, whence: int = 0) -> int:
        place = offset + (0, self.tell(), self.size())[whence]
        self._places[threading.get_ident()] = place
        return place

    def read(self, size: int = -1) -> bytes:
        place = self.tell()
        wanted = size if size >= 0 else self.size() - place
        block: bytes = self._owner.attempt(lambda: self._file.read_at(wanted, place))
        self._places[threading.get_ident()] = place + len(block)
        return block

    def close(self) -> None:
        self._file.close()
