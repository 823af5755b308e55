"""What a network of given widths costs, from a table of its layers and one measurement of the whole.

The estimate is a sum over the layers, as in NetAdapt (Yang et al., ECCV 2018). Where the table holds layers as whole
networks showed them, each layer is modelled from those (:mod:`netadapt_trt.lut.context`), and the sum is the network. Where
it holds lone layers only, their sum less an offset and times a scale is: a layer that is timed alone pays for a call of its
own and for reorders at its edges, which the network does not. The calls cost the same at any width (on small networks more
than the layers themselves), so a scale alone would flatten every difference; both are fitted to whole networks of several
widths that the table holds, and anchored to the uncut one. Everything is built once into arrays; a whole curve over one
group's widths takes well under a millisecond, where fitting an interpolant per missing cell takes seconds.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from netadapt_trt.errors import CoverageError
from netadapt_trt.lut.axes import space_of
from netadapt_trt.lut.context import layer_models
from netadapt_trt.lut.line import ENOUGH_NETWORKS, Line
from netadapt_trt.lut.reading import initial_measured, networks_of, profile_command, value_of
from netadapt_trt.lut.surface import surface

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from netadapt_trt.lut.axes import Parameter, Space
    from netadapt_trt.lut.layer_model import LayerModel
    from netadapt_trt.lut.store import Lut
    from netadapt_trt.lut.surface import Surface
    from netadapt_trt.plan.schema import Layer, Plan

__all__ = ["Estimate", "NetworkEstimator", "initial_measured", "networks_of", "profile_command"]

_BELIEVED = (1e-12, 1e24)
"""ms or mJ: no network costs less or more; damaged cells lead there, by way of infinity and of what is no number."""


@dataclass(frozen=True, slots=True)
class Estimate:
    """An estimated value (ms or mJ), ``value = (raw + offset) * scale``; ``raw`` is the sum of the cells.

    ``extrapolated`` holds the keys of the layers that were read outside their cells. ``stderr``: one standard deviation of
    ``value`` as far as the layers' models know it, in its unit; None where lone cells are all there is.
    """

    value: float
    raw: float
    offset: float
    scale: float
    extrapolated: tuple[str, ...]
    stderr: float | None = None


@dataclass(frozen=True, slots=True)
class _Model:
    """One surface shared by all layers of the plan that read it alike; ``count`` is how many there are."""

    layer: Layer
    parameters: tuple[Parameter, ...]
    surface: Surface
    count: int


class _Modelled:
    """A layer's model as a surface over the ``free`` parameters of ``space``; the others are 1."""

    def __init__(self, model: LayerModel, space: Space, free: tuple[int, ...]) -> None:
        self.model = model
        self._const = np.array(space.const, dtype=np.int64)
        self._matrix = np.zeros((len(free), len(space.const)), dtype=np.int64)
        for axis, (factor, owner) in enumerate(zip(space.factor, space.owner, strict=True)):
            if owner in free:
                self._matrix[free.index(owner), axis] = factor
            elif owner >= 0:
                self._const[axis] += factor

    def axes(self, points: np.ndarray) -> np.ndarray:
        """Parameter values [n, free] to axis values [n, axes]."""
        return np.asarray(points @ self._matrix + self._const)

    def __call__(self, points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Shapes as :class:`Surface`."""
        at = self.axes(points)
        return self.model.values(at), self.model.outside(at)


class NetworkEstimator:
    """Estimates one resource (``latency``, ``energy``, ``energy@RAIL``) of one network from a LUT, at any widths.

    ``layers`` come from ``backend.partition(plan)``. ``offset`` is added to the sum of the cells before it is scaled; it is
    0 where the table holds too few whole networks of this plan to tell. Without any, ``scale`` is 1 and ``anchored`` False.

    Widths are given by group name; a missing group has its full size. ``in_context`` holds the models of the layers that
    were seen inside networks (latency only); of the others, cells that were measured are used as they are, between them the
    value is interpolated, outside it is extrapolated and said so. Layers with more than two free sizes are read along their
    diagonal: over the fraction of the full widths that is left.

    :meth:`missing` may always be asked; every estimate raises CoverageError while it is not empty.
    """

    def __init__(self, lut: Lut, plan: Plan, layers: Sequence[Layer], resource: str = "latency") -> None:
        self.lut = lut
        self.plan = plan
        self.resource = resource
        self.anchored = False
        self._held_out: float | None = None
        self._line = Line()
        self._full = plan.full_widths()
        self._missing: list[Layer] = []
        self.in_context = layer_models(lut, plan, layers) if resource == "latency" else {}
        self._models = self._build(layers)
        self._touching: dict[str, list[int]] = {group: [] for group in self._full}
        for index, model in enumerate(self._models):
            for group in {group for parameter in model.parameters for group, _ in parameter.terms}:
                self._touching[group].append(index)
        self._last: tuple[tuple[int, ...], np.ndarray, np.ndarray] | None = None
        if not self._missing:
            self._anchor_to_table()

    def _build(self, layers: Sequence[Layer]) -> list[_Model]:
        shared: dict[tuple[str, object], list[Layer]] = {}
        for layer in layers:
            shared.setdefault((layer.key, layer.axes), []).append(layer)
        surfaces: dict[object, Surface | None] = {}
        models = []
        for same in shared.values():
            layer, space = same[0], space_of(same[0])
            full = [parameter.value(self._full) for parameter in space.parameters]
            free = tuple(column for column, size in enumerate(full) if size > 1)  # one channel cannot shrink
            reading = (layer.key, space.const, space.factor, space.owner, free)
            if reading not in surfaces:
                model = self.in_context.get(layer.key)
                surfaces[reading] = self._surface(layer, space, free) if model is None else _Modelled(model, space, free)
            found = surfaces[reading]
            if found is None:
                self._missing.append(layer)
            else:
                models.append(_Model(layer, tuple(space.parameters[column] for column in free), found, len(same)))
        return models

    def _surface(self, layer: Layer, space: Space, free: tuple[int, ...]) -> Surface | None:
        """The surface over the ``free`` parameters of this layer; the others are 1."""
        at, values = self._points(layer.key, len(layer.axes))
        keep, where = space.locate(at)
        fixed = [column for column in range(where.shape[1]) if column not in free]
        here = (where[:, fixed] == 1).all(axis=1)
        return surface(where[here][:, list(free)], values[keep][here])

    def _points(self, key: str, axes: int) -> tuple[np.ndarray, np.ndarray]:
        """Axis values [n, axes] and measured values [n] of every cell of this layer."""
        found: list[tuple[tuple[int, ...], float]] = []
        for cell in self.lut.layer_cells(key):
            value = value_of(cell, self.resource)
            if value is not None and len(cell.widths) == axes:
                found.append((cell.widths, value))
        at = np.array([widths for widths, _ in found], dtype=np.int64).reshape(len(found), axes)
        return at, np.array([value for _, value in found], dtype=float)

    def _anchor_to_table(self) -> None:
        known = networks_of(self.lut, self.plan, self.resource)
        sums, values = np.array([self.raw(widths) for widths, _ in known]), np.array([value for _, value in known])
        self._line.fit(sums, values)
        if self.in_context and len(known) >= ENOUGH_NETWORKS:
            # The models have averaged over many networks: through the uncut one, its noise would be in every estimate.
            self._line.level(sums, values)
            self.anchored = True
            return
        try:
            measured = initial_measured(self.lut, self.plan, self.resource)
        except CoverageError:
            return
        self.anchor(self._full, measured)

    @property
    def scale(self) -> float:
        """Milliseconds (millijoules) of the whole network for one of the sum."""
        return self._line.scale

    @property
    def offset(self) -> float:
        """What is added to the sum before it is scaled."""
        return self._line.offset

    def missing(self) -> list[Layer]:
        """Layers of this network with too few cells to estimate from."""
        return list(self._missing)

    def _require(self) -> None:
        if not self._missing:
            return
        keys = sorted({layer.key for layer in self._missing})
        shown = "; ".join(keys[:5]) + (f"; and {len(keys) - 5} more" if len(keys) > 5 else "")
        raise CoverageError(
            f"{self.lut.path or 'the LUT'} lacks {self.resource} of {len(keys)} layers of {self.plan.model}: {shown}. "
            f"Measure them with: {profile_command(self.lut, self.plan)}"
        )

    @staticmethod
    def _points_of(model: _Model, widths: Mapping[str, int | np.ndarray], n: int) -> np.ndarray:
        points = np.empty((n, len(model.parameters)), dtype=np.int64)
        for column, parameter in enumerate(model.parameters):
            points[:, column] = sum(coefficient * widths[group] for group, coefficient in parameter.terms)
        return points

    def _evaluate(self, model: _Model, widths: Mapping[str, int | np.ndarray], n: int) -> tuple[np.ndarray, np.ndarray]:
        values, outside = model.surface(self._points_of(model, widths, n))
        return values * model.count, outside

    def _values(self, widths: Mapping[str, int]) -> tuple[np.ndarray, np.ndarray]:
        """Each model's value and whether it is extrapolated, at one setting; the last one is remembered."""
        self._require()
        setting = {**self._full, **widths}
        key = tuple(setting[group] for group in self._full)
        if self._last is None or self._last[0] != key:
            with np.errstate(all="ignore"):  # what comes of it is looked at by _believed
                rows = [self._evaluate(model, setting, 1) for model in self._models]
            values = np.array([value[0] for value, _ in rows], dtype=float)
            self._last = (key, values, np.array([flag[0] for _, flag in rows], dtype=bool))
        return self._last[1], self._last[2]

    def _believed(self, values: np.ndarray) -> np.ndarray:
        """``values`` (ms or mJ of the whole network). Raises CoverageError where one of them cannot be."""
        low, high = _BELIEVED
        sane = (values >= low) & (values <= high)  # not so for what is no number
        if sane.all():
            return values
        rests = " (or that rail is at rest)" if self.resource.startswith("energy@") else ""
        where, cost = self.lut.path or "the LUT", float(values[~sane][0])
        raise CoverageError(
            f"{where} says that {self.plan.model} costs {cost:.3g} in {self.resource}; "
            f"no network does, so lines of it are damaged{rests}. Remove them, or measure into a new table"
        )

    def _whole(self, total: float) -> float:
        """A sum of layers as a whole network. Raises CoverageError."""
        with np.errstate(all="ignore"):
            return float(self._believed(self._line.values(np.array([total])))[0])

    def raw(self, widths: Mapping[str, int]) -> float:
        """The sum of the layers' isolated values, without the scale. Raises CoverageError."""
        with np.errstate(all="ignore"):
            return float(self._believed(self._values(widths)[0].sum(keepdims=True))[0])

    def estimate(self, widths: Mapping[str, int]) -> Estimate:
        """The whole network at ``widths``. Raises CoverageError."""
        raw = self.raw(widths)
        value = self._whole(raw)
        return Estimate(value, raw, self.offset, self.scale, self.extrapolates(widths), self._stderr(widths))

    def _stderr(self, widths: Mapping[str, int]) -> float | None:
        """What the layers' models do not know, and what they were wrong by on networks left out."""
        if not self.in_context:
            return None
        if self._held_out is None:
            from netadapt_trt.lut.held_out import held_out

            with np.errstate(all="ignore"):
                found = held_out(self)
            self._held_out = found.rms if found else 0.0
        return float(np.hypot(self.unsure(widths) * self.scale, self._held_out * self.scale * self.raw(widths)))

    def unsure(self, widths: Mapping[str, int]) -> float:
        """One standard deviation of :meth:`raw` as the layers' models know it (0 where they know nothing).

        Layers are taken to err apart from each other; those that read one model at the same sizes err together.
        """
        setting, variance = {**self._full, **widths}, 0.0
        for model, value in zip(self._models, self._values(widths)[0], strict=True):
            if isinstance(model.surface, _Modelled):
                at = model.surface.axes(self._points_of(model, setting, 1))
                variance += float(value * model.surface.model.uncertainty(at)[0]) ** 2
        return float(np.sqrt(variance))

    def staircase(self) -> dict[str, int]:
        """Channels that the runtime's kernels compute together, by group, where the table shows such steps.

        Of all layers that a group's width goes into the widest counts.
        """
        found: dict[str, int] = {}
        for model in self._models:
            seen = self.in_context.get(model.layer.key)
            if seen is None or seen.trend.block <= 1:
                continue
            for group in {group for parameter in model.parameters for group, _ in parameter.terms}:
                found[group] = max(found.get(group, 1), seen.trend.block)
        return found

    def replaced(self, widths: Mapping[str, int], values: Mapping[str, Mapping[tuple[int, ...], float]]) -> float:
        """The whole network with each layer's value taken from ``values`` (key, axis values) where it stands there."""
        setting, total = {**self._full, **widths}, 0.0
        for model, value in zip(self._models, self._values(widths)[0], strict=True):
            other = values.get(model.layer.key, {}).get(model.layer.widths(setting))
            total += float(value) if other is None else other * model.count
        return self._whole(total)

    def extrapolates(self, widths: Mapping[str, int]) -> tuple[str, ...]:
        """Keys of the layers whose value at ``widths`` lies outside what was measured; empty when none does."""
        outside = self._values(widths)[1]
        found = (model.layer.key for model, flag in zip(self._models, outside, strict=True) if flag)
        return tuple(dict.fromkeys(found))

    def curve(self, widths: Mapping[str, int], group: str, candidates: np.ndarray) -> np.ndarray:
        """The whole network for each of ``candidates`` [n] as the width of ``group``, all else at ``widths``: [n].

        Raises CoverageError; KeyError for a group the plan does not have.
        """
        values, _ = self._values(widths)
        touching = self._touching[group]
        setting: dict[str, int | np.ndarray] = {**self._full, **widths}
        setting[group] = np.asarray(candidates, dtype=np.int64)
        untouched = float(values.sum() - values[touching].sum()) if touching else float(values.sum())
        total = np.full(len(candidates), untouched)
        with np.errstate(all="ignore"):
            for index in touching:
                total += self._evaluate(self._models[index], setting, len(candidates))[0]
            return self._believed(self._line.values(total))

    def anchor(self, widths: Mapping[str, int], measured: float) -> None:
        """From here on the network at ``widths`` costs what was ``measured`` there; see :meth:`Line.follow` for the others.

        Raises ValueError unless ``measured`` is positive and finite.
        """
        if not (np.isfinite(measured) and measured > 0):
            raise ValueError(f"cannot anchor to a measurement of {measured}")
        self._line.follow(self.raw(widths), measured)
        self.anchored = True
