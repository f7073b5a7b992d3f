"""`sidecar backup`: a copy of the store."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from sidecar.cli.output import remark
from sidecar.cli.running import administering

if TYPE_CHECKING:
    from sidecar.app import Services


@click.command()
@click.argument("file")
@administering
async def backup(services: Services, *, file: str) -> None:
    """Copy the store to a new FILE, also while the service runs. An existing file is refused.

    The copy is consistent, and private to its owner (mode 0600): signing keys are in it. To restore it, stop
    the service and put it in the store's place.
    """
    await services.store.backup(file)
    remark(f"copied to {file!r}")
