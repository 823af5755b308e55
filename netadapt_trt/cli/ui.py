"""``ui``: the page."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from netadapt_trt.cli.errors import verb
from netadapt_trt.cli.options import JsonOption
from netadapt_trt.cli.output import Output
from netadapt_trt.errors import NetadaptError, SpecError

__all__ = ["run"]


@verb
def run(
    workspace: Annotated[
        Path,
        typer.Option("--workspace", metavar="DIR", help="Whose tables and runs are shown, and where new ones go."),
    ] = Path(),
    host: Annotated[
        str, typer.Option("--host", metavar="ADDRESS", help="What to listen on; anything else opens the page to others.")
    ] = "127.0.0.1",
    allow_host: Annotated[
        list[str] | None,
        typer.Option(
            "--allow-host",
            metavar="NAME",
            help="A name of this machine that a browser may ask for, besides its own and its addresses; repeatable.",
            show_default=False,
        ),
    ] = None,
    port: Annotated[int, typer.Option("--port", min=0, max=65535, help="Where to listen.")] = 7860,
    data: Annotated[
        list[str] | None,
        typer.Option(
            "--data",
            metavar="DATA",
            help="Data outside the workspace that searches may train on, as imagefolder:DIR or cifar10:DIR; repeatable.",
            show_default=False,
        ),
    ] = None,
    upload_limit: Annotated[
        int, typer.Option("--upload-limit", min=1, metavar="MIB", help="The largest file that is taken, in MiB.")
    ] = 64,
    as_json: JsonOption = False,
) -> None:
    """Serve a page in the browser: search blocks, browse tables, follow and compare runs.

    It has an HTTP interface, too (docs/ui.md). Jobs are processes of their own and go on when the browser or this server
    ends, and a server that is started again finds them. There is no password; by default only this machine reaches the
    page. --json says where it listens as soon as it does.

    Examples:

        netadapt-trt ui

        netadapt-trt ui --workspace work --data cifar10:/data/cifar10 --port 8000
    """
    with Output(as_json) as out:
        from netadapt_trt.webui.start import open_page

        try:
            open_page(
                workspace,
                host=host,
                port=port,
                data=tuple(_checked(spec) for spec in data or ()),
                allowed_hosts=tuple(allow_host or ()),
                upload_limit=upload_limit << 20,
                progress=out.progress,
                ready=lambda url: out.result({"url": url, "workspace": str(workspace.resolve())}, lambda _: None),
            )
        except ModuleNotFoundError as error:
            if error.name is None or error.name.split(".")[0] not in ("dash", "flask", "waitress"):
                raise
            raise NetadaptError(
                f"the page needs {error.name}, which is not installed; run: pip install 'netadapt-trt[ui]'"
            ) from error


def _checked(spec: str) -> str:
    """A data spec whose folder is there: said now, not by the first search. Raises SpecError."""
    scheme, colon, folder = spec.partition(":")
    if not colon or not Path(folder).is_dir():
        raise SpecError(f"--data {spec!r}: write imagefolder:DIR or cifar10:DIR with a directory that exists")
    return f"{scheme}:{Path(folder).resolve()}"
