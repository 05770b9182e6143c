"""A server that speaks S3: what each library has to be told of it, and what its errors mean.

Credentials and region come from where Amazon's own tools look for them: AWS_ACCESS_KEY_ID …, AWS_PROFILE,
~/.aws, the machine's role. Nobody passes them on: every library looks there by itself.
"""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from typing import Any
from urllib.parse import urlsplit

from pyarrow import fs

from ridelake.errors import CannotConnect, RidelakeError, UsageError
from ridelake.settings import LakeAddress

CONNECT_SECONDS = 5.0
ANSWER_SECONDS = 30.0
ATTEMPTS = 3

AWS_ERROR = re.compile(r"AWS Error (\w+)(?: \(HTTP status (\d+)\))?")
KEYS_REFUSED = {
    "INVALID_ACCESS_KEY_ID", "INVALID_CLIENT_TOKEN_ID", "SIGNATURE_DOES_NOT_MATCH", "UNRECOGNIZED_CLIENT",
    "INVALID_SIGNATURE", "MISSING_AUTHENTICATION_TOKEN", "EXPIRED_TOKEN", "REQUEST_EXPIRED",
}  # fmt: skip
NO_ANSWER = {
    "NETWORK_CONNECTION", "REQUEST_TIMEOUT", "SERVICE_UNAVAILABLE", "SLOW_DOWN", "THROTTLING",
    "INTERNAL_FAILURE",
}  # fmt: skip


def s3_filesystem(address: LakeAddress) -> fs.S3FileSystem:
    """One and the same for an endpoint: making one looks for credentials, which may be far away."""
    return _filesystem(address.s3_endpoint)


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


def iceberg_properties(address: LakeAddress) -> dict[str, str]:
    """For pyiceberg's FileIO. Without a region it would ask Amazon for the bucket's, of whatever server."""
    properties = {
        "s3.region": s3_filesystem(address).region,
        "s3.connect-timeout": str(CONNECT_SECONDS),
    }
    return properties | ({"s3.endpoint": address.s3_endpoint} if address.s3_endpoint else {})


def polars_options(address: LakeAddress) -> dict[str, Any]:
    """For Polars' `storage_options`. By itself it would wait for an answer for ever."""
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


@contextmanager
def refusing_a_bad_bucket(address: LakeAddress) -> Iterator[None]:
    """Say what is wrong with a remote lake, and what to do. Raises CannotConnect if nobody answers,
    UsageError for what waiting does not mend."""
    try:
        yield
    except OSError as error:
        if address.remote and (refusal := _refusal(address, error)):
            raise refusal from error
        raise


def no_bucket(address: LakeAddress) -> UsageError:
    where = address.s3_endpoint or "Amazon S3"
    return UsageError(
        f"there is no bucket {address.bucket} at {where}: create it, or choose another with --lake"
    )


def _refusal(address: LakeAddress, error: OSError) -> RidelakeError | None:
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
            f"these credentials may not do this in {address.root} at {where}: give them leave to list, read, "
            "write and delete objects there, or use others (AWS_PROFILE, AWS_ACCESS_KEY_ID)"
        )
    if code in NO_ANSWER:
        return CannotConnect(
            f"{where} does not answer: see whether it runs and whether RIDELAKE_S3_ENDPOINT is its address"
        )
    if status in ("301", "400"):
        return UsageError(
            f"{where} does not take requests for {address.bucket} as we send them: set AWS_REGION to the "
            "bucket's region, and see whether RIDELAKE_S3_ENDPOINT is an S3 server"
        )
    if isinstance(error, FileNotFoundError):
        return RidelakeError(
            f"a file of the lake is not there any more ({error}): if its epoch was expired meanwhile, ask "
            "again; else see `ridelake verify EPOCH`"
        )
    return None
