"""Dockerfile.jetson, its package lists and the tool that resolves them, as far as text and a fake pip go."""

from __future__ import annotations

import importlib.util
import json
import re
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ROOT = Path(__file__).parents[1]
TEXT = (ROOT / "Dockerfile.jetson").read_text()
LISTS = sorted((ROOT / "tools" / "jetson_image").glob("*.txt"))


@pytest.fixture(scope="module")
def tool() -> Any:
    spec = importlib.util.spec_from_file_location("check_image", ROOT / "tools" / "check_image.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def instructions() -> list[tuple[str, str]]:
    """(instruction, the rest) of each, continued lines joined, comments left out."""
    text = "\n".join(line for line in TEXT.splitlines() if not line.startswith("#")).replace("\\\n", " ")
    pairs = (line.split(maxsplit=1) for line in text.splitlines() if line.strip())
    return [(name, " ".join(rest.split())) for name, rest in pairs]


def the(name: str) -> list[str]:
    return [rest for found, rest in instructions() if found == name]


def test_bases_are_pinned() -> None:
    assert the("FROM") == ["${BASE}"]
    bases = re.findall(r"BASE=(\S+)", TEXT)
    assert len(bases) == 3
    for base in bases:
        assert re.fullmatch(r"nvcr\.io/nvidia/[a-z0-9-]+:[a-z]?\d[\w.-]*", base), base
    assert "latest" not in TEXT


def test_everything_that_pip_installs_is_pinned_and_torch_and_tensorrt_are_not() -> None:
    arguments = dict(re.findall(r"^ARG (\w+)=(.*)$", TEXT, re.MULTILINE))
    installs = [words for run in the("RUN") for words in re.findall(r"pip install ([^;&]+)", run)]
    assert len(installs) == 5
    for words in installs:
        (what,) = (word.strip('"') for word in words.replace("-r ", "-r=").split() if not word.startswith("--"))
        if what not in (".", "-r=/opt/netadapt/packages.txt"):
            name, _, variable = what.partition("==")
            assert variable[2:-1] in arguments, what
            assert not re.match("torch|tensorrt|nvidia", name)
        else:
            assert "--no-deps" in words
    for file in LISTS:
        assert not re.search(r"^(torch|tensorrt|nvidia)", file.read_text(), re.MULTILINE)


def test_what_is_copied_is_there_and_no_more_than_the_device_needs() -> None:
    sources = [word for rest in the("COPY") for word in rest.split()[:-1]]
    for source in sources:
        for jetpack in "67":
            assert (ROOT / source.replace("${JETPACK}", jetpack)).exists(), source
    assert sources == [
        "tools/jetson_image/jetpack${JETPACK}.txt",
        "pyproject.toml",
        "README.md",
        "LICENSE",
        "netadapt_trt",
        "backends",
    ]
    assert the("ENTRYPOINT") == ['["netadapt-trt"]']


@pytest.mark.parametrize("there", [True, False])
def test_a_base_without_tensorrt_stops_the_build(there: bool, tmp_path: Path) -> None:
    (line,) = (run for run in the("RUN") if "find_spec" in run)
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "python").symlink_to(sys.executable)
    if there:  # importing it would fail as it does without a driver
        (tmp_path / "tensorrt.py").write_text("raise ImportError('libnvdla_compiler.so: cannot open shared object file')\n")
    environment = {"PATH": f"{tmp_path / 'bin'}:/usr/bin:/bin", "PYTHONPATH": str(tmp_path), "PYTHONNOUSERSITE": "1"}
    script = line.replace("python -c", "python -S -c")  # none of this environment's packages
    done = subprocess.run(["sh", "-c", script], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == (0 if there else 1), done.stderr
    assert ("no tensorrt" in done.stderr) != there


@pytest.mark.parametrize("file", LISTS, ids=lambda file: file.stem)
def test_lists_hold_what_the_device_needs(file: Path, tool: Any) -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    pins: dict[str, str] = {canonicalize_name(name): version for name, version in tool.pins(file).items()}
    for text in (*project["dependencies"], *project["optional-dependencies"]["ort"]):
        requirement = Requirement(text)
        version = pins[canonicalize_name(requirement.name)]
        assert requirement.specifier.contains(version), f"{file.name}: {requirement} and {version}"
    major = {"jetpack6": "12.", "jetpack7": "13."}[file.stem]
    assert pins["cuda-bindings"].startswith(major)
    if file.stem == "jetpack6":
        assert pins["numpy"].startswith("1.")


def test_tool_reads_what_stands_beside_the_lists(tool: Any) -> None:
    found = tool.beside_the_lists(TEXT)
    (wanted,) = re.findall(r"^setuptools==(\S+)$", (ROOT / "constraints.txt").read_text(), re.MULTILINE)
    assert found == {"setuptools": [wanted], "jetson-stats": ["4.3.2", "7.2.2"], "pycuda": ["2026.1"]}


def fake_pip(tool: Any, monkeypatch: pytest.MonkeyPatch, *, extra: str = "", offers: dict[str, str] | None = None) -> None:
    """pip resolves a list to itself and ``extra``, and offers these versions."""
    versions = {"setuptools": "84.2.1, 84.2.0", "jetson-stats": "7.2.2, 4.3.2", "pycuda": "2026.1", **(offers or {})}

    def run(command: list[str], **_: Any) -> Any:
        if "index" in command:
            return SimpleNamespace(returncode=0, stdout=f"{command[-1]} (x)\nAvailable versions: {versions[command[-1]]}\n")
        names = [*tool.pins(Path(command[-1])), *([extra] if extra else [])]
        report = {"install": [{"metadata": {"name": name, "version": "1"}} for name in names]}
        return SimpleNamespace(returncode=0, stdout=json.dumps(report), stderr="")

    monkeypatch.setattr(tool.subprocess, "run", run)
    monkeypatch.setattr(sys, "argv", ["check_image.py"])


def test_tool_is_content_with_complete_lists(
    tool: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    fake_pip(tool, monkeypatch)
    assert tool.main() == 0
    assert "jetson-stats: 4.3.2, 7.2.2 offered" in capsys.readouterr().out


def test_tool_names_a_missing_pin_and_a_version_that_is_gone(
    tool: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    fake_pip(tool, monkeypatch, extra="Tomli")
    assert tool.main() == 1
    assert "JetPack 6: not pinned: tomli" in capsys.readouterr().out
    fake_pip(tool, monkeypatch, offers={"pycuda": "2025.1, 2024.1"})
    assert tool.main() == 1
    assert "pycuda: not offered: 2026.1" in capsys.readouterr().out
