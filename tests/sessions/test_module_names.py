"""Machine files in several folders: what a stored value is called depends neither on their order nor on where they are."""

import itertools
import shutil
import sys
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from app.engine.serde import decode, encode
from app.sessions.loading import MachineLoadError, load_machine, load_machines

MACHINE = """
    import dataclasses
    from app.engine import ApplicationBuilder, State, action, machine
    {imports}

    @dataclasses.dataclass
    class Order:
        {field}: str

    @action(reads=[], writes=["n"])
    async def count(state: State) -> State:
        {lazily}
        return state.update(n=1)

    @machine(name={name!r})
    def build() -> ApplicationBuilder:
        return ApplicationBuilder().with_actions(count).with_entrypoint("count")
"""

Write = Callable[..., str]


@pytest.fixture
def write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Write]:
    """Write a machine below the current folder, which is a new one; afterwards this process has no module of it any more."""
    monkeypatch.chdir(tmp_path)
    before = list(sys.path), set(sys.modules)

    def write_machine(file: str, imports: str = "", lazily: str = "") -> str:
        path = tmp_path / file
        path.parent.mkdir(parents=True, exist_ok=True)
        name = file.replace("/", "-").removesuffix(".py")
        text = textwrap.dedent(MACHINE).format(name=name, field=name.replace("-", "_"), imports=imports, lazily=lazily)
        path.write_text(text)
        return file

    yield write_machine
    forget(*before)


def forget(path: list[str], modules: set[str]) -> None:
    """Be like a new process."""
    sys.path[:] = path
    for name in sys.modules.keys() - modules:
        del sys.modules[name]


def loaded_orders(files: list[str]) -> dict[str, object]:
    """Load machines as a new process does, and return a value of the class `Order` of each."""
    before = list(sys.path), set(sys.modules)
    machines = load_machines(files)
    classes = {machine.name: sys.modules[machine.factory.__module__].Order for machine in machines}
    documents = {name: encode(cls("tea")) for name, cls in classes.items()}
    forget(*before)
    return documents


@pytest.mark.parametrize("files", [*itertools.permutations(["shop/machine.py", "desk/machine.py"])], ids=" ".join)
@pytest.mark.parametrize("spelling", ["{}", "./{}", "{cwd}/{}", "linked/{}", "sub/../{}"])
def test_two_files_of_one_name_are_refused_in_any_order(
    files: tuple[str, str], spelling: str, write: Write, tmp_path: Path
) -> None:
    (tmp_path / "linked").symlink_to(tmp_path)
    (tmp_path / "sub").mkdir()
    for file in files:
        write(file)
    with pytest.raises(MachineLoadError) as refused:
        load_machines([files[0], spelling.format(files[1], cwd=tmp_path)])
    for named in ("shop/machine.py", "desk/machine.py", "'machine'", "__init__.py"):
        assert named in refused.value.reason


