"""The container of docs/jetson.md, without Docker: what its one command shows of the host, and where it keeps its files.

The page's shell function is run by a shell whose ``docker`` writes down its arguments.
"""

from __future__ import annotations

import importlib
import itertools
import re
import shlex
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from netadapt_trt.measure.device_state import device_state, problems

ROOT = Path(__file__).parents[1]
trees: Any = importlib.import_module("jetson_trees")
_NAME = "NVIDIA Jetson Orin Nano Engineering Reference Developer Kit Super"


def page_function() -> str:
    """The block that defines ``run``, without the call that follows."""
    (block,) = re.findall(
        r"^```sh\n((?:(?!```).)*^run\(\) \{.*?^\}\n)", (ROOT / "docs" / "jetson.md").read_text(), re.MULTILINE | re.DOTALL
    )
    return str(block)


def header_line() -> str:
    """The ``docker run`` of the Dockerfile's header."""
    lines = [
        line.lstrip("#").strip() for line in (ROOT / "Dockerfile.jetson").read_text().splitlines() if line.startswith("#")
    ]
    text = "\n".join(lines)
    (found,) = re.findall(r"^docker run .*?[^\\]$", text, re.MULTILINE | re.DOTALL)
    return str(found)


def docker_words(script: str, tmp_path: Path) -> list[str]:
    """What ``docker`` would be called with, on a host that is an Orin Nano."""
    (tmp_path / "model").write_text(f"{_NAME}\0")
    (tmp_path / "docker").write_text('#!/bin/sh\nfor word; do printf "%s\\0" "$word"; done\n')
    (tmp_path / "docker").chmod(0o755)
    done = subprocess.run(
        ["sh", "-eu", "-c", script.replace("/proc/device-tree/model", shlex.quote(str(tmp_path / "model")))],
        cwd=tmp_path,
        env={"PATH": f"{tmp_path}:/usr/bin:/bin", "PWD": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert not done.stderr
    return done.stdout.split("\0")[:-1]


def options(words: list[str], name: str) -> list[str]:
    return [value for option, value in itertools.pairwise(words) if option == name]


@pytest.fixture(params=["page", "header"])
def words(request: pytest.FixtureRequest, tmp_path: Path) -> list[str]:
    script = page_function() + "run doctor" if request.param == "page" else header_line()
    return docker_words(script, tmp_path)


def test_the_container_sees_what_a_measurement_keeps(words: list[str], tmp_path: Path) -> None:
    host, inside = trees.orin_nano(tmp_path / "host"), tmp_path / "inside"
    shutil.copytree(host / "sys", inside / "sys")
    trees.write(inside, {".dockerenv": "", "dev/nvmap": "", "proc/sys/kernel/random/boot_id": "1\n"})
    for mount in options(words, "-v"):
        source, target, *mode = mount.split(":")
        if target != "/work":
            assert mode == ["ro"]
            (inside / target[1:]).parent.mkdir(parents=True, exist_ok=True)
            copy: Any = shutil.copytree if (host / source[1:]).is_dir() else shutil.copy
            copy(host / source[1:], inside / target[1:])
    state = device_state(inside)
    assert (state.l4t, state.power_mode, state.power_mode_id) == ("36.4.3", "MAXN_SUPER", 2)
    # The one thing that no mount gives back is in a variable, which counts below the real root alone.
    assert [problem.what for problem in problems(state)] == ["the container hides the name of the board"]
    assert options(words, "-e") == [f"NETADAPT_TRT_BOARD={_NAME}"]


def test_the_container_keeps_its_files_and_gets_the_device(words: list[str], tmp_path: Path) -> None:
    assert f"{tmp_path}:/work" in options(words, "-v")
    assert words[:2] == ["run", "--rm"]
    assert options(words, "--runtime") == ["nvidia"]
    assert options(words, "--network") == ["host"]
    assert words[-2:] == ["netadapt-trt", "doctor"]
    text = (ROOT / "Dockerfile.jetson").read_text()
    (cache,) = re.findall(r"NETADAPT_TRT_CACHE=(\S+)", text)
    assert Path(cache).parent == Path("/work")
    assert re.search(r"^WORKDIR /work$", text, re.MULTILINE)


def test_run_takes_options_and_words_with_blanks(tmp_path: Path) -> None:
    script = page_function() + "GPU='--gpus all'\nOPTIONS='-e A=1 -e B=2'\nrun build 'a b.onnx'"
    words = docker_words(script, tmp_path)
    assert options(words, "--gpus") == ["all"]
    assert "--runtime" not in words
    assert options(words, "-e")[:2] == ["A=1", "B=2"]
    assert words[-3:] == ["netadapt-trt", "build", "a b.onnx"]


def test_build_lines_of_page_and_header_agree() -> None:
    """Bases and JetPacks: a tag that only one of the two knows would be a slip."""
    pages = [(ROOT / name).read_text() for name in ("Dockerfile.jetson", "docs/jetson.md")]
    bases, jetpacks = (
        [sorted(set(re.findall(what, text))) for text in pages] for what in (r"BASE=(nvcr\S+?)[`\s]", r"JETPACK=(\d)")
    )
    assert bases[1] == [base for base in bases[0] if base in bases[1]]
    assert bases[1] == ["nvcr.io/nvidia/l4t-jetpack:r36.3.0", "nvcr.io/nvidia/tensorrt:25.10-py3"]
    assert set(jetpacks[1]) <= set(jetpacks[0])
