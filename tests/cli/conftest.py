"""A store for each test, and nothing of the outside in its settings."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cli.commands import Cli, make_store
from tests.logs import logging_as_it_was


@pytest.fixture(autouse=True)
def surroundings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """An empty working directory, no settings in the environment, and logging as it was afterwards."""
    monkeypatch.chdir(tmp_path)
    for name in os.environ:
        if name.startswith("SIDECAR_"):
            monkeypatch.delenv(name)
    with logging_as_it_was():
        yield


@pytest.fixture
def cli(tmp_path: Path) -> Cli:
    """Commands on an empty store."""
    config = tmp_path / "settings.toml"
    tables = f'[store]\nurl = "sqlite:///{tmp_path / "store.db"}"\n[audit]\nfile = "{tmp_path / "audit"}"\n'
    config.write_text(tables, encoding="utf-8")
    make_store(tmp_path / "store.db")
    return Cli(config)


@pytest.fixture
def ann(cli: Cli) -> int:
    """The id of a user without a password."""
    user = cli.json("users", "add", "ann", "--email", "ann@example.com", "--role", "dev")
    return int(user["id"])
