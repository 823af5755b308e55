"""How well a table's unseen cells are estimated from a share of its cells: the layer model against common interpolations.

    python tools/bench_table_curve.py --output docs/results/table-curve

Of every layer of each table (by default the V100's, fp16, four batches) a random share of the cells is used, the same for
every method; the others are predicted. The error is that of a layer, its mean absolute relative error over its unseen cells,
averaged over layers. The layer model also hears the used cells of the layers that differ in picture size alone; ``alone`` is
the same without.
Values below a hundredth of the smallest used one are raised to that, and those of the interpolations in logarithms stay
within a hundred times the used ones. Writes curve.json, curve.md, curve.svg.
"""

from __future__ import annotations

import argparse
import hashlib
import re
import time
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from netadapt_trt.files import write_atomic, write_document
from netadapt_trt.lut.context import lone_models
from netadapt_trt.lut.layer_model import Evidence
from netadapt_trt.lut.store import read_lut

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from numpy.typing import NDArray

    Floats = NDArray[np.float64]
    Points = NDArray[np.int64]

FORMAT, VERSION = "netadapt-table-curve", 1
TABLES = [
    Path(__file__).parents[1] / "luts" / "tesla-v100" / f"trt-fp16-batch{batch}.lut.jsonl.gz" for batch in (1, 32, 64, 128)
]
FRACTIONS = (0.05, 0.1, 0.2, 0.3, 0.5, 0.7, 0.9)
FEWEST_USED, FEWEST_UNSEEN, FEWEST_CELLS = 4, 2, 10
_KEY = re.compile(r"x0\[(?P<batch>\d+),a,(?P<height>\d+),(?P<width>\d+)\].* Conv\(x0 \[\w,\w,(?P<kernel>\d+),\d+\]")
_INK, _MUTED, _GRID = "#16191d", "#5b6470", "#e8ebee"  # the colours of netadapt_trt/report/page.css
SHOWN = {"layer model": "#0b62c4", "layer model, alone": "#be71b6", "cubic RBF (reference)": "#c25a00", "linear": "#374216"}


