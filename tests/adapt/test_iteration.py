"""The loop's bookkeeping with proposals that cost nothing: scores come from a formula, networks are empty files."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from netadapt_trt.adapt.course import Course
from netadapt_trt.adapt.ground import Ground
from netadapt_trt.adapt.iteration import take_step
from netadapt_trt.adapt.proposal import DataArguments, ProposalJob, ProposalResult, derive_seed
from netadapt_trt.adapt.resources import Resources
from netadapt_trt.adapt.settings import AdaptSettings
from netadapt_trt.adapt.state import create_run, open_run
from netadapt_trt.adapt.workers import InProcessExecutor, WorkerPool
from netadapt_trt.errors import CheckError, WorkerError
from netadapt_trt.plan.schema import Group, Plan
from netadapt_trt.progress import QUIET, QuietProgress
from netadapt_trt.spec import ModelSpec, parse_budget

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from concurrent.futures import Executor

    from numpy.typing import NDArray

    from netadapt_trt.adapt.state import RunDirectory
    from netadapt_trt.progress import Progress, Task

GROUPS = {"a": 64, "b": 96, "c": 128}
PLAN = Plan("m", {}, (), (), tuple(Group(name, size, ()) for name, size in GROUPS.items()), (), {}, {}, {}, ())


class Product:
    """value = a*b + b*c, like two layers; exact."""

    scale = None
    initial = float(64 * 96 + 96 * 128)

    def value(self, widths: dict[str, int]) -> float:
        return float(widths["a"] * widths["b"] + widths["b"] * widths["c"])

    def curve(self, widths: dict[str, int], group: str, candidates: NDArray[np.int64]) -> NDArray[np.float64]:
        return np.array([self.value({**widths, group: int(width)}) for width in candidates])

    def anchor(self, widths: dict[str, int], measured: float) -> None: ...

    def extrapolates(self, widths: dict[str, int]) -> tuple[str, ...]:
        return ()


def score(job: ProposalJob, device: str) -> ProposalResult:
    """An accuracy that depends on the job alone."""
    output = Path(job.output)
    output.mkdir(parents=True, exist_ok=True)
    (output / "network.json").write_text(json.dumps({"group": job.group, "width": job.width}))
    accuracy = 0.5 + derive_seed(job.fine_tune.seed, job.group, job.width) / 2**33
    return ProposalResult(accuracy=accuracy, loss=1.0, fine_tune_s=0.0, evaluate_s=0.0, worker=device)


def settings(path: Path) -> AdaptSettings:
    spec = ModelSpec(model="m", input_shape=(1, 3, 8, 8))
    return AdaptSettings(spec=spec, data="digits", budgets=(parse_budget("macs=0.5x"),), output=path)


def ground(chosen: AdaptSettings) -> Ground:
    return Ground(
        settings=chosen,
        plan=PLAN,
        resources=Resources(models={"macs": Product()}, lut=None, backend=None),
        steps=dict.fromkeys(GROUPS, 8),
        data=DataArguments.of(chosen),
        devices=("cpu",),
        meter=None,
        brought=None,
    )


def go(
    run: RunDirectory,
    function: Callable[[ProposalJob, str], ProposalResult] = score,
    make: Callable[[], Executor] = InProcessExecutor,
    size: int = 1,
    progress: Progress = QUIET,
) -> Course:
    where = ground(run.settings)
    course = Course(where.resources, run.settings.budgets, reduction=0.025, decay=0.96)
    if not run.history.records:
        block = {"macs": {"estimate": Product.initial, "measured": None, "scale": None}}
        run.history.append("initial", widths=GROUPS, accuracy_holdout=0.9, resources=block)
    for record in run.history.records:
        course.take(record)
    with WorkerPool(function, make, size=size) as pool:
        while not course.reached:
            assert take_step(where, run, course, pool, progress) is None
    return course


def decided(run: RunDirectory) -> list[tuple[int, str, dict[str, int], float]]:
    return [(r["iteration"], r["group"], r["widths"], r["accuracy"]) for r in run.history.of("decision")]


@pytest.fixture(scope="module")
def expected(tmp_path_factory: pytest.TempPathFactory) -> list[tuple[int, str, dict[str, int], float]]:
    with create_run(settings(tmp_path_factory.mktemp("run"))) as run:
        course = go(run)
        assert course.achieved["macs"] <= 0.5 * Product.initial
        return decided(run)


def test_loop_reaches_the_budget_step_by_step(expected: list[tuple[int, str, dict[str, int], float]]) -> None:
    assert [entry[0] for entry in expected] == list(range(1, len(expected) + 1))
    assert len(expected) > 5
    assert all(width % 8 == 0 for width in expected[-1][2].values())


class Labels(QuietProgress):
    def __init__(self) -> None:
        self.texts: list[str] = []

    @contextmanager
    def task(self, text: str, total: float | None) -> Iterator[Task]:
        self.texts.append(text)
        with super().task(text, total) as task:
            yield task


def test_label_of_an_iteration_says_where_it_starts(tmp_path: Path) -> None:
    labels = Labels()
    with create_run(settings(tmp_path)) as run:
        go(run, progress=labels)
        assert len(labels.texts) == len(decided(run))
    # 64 x 96 + 96 x 128 = 18432, and half of that
    assert labels.texts[0] == "iteration 1: 18.4 k MACs, budget 9.22 k MACs, holdout 90.0 %"


def test_decisions_do_not_depend_on_finishing_order(
    tmp_path: Path, expected: list[tuple[int, str, dict[str, int], float]]
) -> None:
    with create_run(settings(tmp_path)) as run:
        go(run, make=lambda: ThreadPoolExecutor(3), size=3)
        assert decided(run) == expected


class Killed(BaseException):
    """Stands for a kill: passes every handler but the finally blocks."""


def test_decisions_survive_kills(tmp_path: Path, expected: list[tuple[int, str, dict[str, int], float]]) -> None:
    chosen = settings(tmp_path)
    calls: list[tuple[str, int]] = []

    def dying(job: ProposalJob, device: str) -> ProposalResult:
        result = score(job, device)
        calls.append((job.network, job.width))
        if len(calls) % 4 == 0:
            raise Killed
        return result

    kills = 0
    with create_run(chosen):
        pass
    while True:
        with open_run(tmp_path) as run:
            try:
                go(run, dying)
            except Killed:
                kills += 1
                continue
            assert decided(run) == expected
            proposals = len(run.history.of("proposal"))
            break
    assert kills > 5
    assert len(calls) == proposals + kills  # each kill cost the one proposal that was under way


def test_decided_iteration_keeps_the_winner_and_drops_the_proposals(tmp_path: Path) -> None:
    with create_run(settings(tmp_path)) as run:
        go(run)
        for _, group, widths, _ in decided(run)[:1]:
            kept = json.loads((run.iteration(1) / "network.json").read_text())
            assert kept == {"group": group, "width": widths[group]}
        assert not run.proposals(1).exists()


def test_failed_proposal_is_left_out_with_a_line(tmp_path: Path) -> None:
    def diverge(job: ProposalJob, device: str) -> ProposalResult:
        if job.group == "a":
            raise CheckError("the loss is not finite")
        return score(job, device)

    with create_run(settings(tmp_path)) as run:
        go(run, diverge)
        assert {r["group"] for r in run.history.of("failure")} == {"a"}
        assert {r["group"] for r in run.history.of("decision")} == {"b", "c"}


def test_iteration_whose_proposals_all_fail_says_so(tmp_path: Path) -> None:
    def broken(job: ProposalJob, device: str) -> Any:
        raise RuntimeError("out of memory")

    with (
        create_run(settings(tmp_path)) as run,
        pytest.raises(WorkerError, match=r"every proposal of iteration 1 failed.*out of memory.*--resume"),
    ):
        go(run, broken)
