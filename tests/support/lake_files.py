"""The files in a lake's folder."""

from pathlib import Path


def files_of(folder: Path) -> set[Path]:
    """All files of a lake except the catalog."""
    return {path for path in folder.rglob("*") if path.is_file() and not path.name.startswith("catalog")}


def data_files(folder: Path) -> set[Path]:
    return {path for path in folder.rglob("*.parquet") if path.is_file()}
