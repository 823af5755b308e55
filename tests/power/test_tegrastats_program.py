"""A real process that plays lines: whole ones, torn ones, garbage, and one that dies under the measurement."""

from __future__ import annotations

import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from netadapt_trt.errors import PowerError
from netadapt_trt.power.sources.tegrastats_program import TegrastatsSource, find_program

if TYPE_CHECKING:
    from collections.abc import Callable

HERE = Path(__file__).parent
NANO = [line for line in (HERE / "tegrastats-samples.txt").read_text().split("\n") if line.startswith("RAM 1")][:3]
NO_RAILS = "RAM 6774/7773MB (lfb 159x4MB) CPU [100%@1420] EMC_FREQ 0% GR3D_FREQ 99% AO@54.5C"
IN, GPU, CPU = "POM_5V_IN", "POM_5V_GPU", "POM_5V_CPU"

# Plays the chunks of the file beside it (separated by a line of dashes), one at a time: the next one when a file named
# after its number appears, so that a test decides what has been printed and no clock does. Then ends, or waits.
PLAYER = """\
import os, pathlib, sys, time
here = pathlib.Path(__file__).parent
(here / "arguments").write_text(" ".join(sys.argv[1:]))
(here / "pid").write_text(str(os.getpid()))
chunks = (here / "chunks").read_bytes().split(b"\\n-----\\n")
for number, chunk in enumerate(chunks):
    while number and not (here / f"go-{number}").exists():
        time.sleep(0.002)
    os.write(1, chunk)
    (here / f"played-{number}").touch()
if (here / "ends").exists():
    sys.exit(3)
time.sleep(120)
"""


