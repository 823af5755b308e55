"""A small plan and a backend whose clock is the size of the model: what the profiler's tests run on.

As a script it profiles into LUT again and again, killed after a random number of new lines, and then once to the end:
``python clockwork.py LUT LOG KILLS SEED``. Each compilation of a layer leaves a byte in LOG. It prints how many of the kills
hit a profiler at work.
"""

from __future__ import annotations

import os
import random
import signal
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from netadapt_trt.backend import Affinity, CompileOptions, Executable
from netadapt_trt.errors import BackendError
from netadapt_trt.lut.networks import anchor_widths
from netadapt_trt.plan.partition import fused_layers
from netadapt_trt.plan.schema import Attribute, Dim, Group, Layer, Op, Plan, Tensor
from netadapt_trt.profile import session
from netadapt_trt.profile.run import Effort, profile
from netadapt_trt.profile.sampling import Sampling
from netadapt_trt.spec import EnergyStats, Identity, Precision

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

QUICK = Effort(warmup_ms=0.0, min_runs=4, min_ms=0.0, max_ms=10.0)
STILL = Sampling(rounds=2, most_rounds=2, round_ms=0.0, warmup_ms=0.0)


def make_plan(a: int = 32, b: int = 64) -> Plan:
    """conv 3x3 (3 -> a) + relu, conv 1x1 (a -> b) + relu, global pooling, linear (b -> 10), on 1x3x8x8."""
    wide, narrow = Dim(0, (("a", 1),)), Dim(0, (("b", 1),))
    one, side = Dim(1), Dim(8)
    shapes = {
        "x": (one, Dim(3), side, side),
        "c1": (one, wide, side, side),
        "r1": (one, wide, side, side),
        "c2": (one, narrow, side, side),
        "r2": (one, narrow, side, side),
        "p": (one, narrow, one, one),
        "f": (one, narrow),
        "y": (one, Dim(10)),
    }
    weights = {
        "w1": (wide, Dim(3), Dim(3), Dim(3)),
        "b1": (wide,),
        "w2": (narrow, wide, one, one),
        "b2": (narrow,),
        "w3": (Dim(10), narrow),
        "b3": (Dim(10),),
    }
    always: dict[str, Attribute] = {"strides": (1, 1), "dilations": (1, 1), "group": 1}
    same: dict[str, Attribute] = {"kernel_shape": (3, 3), "pads": (1, 1, 1, 1), **always}
    point: dict[str, Attribute] = {"kernel_shape": (1, 1), "pads": (0, 0, 0, 0), **always}
    return Plan(
        model="zoo:clockwork",
        args={},
        inputs=("x",),
        outputs=("y",),
        groups=(Group("a", a, ("w1",)), Group("b", b, ("w2",))),
        frozen=(),
        tensors={name: Tensor(name, "float32", shape) for name, shape in shapes.items()},
        weights={name: Tensor(name, "float32", shape) for name, shape in weights.items()},
        constants={},
        ops=(
            Op("conv1", "Conv", ("x", "w1", "b1"), ("c1",), same),
            Op("relu1", "Relu", ("c1",), ("r1",)),
            Op("conv2", "Conv", ("r1", "w2", "b2"), ("c2",), point),
            Op("relu2", "Relu", ("c2",), ("r2",)),
            Op("pool", "GlobalAveragePool", ("r2",), ("p",)),
            Op("flatten", "Flatten", ("p",), ("f",), {"axis": 1}),
            Op("linear", "Gemm", ("f", "w3", "b3"), ("y",), {"transB": 1}),
        ),
    )


def whole_networks() -> int:
    """How many networks a profile of :func:`make_plan` compiles before the first layer."""
    return len(anchor_widths(make_plan()))


