"""What has changed from one state to the next, as operations: the smallest that are found in one walk over both.

However an action writes a value, only what it added, removed or replaced in it is stored. Parts that are the same object are not
looked into; all others are compared by type and content, never by an equality of the user's. Which types can be looked into is
in `shapes`. No I/O here.
"""

from collections.abc import Mapping, Sequence
from itertools import compress, count, islice
from operator import is_not
from typing import Any, Final, TypeAlias

from app.engine.edits import Edit, Grow, Put, Remove, Splice
from app.engine.operations import Append, Delete, Extend, Operation, Patch, Set, StoredOperation
from app.engine.serde_codec import UnserializableValue, encode
from app.engine.shapes import Shape, Shapes, same_key
from app.engine.weights import TOO_DEEP, weight_of

__all__ = ["difference", "refine"]

_MAX_DEPTH = 40
_EDIT_BYTES = 12
_SHORT_TEXT = 24
_MOST_PAIRS = 8
_MOST_SHIFTS = 4
_SIMPLE: Final = frozenset({int, bool, float, type(None)})
_TOLD_APART: Final = frozenset({str, int, bool, bytes, type(None)})
_NOTHING = object()

Path: TypeAlias = "tuple[Path, Any] | None"
"""The last step, and the path to it; None at the value itself."""


def refine(before: Mapping[str, Any], operations: tuple[Operation, ...], after: Mapping[str, Any]) -> tuple[StoredOperation, ...]:
    """Return operations that lead from `before` to `after` as `operations` do, and say of values that are set what changed.

    Every key that was written is in them: one that has the value it had before as a Patch without edits, or as it was.
    """
    refined: list[StoredOperation] | None = None
    for index, operation in enumerate(operations):
        if type(operation) is Set and not _is_small(operation.value):
            if len(operations) > 1 and _is_written_again(operation.key, index, operations):
                return _refined_by_key(before, operations, after)
            change = _change(before, operation, after)
            if change is not operation:
                refined = list(operations) if refined is None else refined
                refined[index] = change
    return operations if refined is None else tuple(refined)


def difference(before: Mapping[str, Any], after: Mapping[str, Any]) -> tuple[StoredOperation, ...]:
    """Return operations that lead from `before` to `after`. A key that has the same value in both is not in them."""
    operations: list[StoredOperation] = [Delete(key) for key in before if key not in after]
    for key, value in after.items():
        old = before.get(key, _NOTHING)
        if old is value:
            continue
        change = _change(before, Set(key, value), after, keeps_small=False)
        if not (type(change) is Patch and not change.edits):
            operations.append(change)
    return tuple(operations)


def _is_small(value: Any) -> bool:
    kind = type(value)
    return kind in _SIMPLE or (kind is str and len(value) <= _SHORT_TEXT)


def _is_written_again(key: str, index: int, operations: tuple[Operation, ...]) -> bool:
    return any(other.key == key for place, other in enumerate(operations) if place != index)


def _refined_by_key(
    before: Mapping[str, Any], operations: tuple[Operation, ...], after: Mapping[str, Any]
) -> tuple[StoredOperation, ...]:
    """`refine` where a key is written more than once: what it comes to in the end counts, unless it is deleted meanwhile."""
    deleted = {operation.key for operation in operations if type(operation) is Delete}
    merged = {operation.key for operation in operations if type(operation) is Set} - deleted
    refined: list[StoredOperation] = []
    done: set[str] = set()
    for operation in operations:
        key = operation.key
        if key not in merged:
            refined.append(operation)
        elif key not in done:
            done.add(key)
            whole = Set(key, after[key])
            refined.append(whole if _is_small(whole.value) else _change(before, whole, after))
    return tuple(refined)


def _change(before: Mapping[str, Any], operation: Set, after: Mapping[str, Any], *, keeps_small: bool = True) -> StoredOperation:
    """Return what `operation` does to its key as the change of a part, or `operation` where that is smaller."""
    key = operation.key
    if key not in before:
        return operation
    old, new = before[key], after[key]
    try:
        return _smallest(operation, old, new, keeps_small=keeps_small)
    except KeyboardInterrupt:
        raise
    except BaseException:  # code of a value's own class: whoever stores the whole value says what is wrong with it
        return operation