class Player:
    """The program's folder: what it prints, and when."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.script = folder / "player.py"
        self.script.write_text(PLAYER)

    def plays(self, *chunks: str | bytes, ends: bool = False) -> Player:
        """Each chunk is written as it stands: without a newline it is half a line."""
        raw = [chunk.encode() if isinstance(chunk, str) else chunk for chunk in chunks]
        (self.folder / "chunks").write_bytes(b"\n-----\n".join(raw))
        if ends:
            (self.folder / "ends").touch()
        return self

    def go(self, number: int) -> None:
        (self.folder / f"go-{number}").touch()

    def source(self, start_s: float = 30.0) -> TegrastatsSource:
        # the interval is long so that no reading is stale on a busy machine
        return TegrastatsSource(command=[sys.executable, str(self.script)], interval_s=60.0, start_s=start_s)


@pytest.fixture
def player(tmp_path: Path) -> Player:
    return Player(tmp_path)


def _until(met: Callable[[], bool], tries: int = 3000) -> None:
    """Wait for something that another process does; patience, no measurement."""
    pause = threading.Event()
    for _ in range(tries):
        if met():
            return
        pause.wait(0.01)
    pytest.fail("the fake program did not get there")


def test_tegrastats_gives_the_newest_line(player: Player) -> None:
    player.plays(NANO[0] + "\n", NANO[1] + "\n" + NANO[2] + "\n")
    with player.source() as source:
        assert source.rails == (IN, GPU, CPU)
        assert source.read() == {IN: 2132.0, GPU: 78.0, CPU: 275.0}
        player.go(1)
        _until(lambda: (source.read() or {}).get(CPU) == 236.0)
        assert source.read() == {IN: 2132.0, GPU: 78.0, CPU: 236.0}
        assert source.details()["board"] == "Jetson Nano"
    assert (player.folder / "arguments").read_text() == "--interval 60000"


def test_tegrastats_half_a_line_is_no_line(player: Player) -> None:
    half, rest = NANO[1][:-10], NANO[1][-10:]  # torn inside the last rail
    player.plays(NANO[0] + "\n", half, rest + "\n")
    with player.source() as source:
        player.go(1)
        _until((player.folder / "played-1").exists)
        assert source.read() == {IN: 2132.0, GPU: 78.0, CPU: 275.0}
        player.go(2)
        _until(lambda: source.read() == {IN: 2247.0, GPU: 78.0, CPU: 275.0})


def test_tegrastats_garbage_between_lines_is_skipped(player: Player) -> None:
    player.plays(b"\xff\xfe\x00 garbage\n" + NANO[0].encode() + b"\n", b"\x00" * 200_000 + b"\n" + NANO[1].encode() + b"\n")
    with player.source() as source:
        player.go(1)
        _until(lambda: (source.read() or {}).get(IN) == 2247.0)


def test_tegrastats_a_line_that_lacks_a_rail_is_a_missing_sample(player: Player) -> None:
    player.plays(NANO[0] + "\n", "RAM 1/2MB POM_5V_IN 2132/2132 POM_5V_GPU 78/78\n", NANO[2] + "\n")
    with player.source() as source:
        player.go(1)
        _until(lambda: source.read() is None)
        player.go(2)
        _until(lambda: source.read() is not None)


def test_tegrastats_an_old_line_is_a_missing_sample(player: Player) -> None:
    now = [100.0]
    player.plays(NANO[0] + "\n")
    command = [sys.executable, str(player.script)]
    with TegrastatsSource(command=command, interval_s=0.1, start_s=30.0, clock=lambda: now[0]) as source:
        now[0] += 0.29
        assert source.read() is not None
        now[0] += 0.02  # over three intervals
        assert source.read() is None


def test_tegrastats_vanishing_while_measuring_is_an_error(player: Player) -> None:
    player.plays(NANO[0] + "\n", "Segmentation fault\n", ends=True)
    with player.source() as source:
        assert source.read() is not None
        player.go(1)
        with pytest.raises(
            PowerError, match=r"tegrastats: it ended while measuring \(status 3\), saying: Segmentation fault"
        ):
            _until(lambda: source.read() is None)


def test_tegrastats_ending_at_once_is_an_error(player: Player) -> None:
    player.plays("permission denied\n", ends=True)
    with pytest.raises(PowerError, match=r"before its first power reading \(status 3\), saying: permission denied"):
        player.source().__enter__()


def test_tegrastats_without_rails_is_an_error_and_no_zero(player: Player) -> None:
    player.plays(f"{NO_RAILS}\n" * 3)
    with pytest.raises(PowerError, match="prints no power rails on this board"):
        player.source().__enter__()


def test_tegrastats_silence_is_an_error(player: Player) -> None:
    player.plays("half a line")
    with pytest.raises(PowerError, match=r"no line within 0\.2 s"):
        player.source(start_s=0.2).__enter__()


@pytest.mark.parametrize("lines", [f"{NANO[0]}\n", f"{NO_RAILS}\n" * 3], ids=["works", "no rails"])
def test_tegrastats_leaves_no_process_behind(player: Player, lines: str) -> None:
    player.plays(lines)
    try:
        with player.source():
            pass
    except PowerError:
        pass
    pid = int((player.folder / "pid").read_text())
    assert not Path(f"/proc/{pid}").exists()
    assert not [thread for thread in threading.enumerate() if thread.name == "tegrastats"]


def test_tegrastats_a_program_that_ignores_being_asked_is_killed(player: Player) -> None:
    player.script.write_text("import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN)\n" + PLAYER)
    player.plays(NANO[0] + "\n")
    with player.source():
        pass
    assert not Path(f"/proc/{(player.folder / 'pid').read_text()}").exists()


def test_tegrastats_a_program_that_does_not_start_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(PowerError, match=r"tegrastats: .*nothing does not start: No such file"):
        TegrastatsSource(command=[str(tmp_path / "nothing")]).__enter__()


def test_tegrastats_missing_says_how_to_mount_it(tmp_path: Path) -> None:
    with pytest.raises(PowerError, match="-v /usr/bin/tegrastats:/usr/bin/tegrastats:ro"):
        TegrastatsSource(tmp_path).__enter__()


def test_find_program_looks_below_the_root_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "tegrastats").write_text("#!/bin/sh\n")
    (elsewhere / "tegrastats").chmod(0o755)
    monkeypatch.setenv("PATH", str(elsewhere))
    assert find_program(tmp_path) is None
    (tmp_path / "usr/bin").mkdir(parents=True)
    (tmp_path / "usr/bin/tegrastats").touch()
    assert find_program(tmp_path) == tmp_path / "usr/bin/tegrastats"
    assert find_program(Path("/")) == elsewhere / "tegrastats"
