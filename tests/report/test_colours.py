"""The palette, computed: contrast after WCAG 2.2, colour-vision deficiency after Machado, Oliveira, Fernandes (2009)."""

from __future__ import annotations

import itertools
import re
from importlib import resources

import numpy as np
import pytest

# Severity 1.0, on linear sRGB.
DEFICIENCIES = {
    "none": np.eye(3),
    "protanopia": np.array(
        [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]]
    ),
    "deuteranopia": np.array(
        [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]]
    ),
    "tritanopia": np.array(
        [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.303900]]
    ),
}
MARKS = ("adapted", "uniform", "initial", "measured", "estimate", "scale", *(f"run{i}" for i in range(1, 7)))
TEXTS = ("ink", "muted", "good", "bad", "estimate", "counted")
TOGETHER = {
    "networks": ("adapted", "uniform", "initial"),
    "checks": ("measured", "estimate"),
    "ratio": ("measured", "scale"),
    "runs": tuple(f"run{i}" for i in range(1, 7)),
}


def _schemes() -> dict[str, dict[str, str]]:
    css = resources.files("netadapt_trt.report").joinpath("page.css").read_text(encoding="utf-8")
    blocks = [
        dict(re.findall(r"--([a-z0-9]+): (#[0-9a-f]{6});", body))
        for body in re.findall(r":root[^{]*\{([^}]*--[^}]*)\}", css)
    ]
    return dict(zip(("light", "dark"), blocks, strict=True))


def _linear(color: str) -> np.ndarray:
    srgb = np.array([int(color[i : i + 2], 16) for i in (1, 3, 5)]) / 255
    return np.where(srgb <= 0.04045, srgb / 12.92, ((srgb + 0.055) / 1.055) ** 2.4)


def _contrast(first: str, second: str) -> float:
    light, dark = sorted((float(_linear(c) @ [0.2126, 0.7152, 0.0722]) for c in (first, second)), reverse=True)
    return (light + 0.05) / (dark + 0.05)


def _lab(linear: np.ndarray) -> np.ndarray:
    xyz = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]]) @ np.clip(linear, 0, 1)
    t = xyz / np.array([0.9505, 1.0, 1.089])
    f = np.where(t > (6 / 29) ** 3, np.cbrt(t), t / (3 * (6 / 29) ** 2) + 4 / 29)
    return np.array([116 * f[1] - 16, 500 * (f[0] - f[1]), 200 * (f[1] - f[2])])


def test_contrast_of_black_on_white_is_21() -> None:
    assert _contrast("#000000", "#ffffff") == pytest.approx(21)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_palette_keeps_contrast(scheme: str) -> None:
    colours = _schemes()[scheme]
    low = {name: _contrast(colours[name], colours["surface"]) for name in MARKS}
    assert {name: value for name, value in low.items() if value < 3} == {}
    text = {name: _contrast(colours[name], colours["surface"]) for name in TEXTS}
    assert {name: value for name, value in text.items() if value < 4.5} == {}


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("deficiency", DEFICIENCIES)
@pytest.mark.parametrize("together", TOGETHER)
def test_palette_stays_apart(scheme: str, deficiency: str, together: str) -> None:
    colours, matrix = _schemes()[scheme], DEFICIENCIES[deficiency]
    # About two CIELAB units are just told apart side by side; twenty are safe for small marks that lie apart.
    for first, second in itertools.combinations(TOGETHER[together], 2):
        distance = np.linalg.norm(_lab(matrix @ _linear(colours[first])) - _lab(matrix @ _linear(colours[second])))
        assert distance >= 20, f"{first} and {second} are {distance:.1f} apart with {deficiency}"
