"""The parts of a `Patch`: changes somewhere inside the value of one key, and how they are made.

Edits are made on the *document* of a value, the JSON form that `serde_codec` gives it. Lists, dicts, dataclasses, pydantic models
and the collections of the standard library are changed in one way then, and no class of the user's is needed for it.
`difference` finds edits. No I/O here.
"""

import copy
from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

from app.engine.frozen import frozen
from app.engine.serde_codec import TAG, UndecodableValue, UnserializableValue, decode, encode

__all__ = ["Edit", "Grow", "Put", "Remove", "Splice", "edit_document", "patched", "read_edit", "write_edit"]

_ITEMS = frozenset({"tuple", "set", "frozenset", "deque"})
_PAIRS = frozenset({"dict", "OrderedDict", "Counter", "defaultdict"})
_FIELDS = frozenset({"dataclass", "namedtuple"})


@frozen
class Put:
    """What the last step of `path` leads to, a key, an index or a field, has `value` from now on. A new key comes last."""

    path: tuple[Any, ...]
    value: Any


@frozen
class Remove:
    """The dict that `path` leads to, but for its last step, has no longer the key which is that step."""

    path: tuple[Any, ...]


@frozen
class Splice:
    """In the list at `path`, `removed` items from `index` on make room for `items`. In a set, `items` are added."""

    path: tuple[Any, ...]
    index: int
    removed: int
    items: tuple[Any, ...]


@frozen
class Grow:
    """The text at `path` gains `text` at its end."""

    path: tuple[Any, ...]
    text: str


Edit: TypeAlias = Put | Remove | Splice | Grow


def patched(value: Any, edits: Sequence[Edit]) -> Any:
    """Return a new value: `value` after `edits`. Raises UndecodableValue if they do not fit, UnserializableValue."""
    document = copy.deepcopy(encode(value))  # plain parts of it are those of the value
    for edit in edits:
        document = edit_document(document, copy.deepcopy(write_edit(edit)))
    return decode(document)


def write_edit(edit: Edit) -> list[Any]:
    """Return the document of an edit. Raises UnserializableValue."""
    path = [encode(step) for step in edit.path]
    try:
        match edit:
            case Put(_, value):
                return ["s", path, encode(value)]
            case Remove():
                return ["d", path]
            case Splice(_, index, removed, items):
                return ["x", path, index, removed, [encode(item) for item in items]]
            case Grow(_, text):
                return ["t", path, encode(text)]
    except UnserializableValue as error:
        for step in reversed(edit.path):
            shown = repr(step) if isinstance(step, str | int | float) else f"<{type(step).__name__}>"
            error = error.under(f"[{shown}]")
        raise error from None


def read_edit(document: Any, read: Callable[[Any], Any] = decode) -> Edit:
    """Return the edit that `write_edit` wrote, its values as `read` reads them. Raises UndecodableValue."""
    match document:
        case ["s", [*path], value]:
            return Put(_read_path(path), read(value))
        case ["d", [*path]]:
            return Remove(_read_path(path))
        case ["x", [*path], int(index), int(removed), [*items]]:
            return Splice(_read_path(path), index, removed, tuple([read(item) for item in items]))
        case ["t", [*path], text]:
            return Grow(_read_path(path), decode(text))
    raise UndecodableValue("a stored change is of a kind that is not known here")


def edit_document(document: Any, edit: Any) -> Any:
    """Return `document` after an edit, itself a document. Changes `document` in place, but for a text.

    Raises UndecodableValue if the edit does not fit.
    """
    try:
        match edit:
            case ["s", [*path, last], value]:
                _put(_follow(document, path), last, value)
            case ["d", [*path, last]]:
                _remove(_follow(document, path), last)
            case ["x", [*path], int(index), int(removed), [*items]]:
                _splice(_items(_follow(document, path)), index, removed, items)
            case ["t", [], text]:
                return _grown(document, text)
            case ["t", [*path, last], text]:
                container, place = _place(_follow(document, path), last)
                container[place] = _grown(container[place], text)
            case _:
                raise UndecodableValue("a stored change is of a kind that is not known here")
    except (AttributeError, LookupError, TypeError, ValueError) as error:
        if isinstance(error, UndecodableValue):
            raise
        # `from None`: the message of the cause may hold a part of the value
        raise UndecodableValue(f"a stored change does not fit the value before it ({type(error).__name__})") from None
    return document


def _read_path(path: Sequence[Any]) -> tuple[Any, ...]:
    return tuple([decode(step) for step in path])


def _follow(document: Any, path: Sequence[Any]) -> Any:
    for step in path:
        container, place = _place(document, step)
        document = container[place]
    return document


def _place(document: Any, step: Any) -> tuple[Any, Any]:
    """Return the list or dict that holds the document at `step`, and where it does."""
    if type(document) is list:
        return document, step
    if TAG not in document:
        return document, step
    name, *parts = document[TAG]
    if name in _PAIRS:
        return next(pair for pair in reversed(parts[-1]) if pair[0] == step), 1
    if name == "model":
        return parts[1]["fields"], step
    if name in _FIELDS:
        return parts[1], step
    return _items(document), step


def _items(document: Any) -> list[Any]:
    if type(document) is list:
        return document
    name, items, *_ = document[TAG]
    if name not in _ITEMS:
        raise UndecodableValue(f"a stored change is one of a list, and the value before it a {name}")
    return items  # type: ignore[no-any-return]  # a list, as `serde_types` writes it


def _pairs(document: dict[str, Any], step: Any) -> list[Any] | None:
    """Return the pairs of a dict that is written as such; one that cannot have `step` as a key otherwise becomes one."""
    if TAG not in document:
        if type(step) is str and step != TAG:
            return None
        pairs = [[key, item] for key, item in document.items()]
        document.clear()
        document[TAG] = ["dict", pairs]
    parts = document[TAG]
    return parts[-1] if parts[0] in _PAIRS else None


def _put(document: Any, step: Any, value: Any) -> None:
    pairs = _pairs(document, step) if type(document) is dict else None
    if pairs is None:
        container, place = _place(document, step)
        container[place] = value
        return
    for pair in reversed(pairs):
        if pair[0] == step:
            pair[1] = value
            return
    pairs.append([step, value])


def _remove(document: Any, step: Any) -> None:
    pairs = _pairs(document, step)
    if pairs is None:
        del document[step]
    else:
        del pairs[next(index for index, pair in enumerate(pairs) if pair[0] == step)]


def _splice(items: list[Any], index: int, removed: int, added: list[Any]) -> None:
    if not 0 <= index <= index + removed <= len(items):
        raise UndecodableValue(f"a stored change begins at item {index} of a list that has {len(items)}")
    items[index : index + removed] = added


def _grown(document: Any, text: Any) -> Any:
    if type(document) is str and type(text) is str:
        return document + text
    return encode(decode(document) + decode(text))