def _smallest(operation: Set, old: Any, new: Any, *, keeps_small: bool) -> StoredOperation:
    key = operation.key
    walk = _Walk()
    if not walk.compare(old, new, None, 0):
        return operation
    edits = walk.edits
    if not edits:
        return operation if keeps_small and weight_of(new, _EDIT_BYTES) < _EDIT_BYTES else Patch(key, ())
    if walk.has_passed_class and not _all_encodable(edits):
        return operation
    if len(edits) == 1 and type(edits[0]) is Splice and isinstance(new, list):
        only = edits[0]
        if not only.path and not only.removed and only.index == len(old):
            return Append(key, only.items[0]) if len(only.items) == 1 else Extend(key, only.items)
    return Patch(key, tuple(edits))


def _all_encodable(edits: list[Edit]) -> bool:
    """Whether all values can be stored by themselves: a model that holds one which cannot has a form of its own."""
    try:
        for edit in edits:
            if isinstance(edit, Put):
                encode(edit.value)
            elif isinstance(edit, Splice):
                encode(list(edit.items))
    except UnserializableValue:
        return False
    return True


class _Walk:
    """One comparison. `edits` are what it found, `weights` about how many bytes each takes.

    `has_passed_class` says that it has looked into an instance of a user's class.
    """

    __slots__ = ("_shapes", "edits", "has_passed_class", "weights")

    def __init__(self) -> None:
        self._shapes = Shapes()
        self.edits: list[Edit] = []
        self.weights: list[int] = []
        self.has_passed_class = False

    def compare(self, old: Any, new: Any, path: Path, depth: int) -> bool:
        """Add the edits that make `new` of `old`. Return False, with nothing added, if `new` as a whole takes no more."""
        if old is new:
            return True
        shape = self._shapes.common(old, new)
        if shape is None or depth > _MAX_DEPTH:
            return False
        mark = len(self.edits)
        if self._compare(shape, old, new, path, depth):
            if len(self.edits) == mark:
                return True
            weight = sum(self.weights[mark:])
            if weight < TOO_DEEP and weight < weight_of(new, weight + 1):
                return True
        self._forget(mark)
        return False

    def _compare(self, shape: Shape, old: Any, new: Any, path: Path, depth: int) -> bool:
        same_rest = self._shapes.same_rest
        match shape.kind:
            case "text":
                return self._text(old, new, path)
            case "items":
                return same_rest(shape, old, new) and self._items(shape.parts(old), shape.parts(new), path, depth)
            case "members":
                return self._members(old, new, path)
            case "pairs":
                return same_rest(shape, old, new) and self._pairs(old, new, path, depth)
            case "fields" | "model":
                return same_rest(shape, old, new) and self._fields(shape, old, new, path, depth)
        return self._shapes.same(old, new)

    def _same(self, old: Any, new: Any) -> bool:
        return old is new or self._shapes.same(old, new)

    def _add(self, edit: Edit, value: Any, overhead: int = _EDIT_BYTES) -> None:
        self.edits.append(edit)
        self.weights.append(overhead + weight_of(edit.path, TOO_DEEP) + weight_of(value, TOO_DEEP, 5 * len(edit.path)))

    def _forget(self, mark: int) -> None:
        del self.edits[mark:], self.weights[mark:]

    def _put(self, path: Path, step: Any, value: Any) -> None:
        self._add(Put((*_steps(path), step), value), value)

    def _splice(self, path: Path, index: int, removed: int, items: Sequence[Any]) -> None:
        self._add(Splice(_steps(path), index, removed, tuple(items)), items)

    def _text(self, old: str, new: str, path: Path) -> bool:
        if len(old) >= len(new):
            return old == new
        if not new.startswith(old):
            return False
        text = new[len(old) :]
        self._add(Grow(_steps(path), text), text)
        return True

    def _items(self, old: Sequence[Any], new: Sequence[Any], path: Path, depth: int) -> bool:
        shorter = min(len(old), len(new))
        first = next(compress(count(), map(is_not, old, new)), shorter)
        if len(old) == len(new):
            return self._of_one_length(old, new, first, path, depth)
        first = self._first_change(old, new, first)
        last = 0
        while last < shorter - first and self._same(old[-1 - last], new[-1 - last]):
            last += 1
        removed, added = len(old) - first - last, new[first : len(new) - last]
        if removed and added:
            if self._shifted(old, new, first, path):
                return True
            if removed == len(old):
                return False
            if removed <= _MOST_PAIRS and removed < len(added):  # the last items changed, and more came
                for index in range(first, first + removed):
                    self._replace(old[index], new[index], index, path, depth)
                first, removed, added = first + removed, 0, added[removed:]
        if path is None and isinstance(new, list) and not removed and first == len(old):
            self._add(Splice((), first, 0, tuple(added)), added, 0)  # to be an Append or an Extend
        elif removed or added:
            self._splice(path, first, removed, added)
        return True

    def _first_change(self, old: Sequence[Any], new: Sequence[Any], first: int) -> int:
        """Return the first index from `first` on at which two lists differ; the length of the shorter one if there is none."""
        same = self._shapes.same
        shorter = min(len(old), len(new))
        while first < shorter:
            one, other = old[first], new[first]
            if one is not other and not same(one, other):
                break
            first += 1
        return first

    def _of_one_length(self, old: Sequence[Any], new: Sequence[Any], first: int, path: Path, depth: int) -> bool:
        length = len(new)
        first = self._first_change(old, new, first)
        if first == length or (old[-1] is not new[-1] and self._shifted(old, new, first, path)):
            return True
        for index in range(first, length):
            if old[index] is not new[index]:
                self._replace(old[index], new[index], index, path, depth)
        return True

    def _replace(self, old: Any, new: Any, step: Any, path: Path, depth: int) -> None:
        if not self.compare(old, new, (path, step), depth + 1):
            self._put(path, step, new)

    def _shifted(self, old: Sequence[Any], new: Sequence[Any], first: int, path: Path) -> bool:
        """Add the edits for a list that lost items at `first` and gained others at its end: a window that moves on."""
        tried = 0
        wanted = new[first]
        for start in range(first + 1, len(old)):
            if not self._same(old[start], wanted):
                continue
            kept = len(old) - start
            if first + kept <= len(new) and all(self._same(old[start + at], new[first + at]) for at in range(1, kept)):
                self._splice(path, first, start - first, ())
                if first + kept < len(new):
                    self._splice(path, first + kept, 0, new[first + kept :])
                return True
            tried += 1
            if tried == _MOST_SHIFTS:
                break
        return False

    def _members(self, old: Any, new: Any, path: Path) -> bool:
        typed = {(type(member), member): member for member in new}
        known = {(type(member), member) for member in old}
        if not known <= typed.keys():
            return False
        items = [member for key, member in typed.items() if key not in known]
        if items:
            self._splice(path, len(old), 0, items)
        return True

    def _pairs(self, old: Mapping[Any, Any], new: Mapping[Any, Any], path: Path, depth: int) -> bool:
        """Keys that stand in both in the same order stay where they are; all others are removed, or come last."""
        if not (_are_told_apart(old) and _are_told_apart(new)):
            return False
        kept: list[tuple[Any, Any, Any]] = []
        last: list[tuple[Any, Any]] = []
        gone: list[Any] = []
        same = _same_keys(old, new)
        if same:
            triples = zip(old, old.values(), new.values(), strict=False)
            kept += compress(islice(triples, same), map(is_not, old.values(), new.values()))
        before = islice(old.items(), same, None)
        for key, value in islice(new.items(), same, None):
            if not last:
                for known, item in before:
                    if same_key(known, key, self._shapes):
                        kept.append((known, item, value))
                        break
                    gone.append(known)
                else:
                    last.append((key, value))
            else:
                last.append((key, value))
        gone += [known for known, _ in before]
        if not kept and not same and (old or new) and (gone or not new):
            return False
        for key in gone:
            self._add(Remove((*_steps(path), key)), None)
        for key, item, value in kept:
            if item is not value:
                self._replace(item, value, key, path, depth)
        for key, value in last:
            self._put(path, key, value)
        return True

    def _fields(self, shape: Shape, old: Any, new: Any, path: Path, depth: int) -> bool:
        fields, others = shape.parts(old), shape.parts(new)
        if list(fields) != list(others):
            return False
        self.has_passed_class = True
        for name, value in others.items():
            if fields[name] is not value:
                self._replace(fields[name], value, name, path, depth)
        return True


def _are_told_apart(keys: Mapping[Any, Any]) -> bool:
    """Whether no two keys are stored as the same: a dict may have several that are NaN."""
    if set(map(type, keys)) <= _TOLD_APART:
        return True
    return len({repr(encode(key)) for key in keys}) == len(keys)


def _same_keys(old: Mapping[Any, Any], new: Mapping[Any, Any]) -> int:
    """Return with how many keys, which are the same objects, both dicts begin."""
    return next(compress(count(), map(is_not, old, new)), min(len(old), len(new)))


def _steps(path: Path) -> tuple[Any, ...]:
    steps = []
    while path is not None:
        path, step = path
        steps.append(step)
    return tuple(reversed(steps))
