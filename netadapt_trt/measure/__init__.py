"""Measuring: one stopwatch for every runtime, its statistics, and the state of the machine it runs on.

Import from the modules: ``stopwatch`` (timing), ``stats`` (numbers out of samples), ``network`` (whole networks of a plan),
``machine`` (what this computer is and how busy it is).
"""

from __future__ import annotations

__all__: list[str] = []
