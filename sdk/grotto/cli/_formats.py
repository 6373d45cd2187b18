"""Which objects a file on disk stands for. None of these formats can carry code."""

from __future__ import annotations

import importlib
import json
from pathlib import Path
from types import ModuleType
from typing import Any

from grotto.errors import InvalidArgumentError

FORMATS = ".csv, .json, .npy, .parquet or .txt"
_SUFFIXES = frozenset({".csv", ".json", ".npy", ".parquet", ".txt"})


def load(path: Path) -> Any:
    """Returns the object a file holds, by its suffix; raises InvalidArgumentError."""
    check_suffix(path)
    try:
        return _load(path)
    except (OSError, ValueError, ImportError) as error:
        raise InvalidArgumentError(f"{path} cannot be read: {error}") from error


def save(value: Any, path: Path) -> None:
    """Writes an object in the form the suffix names; raises InvalidArgumentError."""
    check_suffix(path)
    try:
        _save(value, path)
    except (OSError, ValueError, TypeError, AttributeError, ImportError) as error:
        raise InvalidArgumentError(
            f"A {type(value).__name__} cannot be written to {path}: {error}"
        ) from error


def check_suffix(path: Path) -> None:
    """Raises InvalidArgumentError for a suffix that no format has."""
    if path.suffix.lower() not in _SUFFIXES:
        raise InvalidArgumentError(f"{path} has no known format.", hint=f"Use {FORMATS}.")


def _load(path: Path) -> Any:
    match path.suffix.lower():
        case ".csv":
            return _module("pandas").read_csv(path)
        case ".parquet":
            return _module("pandas").read_parquet(path)
        case ".npy":
            return _module("numpy").load(path, allow_pickle=False)
        case ".json":
            return json.loads(path.read_text("utf-8"))
        case _:
            return path.read_text("utf-8")


def _save(value: Any, path: Path) -> None:
    match path.suffix.lower():
        case ".csv":
            value.to_csv(path)
        case ".parquet":
            value.to_parquet(path)
        case ".npy":
            _module("numpy").save(path, value, allow_pickle=False)
        case ".json":
            path.write_text(_json(value), "utf-8")
        case _:
            path.write_text(value if isinstance(value, str) else str(value), "utf-8")


def _json(value: Any) -> str:
    if hasattr(value, "to_json"):
        return str(value.to_json())
    return json.dumps(value.tolist() if hasattr(value, "tolist") else value, indent=1)


def _module(name: str) -> ModuleType:
    return importlib.import_module(name)
