"""Mean power of a layer from its kind, its latency and its work, learnt from the few cells whose energy was measured.

Energy is latency times mean power: a + b * latency over all layers, plus what a layer's power differs from that. It differs
with what bounds a layer, arithmetic or memory, and that shows in how much is computed for each element moved, in how much is
done in a millisecond and in the length of a run. Between measured cells that are alike in these the model interpolates
(universal kriging: Rasmussen and Williams, Gaussian Processes for Machine Learning, 2006, sections 2.2 and 2.7). Kinds of
layers stand apart by a distance, so a kind with few points leans on the others, and far from every point the line remains.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    Floats = NDArray[np.float64]

__all__ = ["FEWEST", "EnergyModel", "Load", "Point", "Prediction"]

FEWEST = 3
"""Points below which there is no model, and below which a kind has no error of its own."""

_REACH = 1.0  # how far a point is heard, in standard deviations of the features
_APART = 0.5  # squared distance between two kinds
_NOISE = 0.02  # share of the powers' variance that is the measurement's own


@dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    """What a cell is to the model. Cells of one ``level`` keep about the same share of their layer's full widths.

    ``elements`` counts what is read and written, weights among it.
    """

    kind: str
    level: int
    latency_ms: float
    macs: float
    elements: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Point:
    """A measured cell: its mean power in total and by rail."""

    load: Load
    total_mw: float
    power_mw: Mapping[str, float]


@dataclass(frozen=True, slots=True, kw_only=True)
class Prediction:
    """What the model says of a cell. ``error`` is the root mean square of its relative error on this kind's held-out points
    (on all, of a kind with fewer than three), ``rail_errors`` that of each rail, relative to the rail's mean."""

    energy_mj: float
    power_mw: dict[str, float]
    error: float
    rail_errors: dict[str, float]


@dataclass(frozen=True, slots=True)
class _Learnt:
    """``line`` [2, 1 + rails], ``weights`` [points, 1 + rails]."""

    line: Floats
    weights: Floats


class EnergyModel:
    """Learns from ``points``: at least three, with positive latency and power.

    Every point is also predicted without those of its kind and level, from layers of other widths: that is what the model is
    for. ``error`` is the mean relative error of the total there.

    Raises:
        ValueError: too few points.
    """

    def __init__(self, points: Sequence[Point]) -> None:
        if len(points) < FEWEST:
            raise ValueError(f"{len(points)} points make no model of energy; it takes {FEWEST}")
        self._rails = sorted({rail for point in points for rail in point.power_mw})
        self._loads = [point.load for point in points]
        rows = [[point.total_mw, *(point.power_mw.get(rail, 0.0) for rail in self._rails)] for point in points]
        self._powers: Floats = np.array(rows)
        features = _features(self._loads)
        self._centre = features.mean(axis=0)
        self._scale = np.maximum(features.std(axis=0), 1e-9)
        self._shortest = min(load.latency_ms for load in self._loads)
        self._everything = list(range(len(points)))
        self._learnt = self._learn(self._everything)
        missed = self._held_out() - self._powers
        self.error = float(np.abs(missed[:, 0] / self._powers[:, 0]).mean())
        units = np.maximum(self._powers.mean(axis=0), 1e-9)
        self._relative = np.concatenate([missed[:, :1] / self._powers[:, :1], missed[:, 1:] / units[1:]], axis=1)

    def predict(self, load: Load) -> Prediction:
        """Energy of one run of ``load``, and mean power by rail."""
        (power,) = self._say(self._everything, self._learnt, [load])
        own = [at for at, seen in enumerate(self._loads) if seen.kind == load.kind]
        errors = np.sqrt((self._relative[own if len(own) >= FEWEST else slice(None)] ** 2).mean(axis=0))
        return Prediction(
            energy_mj=float(power[0]) * load.latency_ms / 1000,
            power_mw=dict(zip(self._rails, power[1:].tolist(), strict=True)),
            error=float(errors[0]),
            rail_errors=dict(zip(self._rails, errors[1:].tolist(), strict=True)),
        )

    def _held_out(self) -> Floats:
        """Powers [points, 1 + rails] as the points of other levels, or of other kinds, predict them."""
        folds: dict[tuple[str, int], list[int]] = defaultdict(list)
        for at, load in enumerate(self._loads):
            folds[load.kind, load.level].append(at)
        found = np.zeros_like(self._powers)
        for fold in folds.values() if len(folds) > 1 else ([at] for at in self._everything):
            rest = [at for at in self._everything if at not in fold]
            found[fold] = self._say(rest, self._learn(rest), [self._loads[at] for at in fold])
        return found

    def _learn(self, chosen: Sequence[int]) -> _Learnt:
        """The line by generalised least squares, and how much each point stands out from it."""
        loads, powers = [self._loads[at] for at in chosen], self._powers[chosen]
        alike = self._alike(loads, loads) + _NOISE * np.eye(len(loads))
        trend = self._trend(loads)
        weighted = np.linalg.solve(alike, trend)
        # A hair of ridge: layers that all take the same time make no line.
        line = np.linalg.solve(trend.T @ weighted + 1e-9 * np.eye(2), weighted.T @ powers)
        return _Learnt(cast("Floats", line), cast("Floats", np.linalg.solve(alike, powers - trend @ line)))

    def _say(self, chosen: Sequence[int], learnt: _Learnt, loads: Sequence[Load]) -> Floats:
        """Powers [loads, 1 + rails]; never outside of what was measured."""
        powers = self._powers[chosen]
        said = self._trend(loads) @ learnt.line + self._alike(loads, [self._loads[at] for at in chosen]) @ learnt.weights
        return cast("Floats", np.clip(said, powers.min(axis=0), powers.max(axis=0)))

    def _trend(self, loads: Sequence[Load]) -> Floats:
        """[loads, 2]: a power, and an energy per run."""
        return np.array([[1.0, self._shortest / load.latency_ms] for load in loads])

    def _alike(self, loads: Sequence[Load], others: Sequence[Load]) -> Floats:
        """[loads, others]: 1 where two are the same, 0 where they have nothing in common."""
        here, there = ((_features(each) - self._centre) / self._scale for each in (loads, others))
        kinds = np.array([[load.kind != other.kind for other in others] for load in loads])
        distance = ((here[:, None] - there[None]) ** 2).sum(axis=2) + _APART * kinds
        return cast("Floats", np.exp(-distance / (2 * _REACH**2)))


def _features(loads: Sequence[Load]) -> Floats:
    """[loads, 3]: logarithms of the latency, of what is computed for each element moved, and of what is done in a ms."""
    latency, macs, elements = np.array([[load.latency_ms, load.macs, load.elements] for load in loads], dtype=float).T
    # Without arithmetic of its own a layer (pooling, a sum) computes far less than one operation for an element.
    return np.stack([np.log(latency), np.log(macs / elements + 0.05), np.log((macs + elements) / latency)], axis=1)
