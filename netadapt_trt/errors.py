"""Every exception this package raises on purpose, in one tree.

::

    NetadaptError                  anything a user can cause; the command line prints it and exits with 1
    |-- SpecError                  a model, data, budget or option string that names nothing we know
    |-- FileFormatError            a file of ours that cannot be read
    |   |-- TooOldError            written by a version whose files are no longer read
    |   `-- TooNewError            written by a newer version than this one
    |-- IdentityError              measurements of two different devices, runtimes or precisions would be mixed
    |-- LockedError                another process is writing the same file or directory
    |-- TraceError                 a network that cannot be exported or analysed
    |-- WeightsError               weights that do not fit the network, or a file that is not plain tensors
    |-- DataError                  a data set that is missing, empty or malformed
    |-- BackendError               a runtime that is missing, refuses a model or fails while running
    |-- PowerError                 a power source that is missing, may not be read or vanishes while measuring
    |-- CoverageError              a LUT that lacks layers of this network
    |-- BudgetError                a budget that cannot be reached or judged
    |-- WorkerError                a proposal that failed on every worker that tried it
    `-- CheckError                 a numerical check that failed (ONNX against PyTorch, for example)

A message says what happened, why, and what to do about it.
"""

from __future__ import annotations

__all__ = [
    "BackendError",
    "BudgetError",
    "CheckError",
    "CoverageError",
    "DataError",
    "FileFormatError",
    "IdentityError",
    "LockedError",
    "NetadaptError",
    "PowerError",
    "SpecError",
    "TooNewError",
    "TooOldError",
    "TraceError",
    "WeightsError",
    "WorkerError",
]


class NetadaptError(Exception):
    """Base of every failure that a user can cause and mend."""


class SpecError(NetadaptError):
    """A model, data, budget or option string that cannot be understood."""


class FileFormatError(NetadaptError):
    """A file of this package that is damaged or of another format."""


class TooOldError(FileFormatError):
    """A file whose version is no longer read."""


class TooNewError(FileFormatError):
    """A file written by a newer version of this package."""


class IdentityError(NetadaptError):
    """Measurements taken under different conditions would be mixed."""


class LockedError(NetadaptError):
    """Another process holds the file or directory."""


class TraceError(NetadaptError):
    """A network that cannot be exported or whose channels cannot be analysed."""


class WeightsError(NetadaptError):
    """Weights that do not fit, or a weights file that holds more than tensors."""


class DataError(NetadaptError):
    """A data set that is missing, empty or malformed."""


class BackendError(NetadaptError):
    """A runtime that is missing, refuses a model or fails while running it."""


class PowerError(NetadaptError):
    """A power source that is missing, may not be read or stops answering. The message starts with the source's name."""


class CoverageError(NetadaptError):
    """A LUT that lacks what an estimate needs."""


class BudgetError(NetadaptError):
    """A budget that cannot be reached, or not judged with what is known."""


class WorkerError(NetadaptError):
    """A proposal that failed on every worker that tried it."""


class CheckError(NetadaptError):
    """A numerical check that failed."""
