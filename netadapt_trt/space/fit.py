"""Costs of blocks held against whole networks: what sums of layers get wrong, learnt from the children that were measured.

A sum of layers errs in ways that blocks share: a call has a price of its own, a layer timed alone pays for its edges, too,
a kind of block runs better or worse in company than its layers say. So each cost is corrected by a common factor, a factor
of its column, of its stage and of its own, a price per layer and a constant, all of them a little, as much as makes the
measurements likeliest: Bayesian linear regression (Bishop, Pattern Recognition and Machine Learning, 2006, section 3.3) on
relative errors, in which a measurement that the others contradict counts for less. With a few children the corrections stay
small; without any the sums are what they are.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product
from typing import TYPE_CHECKING, cast

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    Floats = NDArray[np.float64]

__all__ = ["Costs", "Manner", "corrected", "likeliest"]

_SCALE = 0.3  # how far the common factor may be from 1
_CALL = 0.5  # how large a price per layer may be, as a share of an average layer's cost
_CONSTANT = 0.05  # how large the constant may be, as a share of an average child's cost
_LEAST = 0.05  # of its own sum of layers: no correction leaves less of a block
_FEWEST = 4

_SURPRISE = 2.5  # standard deviations from what the others say beyond which a measurement is doubted
_DOUBTS = 8
_OWN = (0.0, 0.01, 0.03, 0.1, 0.3)
_NOISE = (0.001, 0.003, 0.01, 0.03, 0.1)


@dataclass(frozen=True, slots=True)
class Costs:
    """Costs of all blocks: ``values`` and numbers of ``layers`` are arrays [places, columns], NaN and 0 where not offered.

    ``fixed`` and ``fixed_layers`` are of stem and head; ``stages`` [places] numbers each place's stage.
    """

    values: Floats
    layers: Floats
    fixed: float
    fixed_layers: int
    stages: Sequence[int]

    def sums(self, choices: NDArray[np.int64]) -> Floats:
        """Of children [n, places]: [n]."""
        return cast("Floats", self.values[np.arange(choices.shape[1]), choices].sum(axis=1) + self.fixed)


@dataclass(frozen=True, slots=True)
class Manner:
    """How far factors of columns, stages and single blocks may be from 1, and the relative noise of one measurement."""

    own: float = 0.03
    noise: float = 0.01


def likeliest(costs: Costs, choices: NDArray[np.int64], measured: Floats) -> Manner:
    """The manner under which ``measured`` [n] of children ``choices`` [n, places] is likeliest."""
    if len(measured) < _FEWEST:
        return Manner()
    features, missed = _features(costs, choices, measured)

    def likelihood(manner: Manner) -> float:
        variances = _variances(costs, manner)
        factor = np.linalg.cholesky(_alike(features, variances, _noise(features, variances, missed, manner)))
        half = np.linalg.solve(factor, missed)
        return float(-0.5 * half @ half - np.log(np.diag(factor)).sum())

    return max((Manner(own, noise) for own, noise in product(_OWN, _NOISE)), key=likelihood)


def corrected(costs: Costs, choices: NDArray[np.int64], measured: Floats, manner: Manner) -> Costs:
    """``costs`` after what ``measured`` [n] of children ``choices`` [n, places] says; fewer than four only scale them."""
    if not len(measured):
        return costs
    if len(measured) < _FEWEST:
        ratios = costs.sums(choices) / measured
        scale = float(ratios.sum() / (ratios**2).sum())
        return Costs(costs.values * scale, costs.layers, costs.fixed * scale, costs.fixed_layers, costs.stages)
    features, missed = _features(costs, choices, measured)
    variances = _variances(costs, manner)
    alike = _alike(features, variances, _noise(features, variances, missed, manner))
    found = variances * (features.T @ np.linalg.solve(alike, missed))
    return _apply(costs, found, measured)


def _parts(costs: Costs) -> tuple[int, int]:
    return costs.values.shape[1], max(costs.stages) + 1


def _variances(costs: Costs, manner: Manner) -> Floats:
    """Of the prior: common factor, price per layer, constant, columns, stages, single blocks."""
    columns, stages = _parts(costs)
    own = np.full(columns + stages + costs.values.size, manner.own)
    return cast("Floats", np.concatenate([[_SCALE, _CALL, _CONSTANT], own]) ** 2)


def _alike(features: Floats, variances: Floats, noise: Floats) -> Floats:
    return (features * variances) @ features.T + np.diag(noise**2)


def _noise(features: Floats, variances: Floats, missed: Floats, manner: Manner) -> Floats:
    """Relative noise of each measurement [n]: larger than the manner's for one that the others would not have expected.

    A neighbour on a shared machine may keep a processor for as long as one child is timed.
    """
    noise = np.full(len(missed), manner.noise)
    for _ in range(_DOUBTS):
        inverse = np.linalg.inv(_alike(features, variances, noise))
        # The others' prediction of each and its deviation, in closed form (Rasmussen and Williams, 2006, section 5.4.2).
        surprise = np.abs(inverse @ missed) / np.sqrt(np.diag(inverse))
        if surprise.max() <= _SURPRISE:
            break
        noise = np.where(surprise > _SURPRISE, noise * surprise / _SURPRISE, noise)
    return noise


def _units(costs: Costs, measured: Floats) -> tuple[float, float]:
    """An average layer's cost, an average child's."""
    child = float(measured.mean())
    layers = costs.fixed_layers + float(costs.layers.sum(axis=1).sum()) / costs.values.shape[1]
    return child / max(layers, 1.0), child


def _features(costs: Costs, choices: NDArray[np.int64], measured: Floats) -> tuple[Floats, Floats]:
    """What each correction adds to each child, relative to its measurement [n, corrections]; what the sums miss [n]."""
    (columns, stages), (layer, child) = _parts(costs), _units(costs, measured)
    places = np.arange(choices.shape[1])
    rows = []
    for choice in choices:
        values = costs.values[places, choice]
        by_column, by_stage, single = np.zeros(columns), np.zeros(stages), np.zeros(costs.values.shape)
        np.add.at(by_column, choice, values)
        np.add.at(by_stage, np.asarray(costs.stages), values)
        single[places, choice] = values
        calls = (costs.layers[places, choice].sum() + costs.fixed_layers) * layer
        rows.append(np.concatenate([[values.sum() + costs.fixed, calls, child], by_column, by_stage, single.ravel()]))
    sums = costs.sums(choices)
    return np.array(rows) / measured[:, None], (measured - sums) / measured


def _apply(costs: Costs, found: Floats, measured: Floats) -> Costs:
    (columns, stages), (layer, child) = _parts(costs), _units(costs, measured)
    scale, call, constant = found[:3]
    by_column, by_stage = found[3 : 3 + columns], found[3 + columns : 3 + columns + stages]
    single = found[3 + columns + stages :].reshape(costs.values.shape)
    factors = 1 + scale + by_column[None, :] + by_stage[np.asarray(costs.stages)][:, None] + single
    values = np.maximum(costs.values * factors + costs.layers * (call * layer), _LEAST * costs.values)
    fixed = costs.fixed * (1 + scale) + costs.fixed_layers * call * layer + constant * child
    return Costs(values, costs.layers, max(float(fixed), 0.0), costs.fixed_layers, costs.stages)
