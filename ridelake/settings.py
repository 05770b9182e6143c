"""The settings: read once in `ridelake.__main__` and passed down."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from ridelake.errors import UsageError

S3 = "s3://"

# Addresses that every S3 server and every library accepts without escaping.
S3_ROOT = re.compile(r"s3://[A-Za-z0-9][A-Za-z0-9._-]*(/[A-Za-z0-9._=-]+)*")


@dataclass(frozen=True, slots=True)
class LakeAddress:
    """Where the epochs are. `root`: an absolute folder, or s3://bucket/prefix. The catalog, which lists the
    published epochs, is the SQLite file `catalog_file` or the database at the SQLAlchemy URL `catalog_url`.
    `s3_endpoint`: the URL of an S3 server other than Amazon's."""

    root: str
    catalog_file: Path | None
    catalog_url: str | None = None
    s3_endpoint: str | None = None

    @classmethod
    def at(
        cls,
        root: str | Path,
        catalog_url: str | None = None,
        s3_endpoint: str | None = None,
        *,
        home: Path | None = None,
    ) -> "LakeAddress":
        """Without `catalog_url` the catalog is an SQLite file: in the lake's folder, or in `home` if the lake
        is remote. Raises UsageError for an invalid address."""
        if str(root).startswith(S3):
            text = str(root).rstrip("/")
            if not S3_ROOT.fullmatch(text):
                raise UsageError(
                    f"{root} is not s3://bucket/prefix: write letters, digits and . _ - = between the slashes"
                )
            name = text.removeprefix(S3).replace("/", "%2F")  # unique per lake
            file = (home or Path.cwd()) / f"{name}.sqlite"
        elif scheme := re.match(r"[A-Za-z][A-Za-z0-9+.-]*://", str(root)):
            raise UsageError(f"--lake cannot be {scheme[0]}…: give a folder or s3://bucket/prefix")
        else:
            text = str(Path(root).expanduser().resolve())  # one lake has one name
            file = Path(text) / "catalog.sqlite"
        return cls(text, None if catalog_url else file, catalog_url, s3_endpoint)

    @property
    def remote(self) -> bool:
        return self.root.startswith(S3)

    @property
    def bucket(self) -> str:
        """The bucket of a remote lake."""
        return self.root.removeprefix(S3).split("/", 1)[0]

    @property
    def folder(self) -> Path:
        """The folder of a local lake."""
        assert not self.remote
        return Path(self.root)

    def join(self, *parts: str) -> str:
        return "/".join((self.root, *parts))

    def manifest(self, number: int) -> str:
        """The location of the manifest of epoch `number`: a JSON list of its files."""
        return self.join("epochs", f"{number:05d}.json")

    def relative(self, location: str) -> str:
        assert location.startswith(f"{self.root}/")
        return location[len(self.root) + 1 :]


@dataclass(frozen=True, slots=True)
class Settings:
    """`home`: folder of the embedded server and of the default lake. `dsn`: a Postgres to use instead
    of the embedded one, or None. `lake`: where the epochs are. `debug`: show tracebacks. `spark_master`: the
    Spark master URL, or None for this machine. `catalog_token`: that of `catalog serve`."""

    home: Path
    lake: LakeAddress
    dsn: str | None = None
    debug: bool = False
    spark_master: str | None = None
    catalog_token: str | None = field(default=None, repr=False)

    @classmethod
    def read(
        cls,
        environment: Mapping[str, str],
        *,
        home: str | None = None,
        dsn: str | None = None,
        lake: str | None = None,
        catalog: str | None = None,
        debug: bool = False,
        spark_master: str | None = None,
    ) -> "Settings":
        """An option overrides `RIDELAKE_HOME`, `RIDELAKE_DSN`, `RIDELAKE_LAKE` and `RIDELAKE_CATALOG`, which
        override the defaults in `./.ridelake`. The URL of an S3 server other than Amazon's is
        `RIDELAKE_S3_ENDPOINT`, or the variables of Amazon's tools. Raises UsageError for an invalid
        address."""
        home_path = Path(home or environment.get("RIDELAKE_HOME") or ".ridelake").expanduser().absolute()
        return cls(
            home=home_path,
            lake=LakeAddress.at(
                lake or environment.get("RIDELAKE_LAKE") or home_path / "lake",
                catalog or environment.get("RIDELAKE_CATALOG") or None,
                _s3_endpoint(environment),
                home=home_path,
            ),
            dsn=dsn or environment.get("RIDELAKE_DSN") or None,
            debug=debug,
            spark_master=_spark_master(spark_master or environment.get("RIDELAKE_SPARK_MASTER") or None),
            catalog_token=environment.get("RIDELAKE_CATALOG_TOKEN") or None,
        )


def _spark_master(text: str | None) -> str | None:
    if text is not None and not re.fullmatch(r"local(\[(\*|[1-9]\d*)\])?|spark://\S+:\d+|sc://\S+", text):
        raise UsageError(
            f"--spark-master takes local[4], spark://host:7077 or sc://host:15002 (Spark Connect), not {text}"
        )
    return text


def _s3_endpoint(environment: Mapping[str, str]) -> str | None:
    for name in ("RIDELAKE_S3_ENDPOINT", "AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL"):
        if url := environment.get(name):
            if not re.fullmatch(r"https?://[^/?#]+/?", url):
                raise UsageError(f"{name} takes an address like http://localhost:9000, not {url}")
            return url.rstrip("/")
    return None
