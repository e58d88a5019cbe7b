"""`stepwell db`: the database's schema, looked at and brought up to date. How that goes is in `app.persistence.migrating`."""

import asyncio
from collections.abc import Coroutine
from typing import Annotated, Any, TypeVar

import typer

from app.banner import without_password
from app.persistence import migrating
from app.persistence.store import StoreError
from app.settings import Settings, SettingsInvalid, read_settings

__all__ = ["command"]

T = TypeVar("T")

command = typer.Typer(help="Look at the database's schema, or bring it up to date.", no_args_is_help=True, rich_markup_mode=None)

DatabaseUrl = Annotated[
    str | None, typer.Option(help="As for `serve`; STEPWELL_DATABASE_URL otherwise [default: sqlite:///stepwell.db].")
]


@command.command()
def upgrade(database_url: DatabaseUrl = None) -> None:
    """Bring the schema up to date. Safe to run again, and from several places at once."""
    settings = _settings(database_url)
    version = _ask(settings, migrating.upgrade(settings.database_url))
    typer.echo(f"schema {version} in {without_password(settings.database_url)}")


@command.command()
def current(database_url: DatabaseUrl = None) -> None:
    """Print the version of the schema, `none` if there is no schema yet."""
    settings = _settings(database_url)
    typer.echo(_ask(settings, migrating.current(settings.database_url)) or "none")


@command.command()
def check(database_url: DatabaseUrl = None) -> None:
    """End with 0 if this version of Stepwell can work with the schema, with 2 and the reason otherwise."""
    settings = _settings(database_url)
    _ask(settings, migrating.check(settings.database_url))


def _settings(database_url: str | None) -> Settings:
    try:
        return read_settings(**({} if database_url is None else {"database_url": database_url}))
    except SettingsInvalid as exc:
        raise _refused(*exc.problems) from exc


def _ask(settings: Settings, question: Coroutine[Any, Any, T]) -> T:
    try:
        return asyncio.run(question)
    except StoreError as exc:
        raise _refused(f"database {without_password(settings.database_url)}: {' '.join(str(exc).split())}") from exc


def _refused(*problems: str) -> typer.Exit:
    for problem in problems:
        typer.echo(f"stepwell: {problem}", err=True)
    return typer.Exit(2)
