"""One step of a search: weights learn with theta held, or theta learns with the weights held.

Every draw of a step derives from (seed, epoch, stage, step), so a search that goes on repeats nothing and skips nothing.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from netadapt_trt.search.objective import cost_terms

if TYPE_CHECKING:
    from torch import Tensor

    from netadapt_trt.search.cost import ExpectedCost
    from netadapt_trt.search.settings import Paths
    from netadapt_trt.search.supernet import Supernet
    from netadapt_trt.search.theta import Theta
    from netadapt_trt.space.knobs import Knobs

__all__ = ["Seen", "generator_of", "score_batch", "step_theta", "step_weights"]


class Seen(NamedTuple):
    """What one batch showed: cross-entropy summed over its examples, how many were right, how many there were."""

    loss: float
    correct: int
    examples: int


def generator_of(*numbers: int) -> torch.Generator:
    """Draws that follow from these numbers alone."""
    seed = int(np.random.SeedSequence([number & 0xFFFFFFFF for number in numbers]).generate_state(1, np.uint32)[0])
    return torch.Generator().manual_seed(seed)


def step_weights(
    supernet: Supernet,
    theta: Theta,
    optimizer: torch.optim.Optimizer,
    batch: tuple[Tensor, Tensor],
    *,
    paths: Paths,
    temperature: float,
    generator: torch.Generator,
    gradient_clip: float = math.inf,
) -> Seen:
    """Train the weights on one batch: all candidates, weighted by one Gumbel-softmax draw, or one drawn path.

    A path is drawn with hard choice: the largest of theta + Gumbel noise, which the temperature does not change.
    """
    images, labels = batch
    if paths == "all":
        with torch.no_grad():
            weights = theta.gumbel_softmax(temperature, generator)
        scores = supernet.mixed(images, weights)
    else:
        scores = supernet.path(images, theta.draw(generator))
    loss = functional.cross_entropy(scores, labels)
    optimizer.zero_grad(set_to_none=True)
    torch.autograd.backward(loss)
    if math.isfinite(gradient_clip):
        nn.utils.clip_grad_norm_(list(supernet.parameters()), gradient_clip)
    optimizer.step()
    return _seen(loss, scores, labels)


def step_theta(
    supernet: Supernet,
    theta: Theta,
    optimizer: torch.optim.Optimizer,
    batch: tuple[Tensor, Tensor],
    *,
    paths: Paths,
    temperature: float,
    generator: torch.Generator,
    cost: ExpectedCost,
    knobs: Knobs,
) -> Seen:
    """Train theta on one batch, with the weights held.

    All paths: cross-entropy and expected costs share one Gumbel-softmax draw, as in FBNet. Sampled: two candidates of each
    place are drawn, one of them runs, and theta learns from binary gates (see :meth:`.Supernet.gated`); expected costs are
    exact, by theta's own probabilities (ProxylessNAS, section 3.3).
    """
    images, labels = batch
    for parameter in supernet.parameters():
        parameter.requires_grad_(False)
    try:
        if paths == "all":
            weights = theta.gumbel_softmax(temperature, generator)
            scores = supernet.mixed(images, weights)
        else:
            weights = theta.probabilities()
            active, others, gates = _gates(theta, generator)
            scores = supernet.gated(images, active, others, gates)
        loss = functional.cross_entropy(scores, labels)
        costs = cost_terms(knobs, cost.latency_s(weights), cost.energy_j(weights))
        optimizer.zero_grad(set_to_none=True)
        torch.autograd.backward(loss.to("cpu", torch.float64) + costs)
    finally:
        for parameter in supernet.parameters():
            parameter.requires_grad_(True)
    optimizer.step()
    return _seen(loss, scores, labels)


def _gates(theta: Theta, generator: torch.Generator) -> tuple[list[int], list[int | None], Tensor]:
    """(active column, the other one, gates [places, 2] of values 1 and 0): a pair of each place, drawn by theta.

    Expected cross-entropy has the gradient ``sum over pairs of p_a p_b (L_a - L_b) (e_a - e_b)`` by theta. A pair is drawn
    with the chance ``p_a p_b (1 / (1 - p_a) + 1 / (1 - p_b))``, so the gates' derivative carries the inverse of the bracket:
    on average theta follows the loss that is written, however far it is decided. The active one is drawn first, by theta
    alone.
    """
    pairs = theta.draw_pairs(generator)
    places = torch.arange(len(pairs))
    active = torch.tensor([pair[0] for pair in pairs])
    other = torch.tensor([pair[-1] for pair in pairs])
    left = (1 - theta.probabilities().detach()).clamp_min(1e-12)
    weight = 1 / (1 / left[places, active] + 1 / left[places, other])
    apart = theta.values[places, active] - theta.values[places, other]
    moved = weight * (apart - apart.detach())
    others = [column if len(pair) == 2 else None for column, pair in zip(other.tolist(), pairs, strict=True)]
    return active.tolist(), others, torch.stack([1 + moved, -moved], 1)


def score_batch(
    supernet: Supernet,
    theta: Theta,
    batch: tuple[Tensor, Tensor],
    *,
    paths: Paths,
    temperature: float,
    generator: torch.Generator,
) -> Seen:
    """How good the supernet is on one batch, run as weights learn in it: by a Gumbel-softmax draw, or on a drawn path."""
    images, labels = batch
    with torch.inference_mode():
        if paths == "all":
            scores = supernet.mixed(images, theta.gumbel_softmax(temperature, generator))
        else:
            scores = supernet.path(images, theta.draw(generator))
        return _seen(functional.cross_entropy(scores, labels), scores, labels)


def _seen(loss: Tensor, scores: Tensor, labels: Tensor) -> Seen:
    correct = int((scores.detach().argmax(1) == labels).sum())
    return Seen(float(loss.detach()) * len(labels), correct, len(labels))
