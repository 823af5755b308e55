"""Jobs are this program and nothing that lies in the workspace."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import pytest

from netadapt_trt.webui.process import launch, program

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.skipif(sys.version_info < (3, 11), reason="Python 3.10 always looks for modules in the working directory")
def test_files_of_the_workspace_are_no_modules(tmp_path: Path) -> None:
    for name in ("typer", "numpy", "rich"):
        (tmp_path / f"{name}.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')\n")
    log = tmp_path / "job.log"
    assert launch([*program(), "--help"], log=log, folder=tmp_path).wait(timeout=60) == 0
    assert "Make a pretrained network fit" in log.read_text()
    assert not (tmp_path / "ran").exists()
