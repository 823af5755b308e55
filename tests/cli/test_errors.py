"""The boundary: which failure ends how, and what is said."""

from __future__ import annotations

import errno
import json
import os
from pathlib import Path  # noqa: TC003  typer reads it
from typing import TYPE_CHECKING, Annotated

import pytest
import typer
from typer.testing import CliRunner

from netadapt_trt.cli.errors import EXIT_BUG, EXIT_FAILURE, EXIT_INTERRUPTED, explain, verb
from netadapt_trt.cli.output import Output
from netadapt_trt.errors import BudgetError, FileFormatError, NetadaptError

if TYPE_CHECKING:
    from collections.abc import Callable

    from typer.testing import Result


def run(action: Callable[[], None], *arguments: str) -> Result:
    app = typer.Typer(pretty_exceptions_enable=False)

    @app.command()
    @verb
    def only(as_json: Annotated[bool, typer.Option("--json")] = False) -> None:
        with Output(as_json) as out:
            action()
            out.result({"fine": True}, lambda console: console.print("fine"))

    return CliRunner().invoke(app, list(arguments))


def raising(error: BaseException) -> Callable[[], None]:
    def action() -> None:
        raise error

    return action


def test_verb_that_succeeds_ends_with_0() -> None:
    result = run(lambda: None)
    assert (result.exit_code, result.stdout) == (0, "fine\n")


def test_expected_failure_is_a_message_without_traceback() -> None:
    result = run(raising(FileFormatError("x.json is no plan; make one with: netadapt-trt plan")))
    assert result.exit_code == EXIT_FAILURE
    assert result.stderr == "netadapt-trt: x.json is no plan; make one with: netadapt-trt plan\n"
    assert result.stdout == ""


def test_expected_failure_as_json_is_one_document() -> None:
    result = run(raising(BudgetError("too far")), "--json")
    assert result.exit_code == EXIT_FAILURE
    assert json.loads(result.stdout) == {"error": "BudgetError", "message": "too far"}


def test_interruption_ends_with_130_and_says_that_nothing_is_lost() -> None:
    result = run(raising(KeyboardInterrupt()))
    assert result.exit_code == EXIT_INTERRUPTED
    assert "saved" in result.stderr


def test_bug_keeps_its_traceback() -> None:
    result = run(raising(ZeroDivisionError("ours")))
    assert result.exit_code == EXIT_BUG
    assert "Traceback" in result.stderr
    assert "ZeroDivisionError: ours" in result.stderr


def test_usage_error_ends_with_2() -> None:
    assert run(lambda: None, "--nonsense").exit_code == 2


def test_stray_print_of_a_library_spoils_no_document() -> None:
    result = run(lambda: print("chatter"), "--json")  # noqa: T201
    assert json.loads(result.stdout) == {"fine": True}
    assert "chatter" in result.stderr


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "runs/x"), "full while writing runs/x"),
        (RuntimeError("Error while serializing: No space left on device (os error 28)"), "disk is full"),
        (PermissionError(errno.EACCES, "Permission denied", "/root/x"), "/root/x: Permission denied; check the path"),
        (ModuleNotFoundError("no torch", name="torch"), "pip install 'netadapt-trt[torch]'"),
        (ModuleNotFoundError("no ort", name="onnxruntime.capi"), "pip install 'netadapt-trt[ort]'"),
        (MemoryError(), "memory ran out"),
        (NetadaptError("said"), "said"),
    ],
)  # fmt: skip
def test_explain_tells_what_a_user_can_mend(error: Exception, words: str) -> None:
    assert words in str(explain(error))


@pytest.mark.parametrize("begun", [True, False])
@pytest.mark.parametrize("option", ["-o", "--resume"])
def test_disk_that_fills_in_adapt_is_told_with_the_command_that_goes_on(tmp_path: Path, option: str, begun: bool) -> None:
    if begun:
        (tmp_path / "run.json").write_text("{}")
    app = typer.Typer(pretty_exceptions_enable=False)

    @app.command()
    @verb
    def only(
        output: Annotated[Path | None, typer.Option("-o")] = None,
        resume: Annotated[Path | None, typer.Option("--resume")] = None,
    ) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))  # as a failing write has it: without the file's name

    message = CliRunner().invoke(app, [option, str(tmp_path)]).stderr
    if begun:
        assert f"the disk is full while writing {tmp_path}" in message
        assert f"run netadapt-trt adapt --resume {tmp_path}" in message
    else:
        assert "run the same command again" in message


@pytest.mark.parametrize(
    "error", [ValueError("x"), OSError(errno.EBADF, "Bad file descriptor"), ModuleNotFoundError(name="netadapt_trt.nope")]
)
def test_explain_leaves_bugs_alone(error: Exception) -> None:
    assert explain(error) is None
