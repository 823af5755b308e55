"""A device that exists only as a formula, so that the whole pipeline runs anywhere in seconds. See ``cost``."""

from __future__ import annotations

from .backend import FakeBackend
from .executable import FakeExecutable

__all__ = ["FakeBackend", "FakeExecutable"]
