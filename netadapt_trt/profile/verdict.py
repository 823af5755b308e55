"""A validation in words: how good the table is, how noisy the machine was, which network is worst, what to do next."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from netadapt_trt.profile.validation import Agreement, Portion, ValidatedNetwork

__all__ = ["verdict"]

_GOOD, _USABLE = 0.05, 0.10
_ONE_SIDED = 0.75  # of the mean error: so much of it is one and the same factor
_DRIFTED = 0.02


def verdict(
    figures: Agreement,
    networks: Sequence[ValidatedNetwork],
    portions: Sequence[Portion],
    *,
    repeatability: float,
    wanted: float,
    profile_command: str,
) -> tuple[str, ...]:
    """Sentences, the most important first. ``profile_command`` measures what the table lacks of this network."""
    return (
        _quality(figures, len(networks), repeatability),
        *_noise(repeatability, wanted, portions),
        _drift(figures, portions),
        _worst(networks),
        *_isolated(figures),
        *_next(figures, networks, repeatability, profile_command),
    )


def _quality(figures: Agreement, count: int, repeatability: float) -> str:
    order = "" if figures.spearman is None else f", rank correlation {figures.spearman:.3f}"
    told = (
        f"estimates of {count} networks that the table does not hold are off by {figures.mape:.1%} on average "
        f"(mean ratio {figures.bias:.3f}{order}); the measurement differs from itself by {repeatability:.1%}"
    )
    if figures.mape <= max(3 * repeatability, 1e-9):
        return f"{told}. That is within three times the noise: a better table could not be told from this one here"
    grade = "good" if figures.mape <= _GOOD else "usable" if figures.mape <= _USABLE else "poor"
    return f"{told}. That is {grade}"


def _noise(repeatability: float, wanted: float, portions: Sequence[Portion]) -> list[str]:
    if repeatability <= wanted:
        return []
    rounds = max(portion.rounds for portion in portions)
    return [
        f"this machine is noisy: after {rounds} rounds odd and even ones still differ by {repeatability:.1%}, "
        f"{wanted:.1%} was asked for. See what disturbs with: netadapt-trt doctor; or allow more with --rounds-max"
    ]


def _drift(figures: Agreement, portions: Sequence[Portion]) -> str:
    known = [portion.drift for portion in portions if portion.drift is not None]
    if not known:
        return (
            "the table holds no whole network to tell by whether the machine is as fast as when it was measured: drift is "
            "taken as 1"
        )
    low, high = min(known), max(known)
    by = f"{low:.3f}" if len(known) == 1 else f"{low:.3f} to {high:.3f} over {len(known)} portions"
    moved = abs(low - 1) > _DRIFTED or abs(high - 1) > _DRIFTED
    return (
        f"drift {by}: what networks of the table take now over what they took when it was measured"
        f"{'' if moved else ' (nothing to speak of)'}. It is taken out of the errors; left in, they would be "
        f"{figures.mape_without_drift_correction:.1%}"
    )


def _worst(networks: Sequence[ValidatedNetwork]) -> str:
    worst = max(networks, key=lambda network: abs(network.error))
    outside = f", {len(worst.extrapolated)} of its layers lie outside the table's cells" if worst.extrapolated else ""
    return (
        f"worst is network {networks.index(worst) + 1}: estimate {worst.estimate_ms:.4g} ms, measured "
        f"{worst.measured_ms:.4g} ms ({worst.error:+.1%}), odd against even rounds {worst.repeatability:.1%}{outside}"
    )


def _isolated(figures: Agreement) -> list[str]:
    if figures.isolated_sum_mape is None:
        return []
    some = "one network" if figures.isolated_networks == 1 else f"{figures.isolated_networks} networks"
    return [
        f"the plain sum of layers timed alone, over {some}, is off by {figures.isolated_sum_mape:.1%} "
        f"(mean ratio {figures.isolated_sum_bias:.3f})"
    ]


def _next(figures: Agreement, networks: Sequence[ValidatedNetwork], repeatability: float, profile_command: str) -> list[str]:
    if figures.mape <= max(_GOOD, 3 * repeatability):
        return []
    outside = sum(bool(network.extrapolated) for network in networks)
    if outside > len(networks) / 4:
        return [f"{outside} of {len(networks)} estimates leave the table's cells; measure what lacks: {profile_command}"]
    if abs(figures.bias - 1) > _ONE_SIDED * figures.mape:
        return [
            "most of the error is one factor for all networks. Ratios are right then, milliseconds are not: profile "
            f"anew on a quiet machine, with another file behind --lut: {profile_command}"
        ]
    return [
        "the error scatters: it is in single layers or in how they fit together. Look for noisy or drifted cells with "
        "netadapt-trt lut check; adapt --measure keeps a run honest meanwhile"
    ]
