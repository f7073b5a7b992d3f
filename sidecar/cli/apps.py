"""`sidecar apps`: the applications that rules name."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from sidecar.cli.output import Moment, Record, json_option, print_list, print_one, remark
from sidecar.cli.running import administering, administering_new_store, with_services
from sidecar.names import check_label, check_name
from sidecar.records import App

if TYPE_CHECKING:
    from sidecar.app import Services

_id_argument = click.argument("app_id", metavar="ID")


@click.group()
def apps() -> None:
    """Apps that rules name. An app that a rule names need not be here, except to be disabled."""


@apps.command("add")
@_id_argument
@click.option("--name", help="As people read it; by default the id.")
@json_option
@administering_new_store
async def add(services: Services, *, app_id: str, name: str | None, as_json: bool) -> None:
    """Add an app."""
    check_label(app_id, "an app's id")
    if name is not None:
        check_name(name, "an app's name")
    app = App(app_id, app_id if name is None else name, disabled=False, created_at=services.clock.now())
    await services.store.apps.add(app)
    print_one(_record(app), as_json=as_json)


@apps.command("list")
@json_option
@with_services
async def list_apps(services: Services, *, as_json: bool) -> None:
    """List the apps."""
    found = await services.store.apps.list()
    columns = ("id", "name", "disabled", "created_at")
    print_list([_record(app) for app in found], columns, as_json=as_json)


@apps.command("disable")
@_id_argument
@administering
async def disable(services: Services, *, app_id: str) -> None:
    """Disable an app: rules that demand a sign-in refuse it.

    A public rule that names the app lets everybody pass as before.
    """
    await _set_disabled(services, app_id, disabled=True)


@apps.command("enable")
@_id_argument
@administering
async def enable(services: Services, *, app_id: str) -> None:
    """Enable an app again."""
    await _set_disabled(services, app_id, disabled=False)


async def _set_disabled(services: Services, app_id: str, *, disabled: bool) -> None:
    await services.store.apps.set_disabled(app_id, disabled=disabled)
    remark(f"{app_id} {'disabled' if disabled else 'enabled'}")


def _record(app: App) -> Record:
    return {
        "id": app.id,
        "name": app.name,
        "disabled": app.disabled,
        "created_at": Moment(app.created_at),
    }
