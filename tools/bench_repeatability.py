"""How well a measurement here repeats itself: every model is opened twice and all are timed in interleaved rounds.

    python tools/bench_repeatability.py model.onnx other.onnx --backend ort --threads 2

"odd / even" compares the rounds of one session with each other, "twin" two sessions of the same model. No estimate can be
expected to come closer to a measurement than measurements come to each other.
"""

from __future__ import annotations

import argparse
import json
from contextlib import ExitStack
from pathlib import Path

from netadapt_trt.backend import CompileOptions, backend_names, load_backend
from netadapt_trt.measure.machine import machine_state, other_load, quiet_notice
from netadapt_trt.measure.stats import mape, repeatability
from netadapt_trt.measure.stopwatch import time_interleaved


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="+", type=Path, help="ONNX files with fixed input sizes")
    parser.add_argument("--backend", default="ort", choices=backend_names())
    parser.add_argument("--threads", type=int, default=0, help="0: the backend's default")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--round-ms", type=float, default=100.0)
    parser.add_argument("--json", action="store_true")
    asked = parser.parse_args()

    backend = load_backend(asked.backend)
    threads = asked.threads or backend.default_threads()
    notice = quiet_notice(other_load())
    with ExitStack() as stack:
        options = CompileOptions(threads=threads)
        exes = [
            stack.enter_context(backend.compile(model.read_bytes(), options)) for _ in range(2) for model in asked.models
        ]
        timed = time_interleaved(exes, rounds=asked.rounds, round_ms=asked.round_ms)
    first, second = timed[: len(asked.models)], timed[len(asked.models) :]
    result = {
        "machine": machine_state().to_json(),
        "backend": asked.backend,
        "threads": threads,
        "notice": notice,
        "odd_even_mape": repeatability([timing.medians_ms for timing in timed]),
        "twin_mape": mape([timing.stats.median for timing in first], [timing.stats.median for timing in second]),
        "models": [
            {
                "path": str(path),
                "latency_ms": one.stats.to_json(),
                "twin_ms": two.stats.to_json(),
                "odd_even": one.odd_even_ratio,
            }
            for path, one, two in zip(asked.models, first, second, strict=True)
        ],
    }
    if asked.json:
        print(json.dumps(result, indent=1))
        return
    if notice:
        print(f"note: {notice}")
    for path, one, two in zip(asked.models, first, second, strict=True):
        print(f"{path}: {one.stats.median:.4f} ms, twin {two.stats.median:.4f} ms, odd / even {one.odd_even_ratio:.3f}")
    print(f"odd / even {100 * result['odd_even_mape']:.2f} %, twin {100 * result['twin_mape']:.2f} %")


if __name__ == "__main__":
    main()