@dataclass(frozen=True, slots=True)
class Cells:
    """All cells of a layer: widths [n, axes] and milliseconds [n]; and the convolution that its key names."""

    key: str
    points: Points
    values: Floats

    @property
    def picture(self) -> int:
        """Height of the picture."""
        return int(self._named()["height"])

    @property
    def family(self) -> str:
        """What it shares with layers that differ in the picture's size alone."""
        return re.sub(r"(x\d\[\d+,\w),\d+,\d+\]", r"\1]", self.key)

    def sizes(self, points: Points) -> Floats:
        """Multiply-accumulates, elements read, elements written, weights: [n, 4]."""
        named = self._named()
        batch, height, width, kernel = (int(named[name]) for name in ("batch", "height", "width", "kernel"))
        pads, strides = re.search(r"pads=(\d+)", self.key), re.search(r"strides=(\d+)", self.key)
        pad, stride = int(pads[1]) if pads else 0, int(strides[1]) if strides else 1
        result = batch * ((height + 2 * pad - kernel) // stride + 1) * ((width + 2 * pad - kernel) // stride + 1)
        came, made = points[:, 0].astype(float), points[:, -1].astype(float)
        filters = made * kernel**2 * (1.0 if "group=a" in self.key else came)
        summed = result * made if "Add(" in self.key else 0.0
        return np.stack([result * filters, batch * height * width * came + summed, result * made, filters + made], axis=1)

    def _named(self) -> re.Match[str]:
        found = _KEY.match(self.key)
        if found is None:
            raise SystemExit(f"{self.key} is no convolution that this tool knows")
        return found


def read_cells(path: Path) -> list[Cells]:
    """The layers of a table with enough cells to leave some out."""
    lut = read_lut(path)
    found = []
    for key in lut.layers():
        cells = [(cell.widths, cell.latency_ms.median) for cell in lut.layer_cells(key) if cell.latency_ms is not None]
        if len(cells) >= FEWEST_CELLS:
            found.append(Cells(key, np.array([widths for widths, _ in cells]), np.array([value for _, value in cells])))
    return found


def used_of(cells: Cells, fraction: float, seed: int) -> NDArray[np.bool_]:
    """Which cells are used: a random share, at least ``FEWEST_USED``; ``FEWEST_UNSEEN`` stay."""
    total = len(cells.values)
    count = min(max(FEWEST_USED, round(fraction * total)), total - FEWEST_UNSEEN)
    draw = np.random.default_rng(int.from_bytes(hashlib.sha256(f"{seed} {cells.key}".encode()).digest()[:8], "little"))
    used = np.zeros(total, dtype=bool)
    used[draw.permutation(total)[:count]] = True
    return used


def cubic(points: Points, values: Floats, asked: Points, *, logarithms: bool = False, plane: bool = False) -> Floats:
    """A cubic radial basis function; as the authors of NetAdapt call it (denru01/netadapt, functions.py) unless in
    logarithms or with a plane beside it, without which nothing keeps it from growing between the points."""
    from scipy.interpolate import Rbf, RBFInterpolator

    at, to, known = points.astype(float), asked.astype(float), values
    if logarithms:
        at, to, known = np.log2(at), np.log2(to), np.log(values)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # ill-conditioned matrices
            if plane:
                said = RBFInterpolator(at, known, kernel="cubic", degree=1)(to)
            else:
                said = Rbf(*at.T, known, function="cubic")(*to.T)
    except np.linalg.LinAlgError:  # points on one line
        said = RBFInterpolator(at, known, kernel="linear", degree=0)(to)
    return _within(values, said, logarithms=logarithms)


def linear(points: Points, values: Floats, asked: Points, *, logarithms: bool = False) -> Floats:
    """On the triangles between the points (along the line for one width), the nearest point's value outside."""
    from scipy.interpolate import LinearNDInterpolator, NearestNDInterpolator
    from scipy.spatial import QhullError

    at, to, known = points.astype(float), asked.astype(float), values
    if logarithms:
        at, to, known = np.log2(at), np.log2(to), np.log(values)
    if at.shape[1] == 1:
        order = np.argsort(at[:, 0])
        return _within(values, np.interp(to[:, 0], at[order, 0], known[order]), logarithms=logarithms)
    low, span = at.min(axis=0), np.maximum(np.ptp(at, axis=0), 1e-9)
    at, to = (at - low) / span, (to - low) / span
    nearest = NearestNDInterpolator(at, known)(to)
    try:
        said = LinearNDInterpolator(at, known)(to)
    except QhullError:  # points on one line
        said = nearest
    return _within(values, np.where(np.isnan(said), nearest, said), logarithms=logarithms)


def _within(values: Floats, said: Floats, *, logarithms: bool) -> Floats:
    low, high = 0.01 * values.min(), 100 * values.max()
    if logarithms:
        return cast("Floats", np.exp(np.clip(said, np.log(low), np.log(high))))
    return cast("Floats", np.maximum(said, low))


INTERPOLATIONS: dict[str, Callable[[Points, Floats, Points], Floats]] = {
    "cubic RBF (reference)": cubic,
    "cubic RBF, log": lambda *data: cubic(*data, logarithms=True),
    "cubic RBF + plane": lambda *data: cubic(*data, plane=True),
    "cubic RBF + plane, log": lambda *data: cubic(*data, logarithms=True, plane=True),
    "linear": linear,
    "linear, log": lambda *data: linear(*data, logarithms=True),
}


def model_values(
    layers: Sequence[Cells], used: Mapping[str, NDArray[np.bool_]], *, kin: bool
) -> tuple[dict[str, Floats], Any]:
    """What the layer model says of the unseen cells of every layer; and the manner and blocks that it found."""
    evidence = {
        one.key: Evidence(
            points=one.points[used[one.key]],
            values=one.values[used[one.key]],
            alone=np.ones(int(used[one.key].sum()), dtype=bool),
            counts=np.ones(int(used[one.key].sum()), dtype=np.int64),
        )
        for one in layers
    }
    # Without kin every layer keeps its family, for the block is the family's, but hears nobody.
    families = {one.key: (one.family, float(np.log2(one.picture))) for one in layers}
    models = lone_models(evidence, {one.key: one.sizes for one in layers}, families, kin=kin)
    said = {one.key: models[one.key].values(one.points[~used[one.key]]) for one in layers}
    return said, models


def errors_of(layers: Sequence[Cells], fraction: float, seed: int) -> dict[str, list[Floats]]:
    """Relative errors of the unseen cells, layer by layer, for every method."""
    used = {one.key: used_of(one, fraction, seed) for one in layers}
    unseen = {one.key: one.values[~used[one.key]] for one in layers}
    said = {
        "layer model": model_values(layers, used, kin=True)[0],
        "layer model, alone": model_values(layers, used, kin=False)[0],
    }
    for name, method in INTERPOLATIONS.items():
        said[name] = {
            one.key: method(one.points[used[one.key]], one.values[used[one.key]], one.points[~used[one.key]])
            for one in layers
        }
    return {name: [np.abs(values[one.key] / unseen[one.key] - 1) for one in layers] for name, values in said.items()}


def figures(errors: Sequence[Floats]) -> dict[str, float]:
    """``mean`` over layers of their mean error, ``median`` of those means, ``cell``: the median over all unseen cells."""
    means = [float(error.mean()) for error in errors]
    return {
        "mean": round(float(np.mean(means)), 5),
        "median": round(float(np.median(means)), 5),
        "cell": round(float(np.median(np.concatenate(list(errors)))), 5),
    }


def take(path: Path, fractions: Sequence[float], seeds: Sequence[int], limit: int | None = None) -> list[dict[str, Any]]:
    """One entry for each share and seed of a table."""
    layers = read_cells(path)
    if limit is not None:
        layers = layers[:limit]
    taken = []
    for seed in seeds:
        for fraction in fractions:
            start = time.perf_counter()
            methods = {name: figures(errors) for name, errors in errors_of(layers, fraction, seed).items()}
            taken.append(
                {
                    "table": path.name.split(".")[0],
                    "layers": len(layers),
                    "cells": sum(len(one.values) for one in layers),
                    "fraction": fraction,
                    "seed": seed,
                    "methods": methods,
                }
            )
            told = ", ".join(f"{name} {100 * found['mean']:.1f}" for name, found in methods.items())
            print(f"{path.name} {fraction} seed {seed}: {told} % ({time.perf_counter() - start:.0f} s)", flush=True)
    return taken


def averaged(taken: Sequence[Mapping[str, Any]], figure: str, table: str | None = None) -> dict[str, dict[float, float]]:
    """A figure of every method by share, averaged over tables (or of one) and seeds."""
    entries = [entry for entry in taken if table in (None, entry["table"])]
    fractions = sorted({entry["fraction"] for entry in entries})
    return {
        name: {
            fraction: float(np.mean([entry["methods"][name][figure] for entry in entries if entry["fraction"] == fraction]))
            for fraction in fractions
        }
        for name in (entries[0]["methods"] if entries else ())
    }


def markdown(taken: Sequence[Mapping[str, Any]]) -> str:
    """Tables of the curves: all tables of the device together in three figures, and each alone."""
    titles = {
        "mean": "Mean over layers of their mean error",
        "median": "Median over layers of their mean error",
        "cell": "Median over all unseen cells",
    }
    parts = [_rows(title, averaged(taken, figure)) for figure, title in titles.items()]
    tables = dict.fromkeys(entry["table"] for entry in taken)
    parts += [_rows(f"Mean, {table}", averaged(taken, "mean", table)) for table in tables]
    return "\n".join(parts)


def _rows(title: str, curves: Mapping[str, Mapping[float, float]]) -> str:
    shares = list(next(iter(curves.values())))
    lines = [
        f"| {title}, % | {' | '.join(f'{100 * share:.0f} % used' for share in shares)} |",
        f"|{'---|' * (len(shares) + 1)}",
    ]
    best = {share: min(curve[share] for curve in curves.values()) for share in shares}
    for name, curve in curves.items():
        told = [
            f"**{100 * curve[share]:.1f}**" if curve[share] == best[share] else f"{100 * curve[share]:.1f}"
            for share in shares
        ]
        lines.append(f"| {name} | {' | '.join(told)} |")
    return "\n".join(lines) + "\n"


def svg(curves: Mapping[str, Mapping[float, float]]) -> str:
    """The curves over the share of cells used, errors in logarithms from 2 to 200 %; larger ones on the upper edge."""
    left, top, wide, high = 60, 16, 560, 320

    def x(share: float) -> float:
        return left + wide * share

    def y(error: float) -> float:
        return top + high * float(1 - np.log(np.clip(error, 0.02, 2.0) / 0.02) / np.log(100))

    def text(words: str, at: tuple[float, float], *, anchor: str, color: str = _MUTED) -> str:
        return f'<text x="{at[0]:.1f}" y="{at[1]:.1f}" text-anchor="{anchor}" fill="{color}">{words}</text>'

    parts = [
        '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 640 390" font-family="system-ui, sans-serif" font-size="12">',
        '<rect width="640" height="390" fill="#ffffff"/>',
    ]
    for error in (0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0):
        parts.append(f'<path d="M{left} {y(error):.1f}h{wide}" stroke="{_GRID}"/>')
        parts.append(text(f"{100 * error:.0f} %", (left - 8, y(error) + 4), anchor="end"))
    parts += [text(f"{100 * share:.0f} %", (x(share), top + high + 18), anchor="middle") for share in FRACTIONS]
    parts.append(text("share of a table's cells that was used", (left + wide / 2, top + high + 40), anchor="middle"))
    for name, color in SHOWN.items():
        points = sorted(curves[name].items())
        path = " ".join(f"{x(share):.1f},{y(error):.1f}" for share, error in points)
        parts.append(f'<polyline points="{path}" fill="none" stroke="{color}" stroke-width="2"/>')
        parts += [f'<circle cx="{x(share):.1f}" cy="{y(error):.1f}" r="3.5" fill="{color}"/>' for share, error in points]
    for row, (name, color) in enumerate(SHOWN.items()):
        parts.append(f'<circle cx="{left + wide - 165}" cy="{top + 16 + 18 * row}" r="4" fill="{color}"/>')
        parts.append(text(name, (left + wide - 154, top + 20 + 18 * row), anchor="start", color=_INK))
    return "\n".join([*parts, "</svg>"]) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("tables", nargs="*", type=Path, default=TABLES)
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--fractions", type=float, nargs="+", default=list(FRACTIONS))
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--layers", type=int, help="only so many of each table")
    asked = parser.parse_args()
    asked.output.mkdir(parents=True, exist_ok=True)
    taken = [entry for path in asked.tables for entry in take(path, asked.fractions, asked.seeds, asked.layers)]
    write_document(asked.output / "curve.json", format=FORMAT, version=VERSION, content={"taken": taken})
    write_atomic(asked.output / "curve.md", markdown(taken))
    write_atomic(asked.output / "curve.svg", svg(averaged(taken, "mean")))
    print(markdown(taken))


if __name__ == "__main__":
    main()
