"""What an SQLite error says about the state of the file, and what can be done about it."""

__all__ = ["damage_hint"]

_DAMAGED = ("SQLITE_CORRUPT", "SQLITE_NOTADB")


def damage_hint(error: BaseException) -> str | None:
    """Return what is wrong and what to do, if `error` says that the file is damaged or that SQLite cannot work with it."""
    name = getattr(error, "sqlite_errorname", None)
    if not isinstance(name, str):
        return None
    if name.startswith(_DAMAGED):
        return (
            f"the SQLite database is damaged ({name}): stop the service, keep copies of the file and of its -wal, and restore a "
            f"backup, or save what can be read with `sqlite3 FILE .recover`"
        )
    return f"SQLite cannot work with the database ({name})"
