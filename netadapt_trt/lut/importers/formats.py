"""Which format a foreign table has, and the reader of each."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, get_args

from netadapt_trt.errors import FileFormatError
from netadapt_trt.lut.importers.conv_table import import_conv_table, is_conv_table
from netadapt_trt.lut.importers.hanna import BLOCKS, import_hanna
from netadapt_trt.lut.importers.netadapt_table import import_netadapt
from netadapt_trt.lut.importers.table import read_foreign, write_imported

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from netadapt_trt.lut.importers.table import Conditions, ForeignFile, Imported
    from netadapt_trt.lut.store import Lut

__all__ = ["Format", "guess_format", "import_tables"]

Format = Literal["hanna", "conv-table", "netadapt-pickle"]


def guess_format(file: ForeignFile) -> Format:
    """The format that the first bytes speak for. Raises FileFormatError where none, or more than one, is possible."""
    if file.data[:1] == b"\x80":
        return "netadapt-pickle"
    if is_conv_table(file.data):
        return "conv-table"
    if _is_numbers(file.data[:4096].split(b"\n", 1)[0]):
        return "hanna"
    raise FileFormatError(
        f"{file.path} is of no format that can be told from its content; add --format {', '.join(get_args(Format))}"
    )


def _is_numbers(line: bytes) -> bool:
    words = line.split()
    try:
        return len(words) == len(BLOCKS) and all(float(word) == float(word) for word in words)
    except ValueError:
        return False


def import_tables(
    paths: Sequence[Path],
    output: Path,
    conditions: Conditions,
    *,
    format: Format | None = None,
    energy: Path | None = None,
    power: Path | None = None,
) -> tuple[Imported, Lut]:
    """Read foreign tables and write them as one LUT; what was read, and the LUT.

    ``energy`` (joules) and ``power`` (watts) go with ``hanna``. Raises FileFormatError, also for files that do not go
    together.
    """
    files = [read_foreign(path) for path in paths]
    kind = format or guess_format(files[0])
    if kind != "hanna" and (energy or power):
        raise FileFormatError(f"--energy and --power go with --format hanna; {kind} has none")
    if kind != "conv-table" and len(files) > 1:
        listed = ", ".join(str(path) for path in paths[1:])
        hint = (
            "say --energy FILE or --power FILE for tables of these" if kind == "hanna" else "import one file after another"
        )
        raise FileFormatError(f"a {kind} LUT is made of one table of latencies, and {listed} came with it; {hint}")
    if kind == "hanna":
        others = [None if path is None else read_foreign(path) for path in (energy, power)]
        table = import_hanna(files[0], others[0], others[1], conditions)
        files += [file for file in others if file is not None]
    elif kind == "conv-table":
        table = import_conv_table(files, conditions)
    else:
        table = import_netadapt(files[0], conditions)
    return table, write_imported(table, files, conditions, output)
