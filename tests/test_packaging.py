"""What gets installed: one importable name, complete, with nothing of the repository's own folders in it."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
import zipfile
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest

import netadapt_trt

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ROOT = Path(__file__).parents[1]
OF_TORCH = ("nvidia-", "triton", "cuda-toolkit")  # packages that torch's CUDA builds pin themselves


@pytest.fixture(scope="module")
def project() -> dict[str, Any]:
    return tomllib.loads((ROOT / "pyproject.toml").read_text())


@pytest.fixture(scope="module")
def wheel_names(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """Built from a copy: building in place leaves folders behind that an import could find."""
    source, wheels = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("wheels")
    files = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"], cwd=ROOT, check=True, capture_output=True
    )
    for name in filter(None, files.stdout.decode().split("\0")):
        if (ROOT / name).is_file():
            (source / name).parent.mkdir(parents=True, exist_ok=True)
            (source / name).write_bytes((ROOT / name).read_bytes())
    subprocess.run(
        [
            sys.executable,
            "-m",
            "pip",
            "wheel",
            "-q",
            "--no-deps",
            "--no-index",
            "--no-build-isolation",
            "-w",
            wheels,
            source,
        ],
        check=True,
        capture_output=True,
    )
    (wheel,) = wheels.glob("*.whl")
    return zipfile.ZipFile(wheel).namelist()


def test_wheel_claims_one_name_only(wheel_names: list[str]) -> None:
    top = {name.split("/")[0] for name in wheel_names}
    assert {name for name in top if not name.endswith(".dist-info")} == {"netadapt_trt"}


def test_wheel_holds_every_module_and_data_file(wheel_names: list[str]) -> None:
    wanted = set()
    for folder, prefix in (("netadapt_trt", "netadapt_trt"), ("backends", "netadapt_trt/backends")):
        for file in (ROOT / folder).rglob("*"):
            if file.is_file() and "__pycache__" not in file.parts:
                wanted.add(f"{prefix}/{file.relative_to(ROOT / folder).as_posix()}")
    assert wanted == {name for name in wheel_names if name.startswith("netadapt_trt/")}


def test_wheel_carries_the_licence(wheel_names: list[str]) -> None:
    assert any(name.endswith("/LICENSE") for name in wheel_names)


def test_package_list_equals_the_folders(project: dict[str, Any]) -> None:
    folders = set()
    for folder, prefix in (("netadapt_trt", "netadapt_trt"), ("backends", "netadapt_trt.backends")):
        for init in (ROOT / folder).rglob("__init__.py"):
            parts = init.parent.relative_to(ROOT / folder).parts
            folders.add(".".join([prefix, *parts]))
    assert set(project["tool"]["setuptools"]["packages"]) == folders


def test_built_in_backends_are_entry_points_named_like_their_folders(project: dict[str, Any]) -> None:
    entries = project["project"]["entry-points"]["netadapt_trt.backends"]
    folders = {init.parent.name for init in (ROOT / "backends").glob("*/__init__.py")}
    assert set(entries) == folders
    for name, target in entries.items():
        assert target.startswith(f"netadapt_trt.backends.{name}:")


def test_backends_folder_refuses_to_be_imported_by_its_own_name() -> None:
    done = subprocess.run([sys.executable, "-c", "import backends"], check=False, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode != 0
    assert "netadapt_trt.backends" in done.stderr


def _pins() -> dict[str, list[tuple[str, str]]]:
    """name -> [(version, marker)]"""
    pins: dict[str, list[tuple[str, str]]] = {}
    for line in (ROOT / "constraints.txt").read_text().splitlines():
        if line and not line.startswith("#"):
            pin, _, marker = line.partition(";")
            name, _, version = pin.strip().partition("==")
            assert version, f"{line!r} pins nothing"
            pins.setdefault(_canonical(name), []).append((version, marker.strip()))
    return pins


def _canonical(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def _required_distributions() -> set[str]:
    """Everything that ``pip install -e .[dev]`` brings on this machine."""
    from packaging.requirements import Requirement

    todo, seen = [("netadapt-trt", "dev"), ("netadapt-trt", "all"), ("netadapt-trt", "ort"), ("netadapt-trt", "torch"),
                  ("netadapt-trt", "report"), ("netadapt-trt", "")], set()  # fmt: skip
    while todo:
        name, extra = todo.pop()
        if (name, extra) in seen:
            continue
        seen.add((name, extra))
        for text in metadata.requires(name) or []:
            requirement = Requirement(text)
            wanted = requirement.marker is None or requirement.marker.evaluate({"extra": extra})
            if wanted and not requirement.name.startswith(OF_TORCH):
                todo.extend((_canonical(requirement.name), extra) for extra in ("", *requirement.extras))
    return {name for name, _ in seen} - {"netadapt-trt"}


def test_constraints_pin_everything_that_gets_installed() -> None:
    missing = _required_distributions() - set(_pins())
    assert not missing, f"constraints.txt does not pin {sorted(missing)}"


def test_tests_run_with_the_real_cuda_python(project: dict[str, Any]) -> None:
    (ours,) = (text for text in project["project"]["optional-dependencies"]["dev"] if text.startswith("netadapt-trt["))
    assert {"all", "cuda", "rtx"} <= set(ours.removeprefix("netadapt-trt[").removesuffix("]").split(","))
    assert {"cuda-python", "cuda-bindings"} <= set(_pins())


def test_constraints_markers_leave_one_version_for_each_python() -> None:
    from packaging.markers import Marker

    for name, choices in _pins().items():
        for python in ("3.10", "3.11", "3.12", "3.13"):
            fitting = [
                version for version, marker in choices if not marker or Marker(marker).evaluate({"python_version": python})
            ]
            only_old = python != "3.10" and len(choices) == 1
            assert len(fitting) == 1 or (only_old and not fitting), f"{name} on {python}: {fitting}"


def test_public_interface_is_sorted_and_complete() -> None:
    source = ast.parse((ROOT / "netadapt_trt" / "__init__.py").read_text())
    (block,) = (node for node in source.body if isinstance(node, ast.If))
    typed = {
        alias.asname or alias.name: (str(node.module).removeprefix("netadapt_trt."), alias.name)
        for node in block.body
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }
    assert netadapt_trt.__all__ == sorted(netadapt_trt.__all__)
    assert typed == netadapt_trt._HOMES
    assert set(netadapt_trt.__all__) == set(typed)


@pytest.mark.parametrize("name", netadapt_trt.__all__)
def test_public_names_exist_and_say_what_they_do(name: str) -> None:
    assert getattr(netadapt_trt, name).__doc__


def test_public_names_do_not_collide_with_rooms() -> None:
    rooms = {entry.stem for entry in (ROOT / "netadapt_trt").iterdir()}
    assert not rooms & set(netadapt_trt.__all__)


def test_public_interface_names_what_it_lacks() -> None:
    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        _ = netadapt_trt.nonsense


def test_version_is_the_distribution_s() -> None:
    assert netadapt_trt.__version__ == metadata.version("netadapt-trt")


def test_every_module_lists_its_names() -> None:
    for file in [*(ROOT / "netadapt_trt").rglob("*.py"), *(ROOT / "backends").rglob("*.py")]:
        if file.name == "__init__.py" and file.parent.name != "netadapt_trt":
            continue  # a docstring, a guard or one backend's name
        assigned = {
            target.id
            for node in ast.parse(file.read_text()).body
            if isinstance(node, ast.Assign | ast.AnnAssign)
            for target in (node.targets if isinstance(node, ast.Assign) else [node.target])
            if isinstance(target, ast.Name)
        }
        assert "__all__" in assigned, f"{file.relative_to(ROOT)} has no __all__"