class Ticking:
    """Runs in 1 ms and 1 us per 10 bytes of its model, times what ``stretch`` says of each run."""

    def __init__(self, size: int, stretch: Iterator[float], sleep: float) -> None:
        self._base = 1.0 + size * 1e-4
        self._stretch, self._sleep = stretch, sleep
        self._last = self._base

    def run(self) -> None:
        self._last = self._base * next(self._stretch)
        if self._sleep:
            time.sleep(self._sleep)

    def elapsed_ms(self) -> float:
        return self._last

    def energy_mj(self) -> EnergyStats:
        return EnergyStats(total=3 * self._last, dynamic=self._last, stderr=0.0)

    def infer(self, inputs: Any) -> dict[str, Any]:
        raise NotImplementedError

    def __enter__(self) -> Executable:
        return self

    def __exit__(self, *_: object) -> None:
        pass


def _nothing(_: int, __: bytes) -> None:
    pass


def steady(_: int = 0) -> Iterator[float]:
    while True:
        yield 1.0


class Clockwork:
    """``on_compile`` gets number (from 1) and model and may raise; ``stretch`` makes its runs' factors."""

    name = "clockwork"

    def __init__(
        self,
        *,
        on_compile: Callable[[int, bytes], object] = _nothing,
        stretch: Callable[[int], Iterator[float]] = steady,
        sleep: float = 0.0,
    ) -> None:
        self.compiled = 0
        self.threads: list[int] = []
        self._on_compile, self._stretch, self._sleep = on_compile, stretch, sleep

    def affinity(self) -> Affinity:
        return Affinity(0, "a test")

    def precisions(self) -> tuple[Precision, ...]:
        return ("fp32", "int8")

    def identity(self, *, precision: Precision, batch: int, threads: int) -> Identity:
        return Identity(
            backend=self.name,
            device="clock",
            runtime="clockwork",
            runtime_version="1",
            provider="test",
            precision=precision,
            recipe="none",
            batch=batch,
            threads=threads,
        )

    def default_threads(self) -> int:
        return 3

    def opset(self) -> tuple[int, int]:
        return 20, 9

    def partition(self, plan: Plan) -> list[Layer]:
        return fused_layers(plan, starts={"Conv", "Gemm"}, activations={"Relu"}, add=True, free={"Flatten"})

    def compile(self, model: bytes, options: CompileOptions) -> Executable:
        self.compiled += 1
        self.threads.append(options.threads)
        self._on_compile(self.compiled, model)
        if not model:
            raise BackendError("an empty model")
        return Ticking(len(model), self._stretch(self.compiled), self._sleep)


def _profile_slowly(lut: Path, log: Path) -> None:
    def note(_: int, model: bytes) -> None:
        if b"netadapt.plan_hash" in model:  # a whole network
            return
        with log.open("ab") as file:
            file.write(b".")

    profile(make_plan(), Clockwork(on_compile=note, sleep=0.0005), lut, effort=QUICK, sampling=STILL)


def _idle() -> None:
    return None


def _lines(path: Path) -> int:
    return path.read_bytes().count(b"\n") if path.is_file() else 0


def _main(lut: Path, log: Path, kills: int, seed: int) -> None:
    setattr(session, "other_load", _idle)  # noqa: B010 - the real one watches for a fifth of a second
    _profile_slowly(lut.with_name("warm-up"), lut.with_name("warm-up.log"))  # so that no child imports anything anew
    draw, hit = random.Random(seed), 0
    for _ in range(kills):
        # Moments follow the file, so that how fast the machine is today does not decide what they hit.
        until, delay_s = _lines(lut) + draw.randint(0, 3), draw.uniform(0.0, 0.006)
        child = os.fork()
        if not child:
            _profile_slowly(lut, log)
            os._exit(0)
        while _lines(lut) < until and os.waitid(os.P_PID, child, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None:
            time.sleep(0.0002)
        time.sleep(delay_s)
        os.kill(child, signal.SIGKILL)
        _, status = os.waitpid(child, 0)
        hit += os.WIFSIGNALED(status)
    _profile_slowly(lut, log)
    sys.stdout.write(f"{hit}\n")


if __name__ == "__main__":
    _main(Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4]))
