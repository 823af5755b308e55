"""The fake backend on the simulated board: its layers move the board's clock and draw power by the fake device's formula."""

from __future__ import annotations

from typing import Any

from netadapt_trt.backends.fake import FakeBackend

__all__ = ["SLOWER", "Powered", "Running"]

SLOWER = 2000.0
"""The fake device's microseconds would fill a window with a million runs."""


class Running:
    """A model on the board: its run takes the formula's time and draws the formula's power above idle."""

    def __init__(self, inner: Any, board: Any) -> None:
        self._inner, self._board = inner, board

    def run(self) -> None:
        self._inner.run()
        energy = self._inner.energy_mj()
        self._board.pass_time("load", self.elapsed_ms() / 1000, energy.total / self._inner.elapsed_ms() * 1000)

    def elapsed_ms(self) -> float:
        took: float = self._inner.elapsed_ms() * SLOWER
        return took

    def energy_mj(self) -> None:
        return None

    def infer(self, inputs: Any) -> Any:
        return self._inner.infer(inputs)

    def __enter__(self) -> Running:
        return self

    def __exit__(self, *_: object) -> None:
        self._inner.close()


class Powered(FakeBackend):  # type: ignore[misc]  # the packages under backends/ are found by entry point
    simulated = False

    def __init__(self, board: Any) -> None:
        super().__init__()
        self._board = board

    def compile(self, model: bytes, options: Any) -> Any:
        return Running(super().compile(model, options), self._board)
