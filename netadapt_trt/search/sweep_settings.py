"""Everything that decides how a sweep goes, in one frozen object that survives a round trip through JSON."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from netadapt_trt.errors import SpecError
from netadapt_trt.search.settings import CHANGEABLE, SearchSettings, require_counts
from netadapt_trt.space.knobs import Knobs
from netadapt_trt.training.fine_tune import FineTune

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["SweepSettings"]

_UNDECISIVE = CHANGEABLE | {"output", "space", "tables", "alpha", "beta", "gamma", "delta"}


@dataclass(frozen=True, slots=True, kw_only=True)
class SweepSettings:
    """One sweep.

    Attributes:
        search: what all searches have in common; its ``output`` is the sweep's directory, its own knobs do not count.
        grid: the knobs of each search.
        training: how each search's most probable child is trained; None leaves children untrained.
        backend: the runtime that times all children in the end; None times none.
        threads: of that runtime; default: its own.
        rounds: turns that each child gets.
    """

    search: SearchSettings
    grid: tuple[Knobs, ...]
    training: FineTune | None = None
    backend: str | None = None
    threads: int | None = None
    rounds: int = 7

    def __post_init__(self) -> None:
        if self.search.latency_target_ms is not None or self.search.energy_target_mj is not None:
            raise SpecError(
                "a sweep goes over knobs, a target sets them by itself; leave the target out, or make one search"
            )
        if self.rounds < 1 or (self.threads is not None and self.threads < 1):
            raise SpecError("rounds and threads of a measurement must be at least 1")

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values; :meth:`from_json` reads them back."""
        return {
            "search": self.search.to_json(),
            "grid": [knobs.to_json() for knobs in self.grid],
            "training": None if self.training is None else self.training.to_json(),
            "backend": self.backend,
            "threads": self.threads,
            "rounds": self.rounds,
        }

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> SweepSettings:
        """Raises SpecError for what another version wrote, or a value that does not fit."""
        try:
            training = content["training"]
            require_counts(content)
            require_counts(training or {})
            return cls(
                search=SearchSettings.from_json(content["search"]),
                grid=tuple(Knobs.from_json(entry) for entry in content["grid"]),
                training=None if training is None else FineTune(**training),
                backend=content["backend"],
                threads=content["threads"],
                rounds=content["rounds"],
            )
        except (KeyError, TypeError, ValueError, OverflowError) as error:
            raise SpecError(f"the settings of a sweep cannot be read: {error!r}; its sweep.json was changed") from error

    def decisive(self) -> dict[str, Any]:
        """What must stay the same when a sweep goes on, beside the content of space and tables (``sweep_store``).

        The measurement in the end decides nothing.
        """
        search = {name: value for name, value in self.search.to_json().items() if name not in _UNDECISIVE}
        training = {} if self.training is None else self.training.to_json()
        children = {f"{name} of the children": value for name, value in training.items() if name != "device"}
        grid = [knobs.to_json() for knobs in self.grid]
        return {**search, "grid": grid, "training of the children": self.training is not None, **children}
