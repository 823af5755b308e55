"""Tables of single convolutions: ``{Type,batch,cin,h,w,cout,kernel,stride,fused} ms``, one a line, -1 where there is none.

The format of Alibaba's lightweight-neural-architecture-search, whose profiler times one TensorRT engine for each line.
``Type`` is Regular or Depthwise. ``fused`` says whether the residual sum behind the convolution is timed with it. The
lines do not say how the picture is padded, nor whether an activation is in the engine.
"""

from __future__ import annotations

import math
import re
from typing import TYPE_CHECKING, NamedTuple

from netadapt_trt.errors import FileFormatError
from netadapt_trt.lut.importers.conv_keys import Convolution, convolution_cell
from netadapt_trt.lut.importers.table import UNITS, Imported, identity_of, latency_once
from netadapt_trt.lut.schema import LEAST, Cell

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from netadapt_trt.lut.importers.table import Conditions, ForeignFile

__all__ = ["import_conv_table", "is_conv_table"]

_LINE = re.compile(r"\{(\w{1,20}),(\d{1,9}),(\d{1,9}),(\d{1,9}),(\d{1,9}),(\d{1,9}),(\d{1,9}),(\d{1,9}),([01])\} (\S{1,40})")
_MAX_SIZE = 1 << 20
_NOT_MEASURED = -1.0
_HIGHEST_MS = 1e8


class _Found(NamedTuple):
    where: str
    convolution: Convolution
    channels: tuple[int, int]
    value: float


def is_conv_table(data: bytes) -> bool:
    """Whether the first line looks like one of this format."""
    first = data[:200].split(b"\n", 1)[0].strip()
    return _LINE.fullmatch(first.decode("latin-1")) is not None


def import_conv_table(files: Sequence[ForeignFile], conditions: Conditions) -> Imported:
    """Cells of one batch, under the keys that the planner gives the same convolutions.

    Padding is taken to be kernel // 2 on every side, as the profiler's sizes have it. Raises FileFormatError for a bad line
    (its number is named), a batch or precision that has to be said, or a convolution that is there twice.
    """
    if conditions.precision is None:
        raise FileFormatError(
            f"{files[0].path} does not say in which precision it was measured; add --precision fp32, fp16 or int8"
        )
    lines = [found for file in files for found in _lines(file, conditions.activation)]
    batch = _batch({found.convolution.batch for found in lines}, conditions, files[0])
    unit = conditions.unit or "ms"
    scale = UNITS[unit]
    cells: dict[tuple[str, tuple[int, ...]], Cell] = {}
    missing = 0
    for found in lines:
        if found.convolution.batch != batch:
            continue
        if found.value == _NOT_MEASURED:
            missing += 1
            continue
        if not LEAST <= found.value * scale <= _HIGHEST_MS:
            raise FileFormatError(
                f"{found.where}: {found.value:g} {unit} is not a time; say the file's --unit, or mend that line"
            )
        try:
            key = convolution_cell(found.convolution, *found.channels)
        except ValueError as error:
            raise FileFormatError(f"{found.where}: {error}; remove or mend that line") from error
        if key in cells:
            raise FileFormatError(f"{found.where}: this convolution is there twice; keep one of the lines")
        cells[key] = Cell(layer=key[0], widths=key[1], session="", latency_ms=latency_once(found.value * scale))
    if not cells:
        raise FileFormatError(f"{files[0].path} holds no measured convolution of batch {batch}; nothing to import")
    notices = []
    if missing:
        notices.append(
            f"{missing} of {missing + len(cells)} convolutions of batch {batch} were not measured (-1) and left out"
        )
    notices.append("The source does not say how pictures were padded: kernel // 2 on every side was taken")
    if conditions.activation == "none":
        notices.append(
            "The source does not say whether an activation was timed, too: none was taken, so the keys are those of bare "
            "convolutions; --activation Relu makes keys of convolutions with that activation behind them"
        )
    return Imported(
        identity=identity_of(conditions, backend="trt", runtime="tensorrt", precision=conditions.precision, batch=batch),
        cells=tuple(cells.values()),
        notices=tuple(notices),
        settings={"format": "conv-table", "latency_file_unit": unit, "activation": conditions.activation},
    )


def _batch(found: set[int], conditions: Conditions, file: ForeignFile) -> int:
    """The one batch of the LUT: the key holds it, and so does the identity."""
    if conditions.batch is None and len(found) > 1:
        listed = ", ".join(str(batch) for batch in sorted(found))
        raise FileFormatError(
            f"{file.path} holds batches {listed}, and a LUT is of one; add --batch {min(found)}, and import once for each"
        )
    return conditions.batch or min(found, default=1)


def _lines(file: ForeignFile, activation: str) -> Iterator[_Found]:
    try:
        text = file.data.decode("ascii")
    except UnicodeDecodeError as error:
        number = file.data.count(b"\n", 0, error.start) + 1
        raise FileFormatError(f"{file.path} line {number}: not plain text; a table of convolutions was expected") from error
    for number, line in enumerate(text.splitlines(), start=1):
        if line.strip():
            yield _parsed(line.strip(), f"{file.path} line {number}", activation)


def _parsed(line: str, where: str, activation: str) -> _Found:
    match = _LINE.fullmatch(line)
    if match is None or match[1] not in ("Regular", "Depthwise"):
        raise FileFormatError(
            f"{where}: {line[:60]!r} is not {{Regular|Depthwise,batch,cin,h,w,cout,kernel,stride,fused}} ms; "
            f"mend or remove that line"
        )
    batch, channels_in, height, width, channels_out, kernel, stride = sizes = tuple(
        int(match[index]) for index in range(2, 9)
    )
    if min(sizes) < 1 or max(sizes) > _MAX_SIZE:
        raise FileFormatError(f"{where}: sizes go from 1 to {_MAX_SIZE}; mend or remove that line")
    try:
        value = float(match[10])
    except ValueError as error:
        raise FileFormatError(f"{where}: {match[10]!r} is not a number; mend or remove that line") from error
    if not math.isfinite(value) or (value != _NOT_MEASURED and not 0 < value <= _HIGHEST_MS):
        raise FileFormatError(f"{where}: {match[10]} is not a time; write -1 for what was not measured")
    convolution = Convolution(
        batch=batch,
        size=(height, width),
        kernel=(kernel, kernel),
        stride=(stride, stride),
        padding=(kernel // 2, kernel // 2),
        depthwise=match[1] == "Depthwise",
        residual=match[9] == "1",
        activation=activation,
    )
    return _Found(where, convolution, (channels_in, channels_out), value)
