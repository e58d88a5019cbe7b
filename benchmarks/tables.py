"""How a benchmark shows its figures: one table, one line per subject, and the bars it is held to."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from rich.console import Console
from rich.table import Table

__all__ = ["Bar", "show", "show_bars"]

_CONSOLE = Console(width=118, highlight=False)


@dataclass(frozen=True, slots=True)
class Bar:
    """A promise: `what` was measured as `figure`; `is_met` says whether it keeps to `bar`."""

    what: str
    figure: str
    bar: str
    is_met: bool


def show(title: str, columns: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """Print a table whose first column is text and whose other columns are figures."""
    table = Table(title=title, title_justify="left", title_style="bold")
    for index, column in enumerate(columns):
        table.add_column(column, justify="left" if index == 0 else "right", no_wrap=True)
    for row in rows:
        table.add_row(*row)
    _CONSOLE.print()
    _CONSOLE.print(table)


def show_bars(bars: Iterable[Bar]) -> None:
    """Print each bar with whether it was met in this run."""
    for bar in bars:
        verdict = "[green]met[/]" if bar.is_met else "[red]missed[/]"
        _CONSOLE.print(f"  {bar.what}: {bar.figure} (bar {bar.bar}) {verdict}")
