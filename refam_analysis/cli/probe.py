"""``refam probe``: the probe as a page, for oneself or for a class."""

from __future__ import annotations

from typing import Annotated

import typer

from refam_analysis.cli.options import ModelOption
from refam_analysis.widgets.server_settings import DEFAULT_PORT


def probe(
    model: ModelOption = "embedded",
    host: Annotated[str, typer.Option(help="Address to listen on; only this machine reaches 127.0.0.1.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Port to listen on; 0 for any that is free.")] = DEFAULT_PORT,
    token: Annotated[
        str | None,
        typer.Option(help="What visitors' addresses must carry; a random one by default.", envvar="REFAM_PROBE_TOKEN"),
    ] = None,
    no_token: Annotated[bool, typer.Option("--no-token", help="Ask for none.")] = False,
    open_to_anyone: Annotated[
        bool, typer.Option("--open-to-anyone", help="Allow --no-token on an address that a network reaches.")
    ] = False,
    public_address: Annotated[
        str | None, typer.Option(help="What visitors type, where a reverse proxy stands in front.")
    ] = None,
    visitors: Annotated[int, typer.Option(help="How many there may be at a time; each has a process.")] = 8,
    idle_minutes: Annotated[float, typer.Option(help="After which a visit ends in which nothing is asked.")] = 30.0,
    browser: Annotated[bool, typer.Option(help="Open the page in the browser.")] = True,
) -> None:
    """Serve the probe, an app to try one's own sentences and pictures in, until Ctrl-C."""
    from refam_analysis.widgets.server import serve_probe
    from refam_analysis.widgets.server_settings import ServerSettings

    if no_token and token:
        raise typer.BadParameter("give either --token or --no-token")
    settings = ServerSettings(
        model=model, host=host, port=port, token="" if no_token else token or None, open_to_anyone=open_to_anyone,
        public_address=public_address, visitors=visitors, idle_minutes=idle_minutes,
    )  # fmt: skip
    typer.echo("Loading the model; the address follows.", err=True)
    serve_probe(settings, ready=_tell, open_browser=browser)
    typer.echo("Ended: every visit is over, and nothing is left behind.", err=True)


def _tell(address: str) -> None:
    typer.echo(f"The probe is at {address}\nCtrl-C ends it.")
