#!/usr/bin/env python3
"""Reads a run's TensorBoard files by TensorBoard's own reader and compares every point with metrics.jsonl.

    pip install tensorboard==2.21.0
    python3 test/tools/tensorboard_reads.py RUN

Each number of metrics.jsonl must be a point of the curve of its name, at its step, with the value rounded to float32, and no
curve may have another point. `step_time` is in TensorBoard alone and must have one point per training step. The reader drops
points that a resumed run wrote again, so a run that was killed must read like any other. Exits with 1 on any difference.
"""
import json
import sys
from importlib.metadata import version
from pathlib import Path

import numpy as np
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

run = Path(sys.argv[1])
records = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
expected = {}
for record in records:
    for name, value in record.items():
        if name != "step" and value is not None:
            expected.setdefault(name, []).append((record["step"], float(np.float32(value))))
expected_steps = [record["step"] for record in records if record["step"] > 0]

reader = EventAccumulator(str(run / "tensorboard"), size_guidance={"scalars": 0}).Reload()
got = {name: [(event.step, event.value) for event in reader.Scalars(name)] for name in reader.Tags()["scalars"]}

problems = []
times = got.pop("step_time", [])
if [step for step, _ in times] != expected_steps or not all(seconds > 0 for _, seconds in times):
    problems.append(f"step_time: expected one positive value for each of steps {expected_steps}, got {times}")
for name in sorted(expected.keys() | got.keys()):
    if expected.get(name) != got.get(name):
        problems.append(f"{name}: expected {expected.get(name)}, got {got.get(name)}")
for problem in problems:
    print(problem)
files = len(list((run / "tensorboard").iterdir()))
points = sum(len(of) for of in expected.values())
print(f"tensorboard {version('tensorboard')}: {files} event files, {len(expected)} curves, {points} points, {len(problems)} differences")
sys.exit(1 if problems or points == 0 else 0)
