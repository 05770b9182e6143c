"""Where things are: three facts, read once at the edge and passed down."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Settings:
    """`home`: folder of the embedded server and of the default lake. `dsn`: a Postgres to use instead
    of the embedded one, or None. `lake`: folder of the epochs. `debug`: show tracebacks."""

    home: Path
    lake: Path
    dsn: str | None = None
    debug: bool = False

    @classmethod
    def read(
        cls,
        environment: Mapping[str, str],
        *,
        home: str | None = None,
        dsn: str | None = None,
        lake: str | None = None,
        debug: bool = False,
    ) -> "Settings":
        """A flag wins over `RIDELAKE_HOME`, `RIDELAKE_DSN`, `RIDELAKE_LAKE`, which win over `./.ridelake`."""
        home_path = Path(home or environment.get("RIDELAKE_HOME") or ".ridelake").expanduser().absolute()
        lake_text = lake or environment.get("RIDELAKE_LAKE")
        return cls(
            home=home_path,
            lake=Path(lake_text).expanduser().absolute() if lake_text else home_path / "lake",
            dsn=dsn or environment.get("RIDELAKE_DSN") or None,
            debug=debug,
        )
