"""Whether adapted networks keep their latency budget: several budgets of one network on this machine, measured at the end.

    python tools/bench_budgets.py --output out/budgets [--size 96] [--width 1.0] [--ratios 0.75 0.5 0.25] [--backend ort]

MobileNetV1 on the embedded digits (scaled up to SIZE), with a short seed training, a table of this machine and so little
short-term training that it is the latencies that are tested, not the accuracy. Each run leaves its directory; finished
ones are not done again. Prints a Markdown table: final measured latency over the uncut network's, timed side by side at the
end, and that over the budget; how far odd and even rounds of that timing differ.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence


def run(*words: object) -> None:
    """One verb of the command line; ends here where it fails for another reason than a budget out of reach."""
    print("netadapt-trt", *words, flush=True)
    done = subprocess.run([sys.executable, "-m", "netadapt_trt", *map(str, words)], check=False)
    if done.returncode not in (0, 1):
        raise SystemExit(done.returncode)


def model(asked: argparse.Namespace) -> list[object]:
    arguments = [f"width={asked.width}", "stem=imagenet", "num_classes=10"]
    return ["zoo:mobilenet_v1", *(word for text in arguments for word in ("--model-arg", text))]


def prepare(asked: argparse.Namespace) -> tuple[Path, Path]:
    """Seed weights and a table, made once."""
    weights, lut = asked.output / "seed.safetensors", asked.output / f"{asked.backend}.lut.jsonl"
    shape = ["--input", f"1x3x{asked.size}x{asked.size}"]
    if not weights.exists():
        run("train", *model(asked), *shape, "--data", "digits", "--epochs", 1, "-o", weights)
    run("profile", *model(asked), *shape, "--backend", asked.backend, "--lut", lut, "--power", "none")
    return weights, lut


def adapt(asked: argparse.Namespace, weights: Path, lut: Path, ratio: float) -> dict[str, Any]:
    folder = asked.output / f"latency-{ratio}x"
    if not (folder / "result.json").exists():
        words: Sequence[object] = (
            *model(asked), "--input", f"1x3x{asked.size}x{asked.size}", "--weights", weights, "--data", "digits",
            "--lut", lut,
            "--budget", f"latency={ratio}x", "--reduction", asked.reduction, "--short-steps", 2, "--batch-size", 16,
            "--long-epochs", 0.02, "--no-uniform", "--no-tensorboard", "-o", folder,
        )  # fmt: skip
        run(*(("adapt", "--resume", folder) if folder.exists() else ("adapt", *words)))
    return json.loads((folder / "result.json").read_text(encoding="utf-8"))  # type: ignore[no-any-return]


def row(ratio: float, result: dict[str, Any]) -> str:
    initial, adapted = result["initial"]["latency_ms"], result["adapted"]["latency_ms"]
    measured = adapted["measured"] / initial["measured"]
    noise = ", ".join(f"{name} {abs(value - 1):.1%}" for name, value in (result["repeatability"] or {}).items())
    return (
        f"| {ratio}x | {initial['measured']:.3f} | {adapted['measured']:.3f} | {measured:.4f} | {measured / ratio:.3f} "
        f"| {result['iterations']} | {noise} |"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--backend", default="ort")
    parser.add_argument("--size", type=int, default=96)
    parser.add_argument("--width", default="1.0")
    parser.add_argument("--reduction", type=float, default=0.08)
    parser.add_argument("--ratios", type=float, nargs="+", default=[0.75, 0.5, 0.25])
    asked = parser.parse_args()
    asked.output.mkdir(parents=True, exist_ok=True)
    weights, lut = prepare(asked)
    rows = [row(ratio, adapt(asked, weights, lut, ratio)) for ratio in asked.ratios]
    head = "| budget | uncut ms | adapted ms | measured ratio | over the budget | steps | odd against even rounds |"
    text = "\n".join([head, "|---" * 7 + "|", *rows])
    (asked.output / "table.md").write_text(text + "\n", encoding="utf-8")
    print(text)


if __name__ == "__main__":
    main()
