#!/usr/bin/env bash
# A network of your own through all verbs, in a minute or two: the fake backend stands for a device.
# Usage: adapt_user_network.sh [DIRECTORY]   (a new one each time: adapt does not write over a run)
set -euo pipefail
out=${1:-example}
here=$(cd "$(dirname "$0")" && pwd)
network=("$here/user_network.py:small_net" --model-arg width=64 --input 1x3x16x16)

netadapt-trt train "${network[@]}" --data digits --epochs 2 --batch-size 64 -o "$out/seed.safetensors"
netadapt-trt plan "${network[@]}" -o "$out/net.plan.json"
netadapt-trt profile "$out/net.plan.json" --backend fake --lut "$out/fake.lut.jsonl"
netadapt-trt lut check "$out/fake.lut.jsonl" --plan "$out/net.plan.json"
netadapt-trt adapt "${network[@]}" --weights "$out/seed.safetensors" --data digits --lut "$out/fake.lut.jsonl" \
    --budget latency=0.8x --budget params=0.9x --reduction 0.1 --short-steps 2 --long-epochs 1 --batch-size 64 -o "$out/run"
netadapt-trt export "$out/run" --backend fake -o "$out/deploy/model.onnx"
netadapt-trt bench "$out/deploy/model.onnx" --backend fake -o "$out/deploy/bench.json"
netadapt-trt report "$out/run" -o "$out/report.html"
