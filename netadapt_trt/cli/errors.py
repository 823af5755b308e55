"""The boundary between the library's exceptions and a process that ends: messages, exit status, never a lost traceback.

0 done, 1 expected failure (message: what, why, what to do), 2 usage, 70 a bug of ours (traceback), 130 interrupted.
"""

from __future__ import annotations

import contextlib
import errno
import functools
import os
import sys
import traceback
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NoReturn, ParamSpec

import typer

from netadapt_trt.cli.output import Output
from netadapt_trt.errors import NetadaptError

__all__ = ["EXIT_BUG", "EXIT_FAILURE", "EXIT_INTERRUPTED", "explain", "fail", "verb"]

EXIT_FAILURE = 1
EXIT_BUG = 70  # EX_SOFTWARE of sysexits.h
EXIT_INTERRUPTED = 130  # 128 + SIGINT, as shells have it

_DISK_FULL = (errno.ENOSPC, errno.EDQUOT)
_PATH_TROUBLE = (
    errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOENT, errno.ENOTDIR, errno.EISDIR, errno.EEXIST, errno.ENAMETOOLONG,
    errno.ENOTEMPTY, errno.EIO, errno.ESTALE, errno.ETXTBSY, errno.EMFILE, errno.ENFILE,
)  # fmt: skip

P = ParamSpec("P")


def verb(run: Callable[P, None]) -> Callable[P, None]:
    """Make ``run`` a verb: its failures become messages on stderr and an exit status."""

    @functools.wraps(run)
    def guarded(*args: P.args, **kwargs: P.kwargs) -> None:
        as_json = bool(kwargs.get("as_json"))
        try:
            run(*args, **kwargs)
        except (typer.Exit, typer.Abort, typer.BadParameter):
            raise
        except KeyboardInterrupt:
            begun = _begun(kwargs)
            goes_on = "the same command" if begun is None else _resuming(begun)
            _say(f"interrupted; finished work is saved, {goes_on} goes on from there")
            raise typer.Exit(EXIT_INTERRUPTED) from None
        except BrokenPipeError:
            # the reader of our output (head, a pager) has left; nothing is wrong, and nothing more can be said to it
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            raise typer.Exit(EXIT_FAILURE) from None
        except Exception as error:
            message = explain(error, run_directory=_begun(kwargs))
            if message is None:
                traceback.print_exc(file=sys.stderr)
                _say("this is a bug in netadapt-trt; please report it with the lines above")
                raise typer.Exit(EXIT_BUG) from error
            _say(message)
            if as_json:
                Output(True).result({"error": type(error).__name__, "message": message}, lambda _: None)
            raise typer.Exit(EXIT_FAILURE) from error

    return guarded


def _begun(arguments: Mapping[str, object]) -> Path | None:
    """The run that ``adapt`` or ``search run`` has begun, if any: only --resume goes on, -o refuses to write over it."""
    directory = arguments.get("resume") or arguments.get("output")
    if "resume" not in arguments or not isinstance(directory, Path) or not (directory / "run.json").is_file():
        return None
    return directory


def _resuming(run: Path) -> str:
    """The command that goes on with a run: a search has a space, a run of ``adapt`` has none."""
    return f"netadapt-trt {'search run' if (run / 'space.json').is_file() else 'adapt'} --resume {run}"


def fail(error: Exception) -> NoReturn:
    """End the verb with ``error``'s message after its result has been written. Status 1."""
    _say(str(error))
    raise typer.Exit(EXIT_FAILURE)


def explain(error: Exception, *, run_directory: Path | None = None) -> str | None:
    """A message for a failure that a user can mend (in a run that has begun, its directory); None for a bug of ours."""
    if isinstance(error, NetadaptError):
        return str(error)
    # safetensors and onnx wrap the system's error in their own types, with its words kept
    if (isinstance(error, OSError) and error.errno in _DISK_FULL) or "No space left on device" in str(error):
        path = (error.filename if isinstance(error, OSError) else None) or run_directory
        where = "" if path is None else f" while writing {path}"
        again = "the same command again" if run_directory is None else _resuming(run_directory)
        return f"the disk is full{where}; what was finished before is kept. Free some space and run {again}"
    if isinstance(error, OSError) and error.errno in _PATH_TROUBLE:
        where = f"{error.filename}: " if error.filename else ""
        return f"{where}{error.strerror}; check the path and its permissions"
    if isinstance(error, ModuleNotFoundError) and error.name and not error.name.startswith("netadapt_trt"):
        extra = _EXTRAS.get(error.name.split(".")[0])
        return (
            f"this needs {error.name}, which is not installed; run: pip install 'netadapt-trt[{extra}]'" if extra else None
        )
    if isinstance(error, MemoryError):
        return "memory ran out; a smaller --batch-size, fewer --workers or a smaller --input need less"
    return None


_EXTRAS = {
    "onnxruntime": "ort", "torch": "torch", "torchvision": "torch", "onnxscript": "torch", "safetensors": "torch",
    "sklearn": "torch", "tensorboard": "torch", "jinja2": "report", "plotly": "report", "scipy": "torch",
}  # fmt: skip


def _say(message: str) -> None:
    with contextlib.suppress(OSError):
        sys.stderr.write(f"netadapt-trt: {message}\n")