def test_in_packages_of_their_own_they_are_told_apart_in_any_order_and_from_any_folder(
    write: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = [write("shop/machine.py", "from .helpers import rate"), write("desk/machine.py", "from .helpers import rate")]
    for folder in ("shop", "desk"):
        (tmp_path / folder / "__init__.py").touch()
        (tmp_path / folder / "helpers.py").write_text(f"rate = {folder!r}")
    first = loaded_orders(files)
    assert loaded_orders(files[::-1]) == first
    moved = shutil.copytree(tmp_path, tmp_path / "moved")
    monkeypatch.chdir(moved / "shop")
    assert loaded_orders(["../desk/machine.py", "machine.py"]) == first
    assert len({str(each) for each in first.values()}) == 2


def test_a_name_does_not_depend_on_where_the_file_is_also_if_python_has_a_module_of_that_name(
    write: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = [write("json.py"), write("orders.py")]
    first = loaded_orders(files)
    moved = shutil.copytree(tmp_path, tmp_path / "moved")
    monkeypatch.chdir(moved)
    assert loaded_orders(files[::-1]) == first
    assert loaded_orders([str(moved / file) for file in files]) == first


def test_what_was_stored_under_the_path_of_a_file_is_still_read(write: Write, tmp_path: Path) -> None:
    write("json.py")
    load_machine("json.py")
    former = f"stepwell_machine_{str(tmp_path / 'json').replace('/', '_').replace('-', '_')}"
    value = decode({"$": ["dataclass", f"{former}:Order", {"json": "tea"}]})
    assert type(value).__module__ == "stepwell_machine_json"


def test_a_file_has_its_name_though_the_current_folder_has_another_one_of_that_name(write: Write, tmp_path: Path) -> None:
    sys.path.append(str(tmp_path))
    write("machine.py")
    documents = loaded_orders([write("shop/machine.py")])
    assert documents == {"shop-machine": {"$": ["dataclass", "machine:Order", {"shop_machine": "tea"}]}}


@pytest.mark.parametrize("files", [*itertools.permutations(["shop/shop.py", "desk/desk.py"])], ids=" ".join)
@pytest.mark.parametrize(
    "code",
    [
        {"imports": "import helpers"},
        {"imports": "from helpers import only_{}"},
        {"lazily": "import helpers"},
        {"lazily": "from helpers.inner import anything"},
    ],
    ids=str,
)
def test_a_neighbour_is_never_that_of_another_folder(
    files: tuple[str, str], code: dict[str, str], write: Write, tmp_path: Path
) -> None:
    for file in files:
        stem = Path(file).stem
        write(file, **{where: text.format(stem) for where, text in code.items()})
        (tmp_path / stem / "helpers.py").write_text(f"only_{stem} = 1")
    with pytest.raises(MachineLoadError) as refused:
        load_machines(files)
    for named in ("'helpers'", "shop/helpers.py", "desk/helpers.py"):
        assert named in refused.value.reason


@pytest.mark.parametrize("files", [*itertools.permutations(["shop/shop.py", "desk/desk.py"])], ids=" ".join)
def test_a_neighbour_of_a_neighbour_is_never_that_of_another_folder(files: tuple[str, str], write: Write, tmp_path: Path) -> None:
    for file in files:
        stem = Path(file).stem
        write(file, f"import help_{stem}")
        (tmp_path / stem / f"help_{stem}.py").write_text("def f():\n    import rates")
        (tmp_path / stem / "rates.py").touch()
    with pytest.raises(MachineLoadError, match="'rates'"):
        load_machines(files)


def test_folders_may_have_files_of_one_name_that_nobody_imports(write: Write, tmp_path: Path) -> None:
    for name in ("shop", "desk"):
        write(f"{name}/{name}.py", "import json")
        (tmp_path / name / "conftest.py").touch()
        (tmp_path / name / "json.py").touch()
    assert len(load_machines(["shop/shop.py", "desk/desk.py"])) == 2


@pytest.mark.parametrize("specs", [*itertools.permutations(["shop/machine.py", "machine:build"])], ids=" ".join)
def test_a_file_and_a_module_of_one_name_are_refused_in_any_order(specs: tuple[str, str], write: Write) -> None:
    write("machine.py")
    write("shop/machine.py")
    with pytest.raises(MachineLoadError, match="are both the module 'machine'"):
        load_machines(specs)


@pytest.mark.parametrize("specs", [*itertools.permutations(["machine.py", "machine:build"])], ids=" ".join)
def test_a_file_and_a_module_may_be_the_same(specs: tuple[str, str], write: Write) -> None:
    write("machine.py")
    with pytest.raises(MachineLoadError, match="is also named 'machine'"):  # the machine of the same file, and not another one
        load_machines(specs)


def test_packages_of_one_name_in_two_folders_are_refused(write: Write, tmp_path: Path) -> None:
    for folder in ("a", "b"):
        write(f"{folder}/shop/machine.py")
        (tmp_path / folder / "shop" / "__init__.py").touch()
    for files in (["a/shop/machine.py", "b/shop/machine.py"], ["b/shop/machine.py", "a/shop/machine.py"]):
        before = list(sys.path), set(sys.modules)
        with pytest.raises(MachineLoadError, match="are both the module 'shop'"):
            load_machines(files)
        forget(*before)
