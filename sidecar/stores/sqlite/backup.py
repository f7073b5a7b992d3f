"""A copy of a database that is in use."""

from __future__ import annotations

import os
from contextlib import ExitStack
from pathlib import Path

from sidecar.errors import InvalidValue
from sidecar.stores.sqlite.connections import reading, writing


def back_up(source: Path, target: str) -> None:
    """Copies one snapshot to a new file of mode 0600, and leaves no half of one behind.

    Raises InvalidValue where the file exists or cannot be made.
    """
    path = Path(target).absolute()
    _create_private(path)
    try:
        _copy(source, path)
    except BaseException:
        path.unlink()
        raise


def _create_private(path: Path) -> None:
    try:
        os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
    except FileExistsError as error:
        raise InvalidValue(f"{path} exists already: name a new file") from error
    except OSError as error:
        raise InvalidValue(f"{path} cannot be made: {error.strerror}") from error


def _copy(source: Path, target: Path) -> None:
    with ExitStack() as opened:
        reader = reading(opened, source)
        writer = writing(opened, target, patience=0)
        reader.backup(writer)
