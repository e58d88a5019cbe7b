"""The licences of what is installed with the service go together with its own."""

import re
from importlib.metadata import PackageNotFoundError, metadata

import pytest

from tests.service_process import ROOT
from tests.test_packaging import locked

# what may be installed with the service: permissive licences, and weak copyleft that asks nothing of who only imports
_ALLOWED = re.compile(r"apache|mit\b|bsd|isc|psf|python software foundation|mpl|mozilla|unlicense|zlib|0bsd|cc0", re.IGNORECASE)
_FORBIDDEN = re.compile(r"(?<!l)gpl|affero|general public license", re.IGNORECASE)


def licence_of(name: str) -> str:
    """Return what a distribution says of its licence; an AssertionError if it is not installed."""
    try:
        found = metadata(name)
    except PackageNotFoundError:
        pytest.fail(f"{name} is locked and not installed")
    classifiers = [each for each in found.get_all("Classifier") or [] if each.startswith("License ::")]
    text = found.get("License-Expression") or "; ".join(classifiers) or (found.get("License") or "")
    return text[:500]


def installed_here() -> list[str]:
    elsewhere = {"colorama", "tzdata", "pywin32", "exceptiongroup"}  # for other systems, or for older Pythons
    return [name for name in locked("requirements.lock") if name not in elsewhere]


@pytest.mark.parametrize("name", installed_here())
def test_what_is_installed_with_the_service_has_a_permissive_licence(name: str) -> None:
    licence = licence_of(name)
    assert _ALLOWED.search(licence), f"{name}: {licence!r}"
    assert not _FORBIDDEN.search(licence), f"{name}: {licence!r}"


def test_the_gpl_library_of_the_demo_stays_out_of_the_image() -> None:
    assert "chess" not in locked("requirements.lock")
    assert "chess" in locked("requirements-demo.lock")
    dockerfile = (ROOT / "Dockerfile").read_text()
    assert "requirements-demo" not in dockerfile
    assert "chess" not in dockerfile


def test_the_licence_is_part_of_the_distribution() -> None:
    assert "Apache License" in (ROOT / "LICENSE").read_text()
    assert "Stepwell" in (ROOT / "NOTICE").read_text()
