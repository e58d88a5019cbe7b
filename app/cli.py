"""The `stepwell` command: reads its options, says in one line each what is wrong with them, and starts the service."""

import sys
import tokenize
from importlib.metadata import version
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer

from app import cli_db
from app.banner import banner
from app.executors.source_check import check_source
from app.exiting import ExitWatch
from app.logging_setup import set_up_logging
from app.main import StartupError, connection_limits, create_app, machines_of
from app.serving import AddressUnavailable, address_for_others, address_of, listen, serve
from app.sessions.loading import MachineLoadError
from app.settings import Settings, SettingsInvalid, read_settings

__all__ = ["main"]

_WRONG = 2  # the exit code for everything that the user can put right

command = typer.Typer(
    name="stepwell",
    help="Host many concurrent state-machine sessions over REST and server-sent events.",
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
command.add_typer(cli_db.command, name="db")


def main() -> None:
    """Run the command line; the entry point of the installed script."""
    command()


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"stepwell {version('stepwell')}")
        raise typer.Exit


@command.callback()
def _root(
    show_version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and leave.")
    ] = False,
) -> None:
    pass


@command.command("serve")
def serve_command(
    machines: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[MACHINE]...",
            help="What to host: package.module:name, path/to/file.py:name, or a file that defines one machine.",
            show_default=False,
        ),
    ] = None,
    host: Annotated[str | None, typer.Option(help="Address to listen on [default: 127.0.0.1].")] = None,
    port: Annotated[int | None, typer.Option(help="Port to listen on, 0 for a free one [default: 8000].")] = None,
    database_url: Annotated[
        str | None,
        typer.Option(
            help="sqlite:///file.db, postgresql://user:password@host/name or memory:// [default: sqlite:///stepwell.db]."
        ),
    ] = None,
    migrate: Annotated[bool | None, typer.Option(help="Bring the database's schema up to date at start.")] = None,
    threads: Annotated[int | None, typer.Option(help="Threads that run sync actions [default: 64].")] = None,
    executor: Annotated[
        str | None, typer.Option(help="Where sync actions run by default: thread, process, dask or auto [default: thread].")
    ] = None,
    processes: Annotated[int | None, typer.Option(help="Worker processes for CPU-bound actions [default: one per core].")] = None,
    dask: Annotated[str | None, typer.Option(help="Dask scheduler: tcp://host:8786, local or local:N.")] = None,
    isolate_blocking: Annotated[
        bool | None,
        typer.Option("--isolate-blocking", help="Give async actions that keep holding the event loop a loop of their own."),
    ] = None,
    log_level: Annotated[str | None, typer.Option(help="debug, info, warning or error [default: info].")] = None,
    log_format: Annotated[str | None, typer.Option(help="console or json [default: console].")] = None,
) -> None:
    """Start the service. Every option, and more, is also a STEPWELL_... environment variable."""
    options: dict[str, Any] = {
        "machines": tuple(machines) if machines else None,
        "host": host,
        "port": port,
        "database_url": database_url,
        "migrate": migrate,
        "threads": threads,
        "executor": executor,
        "processes": processes,
        "dask": dask,
        "isolate_blocking": isolate_blocking,
        "log_level": log_level,
        "log_format": log_format,
    }
    try:
        _serve(read_settings(**{name: value for name, value in options.items() if value is not None}))
    except SettingsInvalid as exc:
        _stop(*exc.problems)
    except (MachineLoadError, AddressUnavailable, StartupError) as exc:
        _stop(str(exc))


@command.command("check")
def check_command(
    files: Annotated[list[Path], typer.Argument(metavar="FILE...", help="Sources of machines; nothing in them is run.")],
) -> None:
    """Look in the source of machines for calls that block every session. Exit code 1 if there are any."""
    blocking = False
    for file in files:
        try:
            with tokenize.open(file) as source:  # in the encoding that Python would read it in
                findings = check_source(source.read(), str(file))
        except (OSError, UnicodeDecodeError, SyntaxError) as exc:
            _stop(f"{file}: {exc}")
        for found in findings:
            kind = "hint" if found.is_hint else "warning"
            typer.echo(f"{file}:{found.line}:{found.column}: {kind} [{found.rule}] {found.message}")
        blocking = blocking or any(not found.is_hint for found in findings)
    raise typer.Exit(1 if blocking else 0)


def _serve(settings: Settings) -> None:
    set_up_logging(settings.log_level, settings.log_format)
    machines = machines_of(settings)
    with listen(settings.host, settings.port) as listener:
        exits = ExitWatch(settings.shutdown_grace_s, leaves_by_signal=False)
        app = create_app(settings, machines, address_for_others(listener), exits)
        lines = banner(address_of(listener), machines, settings)
        serve(
            app,
            listener,
            grace_s=settings.shutdown_grace_s,
            ready=lambda: typer.echo(lines),
            limits=connection_limits(settings),
            parser=settings.http_parser,
        )


def _stop(*problems: str) -> NoReturn:
    for problem in problems:
        typer.echo(f"stepwell: {problem}", err=True)
    sys.exit(_WRONG)
