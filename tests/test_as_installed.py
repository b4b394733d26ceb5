"""Processes that tests start see what users have: nothing that only the tests have installed."""

import subprocess
import sys
from importlib.metadata import PackageNotFoundError, packages_distributions, requires

import pytest
from as_installed.sitecustomize import OF_TESTS
from packaging.requirements import Requirement

EXTRAS = ("", "demo", "cuda", "slurm", "kubernetes", "server", "nnunet", "openvino", "parquet")


def needed(name: str, extras: frozenset[str], found: set[tuple[str, frozenset[str]]]) -> None:
    """Add the distributions that one needs, and those that these need."""
    if (name, extras) in found:
        return
    found.add((name, extras))
    try:
        lines = requires(name) or []
    except PackageNotFoundError:
        return
    for one in map(Requirement, lines):
        if one.marker is None or any(one.marker.evaluate({"extra": e}) for e in (*extras, "")):
            needed(one.name.lower().replace("_", "-"), frozenset(one.extras), found)


@pytest.fixture
def of_users() -> set[str]:
    found: set[tuple[str, frozenset[str]]] = set()
    needed("unet-pipeline", frozenset(EXTRAS), found)
    return {name for name, _ in found}


def test_what_is_hidden_is_of_no_extra_of_the_package(of_users):
    assert {"torch", "monai", "openvino", "dask-jobqueue"} <= of_users
    homes = packages_distributions()
    hidden = {name.lower() for module in OF_TESTS for name in homes.get(module, ())}
    assert hidden & of_users == set()


def test_the_process_of_the_tests_itself_has_all_of_it():
    """nnU-Net is called within it."""
    assert all(sys.modules.get(name, "not imported") for name in OF_TESTS)


def test_a_process_of_the_tests_has_none_of_it():
    code = f"""
from importlib.util import find_spec
for name in {OF_TESTS!r}:
    assert find_spec(name) is None, "as PyTorch's compiler asks"
    try:
        __import__(name)
    except ModuleNotFoundError:
        print(name)
"""
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout.split() == [*OF_TESTS]
