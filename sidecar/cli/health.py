"""`sidecar health`: for a container's health check."""

from __future__ import annotations

from pathlib import Path

import click

from sidecar.cli.addresses import Endpoint, endpoint_of
from sidecar.cli.running import config_option, read_settings

_LONGEST_WAIT = 2.0
_OK = 200


@click.command()
@config_option
@click.option("--url", help="What to ask; by default /healthz at server.admin_listen of the settings.")
def health(config: Path | None, url: str | None) -> None:
    """Ask a running sidecar whether it is well. Exit status 1 where it is not."""
    endpoint = _healthz(config) if url is None else Endpoint(url)
    if fault := _fault(endpoint):
        raise click.ClickException(f"not healthy: {endpoint.socket or endpoint.url}: {fault}")
    click.echo("healthy")


def _healthz(config: Path | None) -> Endpoint:
    """It says that the process answers. /readyz also asks the store, which a restart would not mend."""
    admin = endpoint_of(read_settings(config).server.admin_listen)
    return Endpoint(f"{admin.url}/healthz", admin.socket)


def _fault(endpoint: Endpoint) -> str:
    """What is wrong; empty where nothing is."""
    import httpx

    try:
        with httpx.Client(
            transport=httpx.HTTPTransport(uds=endpoint.socket, trust_env=False),
            trust_env=False,  # a proxy of the environment does not lead to this machine
            timeout=_LONGEST_WAIT,
        ) as client:
            status = client.get(endpoint.url).status_code
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        return str(error) or type(error).__name__
    return "" if status == _OK else f"status {status}"
