"""The whole way from Python: plan, profile, adapt, report. The fake backend stands for a device; it takes a minute or two.

Run it from an empty folder: python adapt_from_python.py. Run again, it goes on with the run it finds there.
"""

from __future__ import annotations

from pathlib import Path

import netadapt_trt as na
from netadapt_trt.progress import QuietProgress


class Notices(QuietProgress):
    """Prints what a stage has to say, and leaves out its progress bars."""

    def notice(self, text: str) -> None:
        print(text)


def main(out: Path = Path("example")) -> None:
    spec = na.ModelSpec(
        model="zoo:mobilenet_v1",
        input_shape=(1, 3, 16, 16),
        args={"width": "0.25", "stem": "cifar"},
        num_classes=10,
    )
    plan = na.make_plan(na.open_network(spec))
    backend = na.load_backend("fake")

    profiled = na.profile_plan(plan, backend, out / "fake.lut.jsonl")
    print(f"{profiled.measured} cells, the uncut network takes {profiled.network_ms:.3f} ms")

    estimator = na.NetworkEstimator(na.read_lut(profiled.lut), plan, backend.partition(plan))
    half = {name: max(8, size // 2) for name, size in plan.full_widths().items()}
    print(f"estimate at half the channels: {estimator.estimate(half).value:.3f} ms")

    settings = na.AdaptSettings(
        spec=spec,
        data="digits",
        lut=profiled.lut,
        budgets=(na.parse_budget("latency=0.8x"),),
        output=out / "run",
        reduction=0.1,
        short_steps=1,
        long_epochs=0,
        tensorboard=False,
    )
    if (out / "run" / "run.json").is_file():
        result = na.resume_run(out / "run", progress=Notices())
    else:
        result = na.adapt_network(settings, progress=Notices())
    adapted = result.content["adapted"]
    print(f"adapted: {adapted['latency_ms']['measured']:.3f} ms measured, {adapted['params']} parameters")
    print(f"report: {na.write_report([out / 'run'], out / 'report.html')}")


if __name__ == "__main__":
    main()
