"""A device that exists only as a formula, so that the whole pipeline runs anywhere in seconds. See ``cost``."""

from __future__ import annotations

from .backend import FakeBackend

__all__ = ["FakeBackend"]
