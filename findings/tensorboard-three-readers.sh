#!/usr/bin/env bash
# TensorBoard has three readers, and they show different points of the same resumed run.
#
# A run that was cut off and resumed from a checkpoint has some steps twice, once in each event file. The fast server
# (in Rust, the default if it is installed) drops the old points as soon as a step decreases. The Python server
# (--load_fast=false) drops them if both files begin with a SessionLog START event; otherwise it draws the curve back
# and forth. EventAccumulator, the class that scripts use, requires the event only in the second file.
#
# Versions: PyPI tensorboard 2.21.0 (with tensorboard-data-server 0.7.2).
# Seen, for a first file with steps 0 to 5 and a second with steps 4 to 7:
#                            fast server       Python server         EventAccumulator
#           no START event   0 1 2 3 4 5 6 7   0 1 2 3 4 5 4 5 6 7   0 1 2 3 4 5 4 5 6 7
#           in the second    0 1 2 3 4 5 6 7   0 1 2 3 4 5 4 5 6 7   0 1 2 3 4 5 6 7
#           in both          0 1 2 3 4 5 6 7   0 1 2 3 4 5 6 7       0 1 2 3 4 5 6 7
# Instead:  begin every event file, the first one too, with a SessionLog START event at the step where the file begins.
#
# Exit status: 0 as stated, 1 the behaviour has changed, 2 something needed is missing.
set -euo pipefail
missing() { echo "cannot run: $1" >&2; exit 2; }
command -v python3 >/dev/null || missing "python3 is not on PATH"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
{ python3 -m venv venv && venv/bin/pip install --quiet --disable-pip-version-check tensorboard==2.21.0 tensorboard-data-server==0.7.2 setuptools==80.9.0; } >pip.log 2>&1 ||
  missing "pip could not install the packages: $(tail -n 1 pip.log)"

cat >try.py <<'PY'
import json, logging, os, re, subprocess, sys, time, urllib.request
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.compat.proto import event_pb2, summary_pb2
from tensorboard.summary.writer.record_writer import RecordWriter

def write(path, start, steps, time):
    writer = RecordWriter(open(path, "wb"))
    add = lambda **fields: writer.write(event_pb2.Event(wall_time=time, **fields).SerializeToString())
    add(file_version="brain.Event:2")
    if start is not None:
        add(step=start, session_log=event_pb2.SessionLog(status=event_pb2.SessionLog.START))
    for step in steps:
        time += 1
        add(step=step, summary=summary_pb2.Summary(value=[summary_pb2.Summary.Value(tag="loss", simple_value=step)]))
    writer.close()

def served(folder, *options):
    """The steps that a TensorBoard with these options gives to its page, for each run."""
    with open("tensorboard.log", "w") as log:
        server = subprocess.Popen(
            [sys.executable, "-m", "tensorboard.main", "--logdir", folder, "--host", "127.0.0.1", "--port", "0", *options],
            stdout=log, stderr=subprocess.STDOUT)
    try:
        for _ in range(120):
            time.sleep(0.5)
            address = re.search(r"http://[^ ]+/", open("tensorboard.log").read())
            try:
                get = lambda run: json.load(urllib.request.urlopen(
                    f"{address[0]}data/plugin/scalars/scalars?run={run}&tag=loss", timeout=10))
                steps = {run: [point[1] for point in get(run)] for run in RUNS}
                if all(7 in each for each in steps.values()):  # both files are read
                    return steps
            except (TypeError, OSError):  # no address yet, or the run is not yet read
                pass
        print("cannot run: TensorBoard did not answer within a minute", file=sys.stderr)
        sys.exit(2)
    finally:
        server.terminate()
        server.wait()

RUNS = {"no-START": (None, None), "START-in-second": (None, 4), "START-in-both": (0, 4)}
for run, (first, second) in RUNS.items():
    os.makedirs(f"logs/{run}")
    write(f"logs/{run}/events.out.tfevents.1000.a", first, range(0, 6), 1000)
    write(f"logs/{run}/events.out.tfevents.2000.a", second, range(4, 8), 2000)

def accumulated(folder):
    accumulator = EventAccumulator(folder)
    accumulator.Reload()
    return [event.step for event in accumulator.Scalars("loss")]

logging.getLogger("tensorboard").setLevel(logging.ERROR)
fast, python = served("logs", "--load_fast=true"), served("logs", "--load_fast=false")
once, twice = [0, 1, 2, 3, 4, 5, 6, 7], [0, 1, 2, 3, 4, 5, 4, 5, 6, 7]
stated = {"no-START": [once, twice, twice], "START-in-second": [once, twice, once], "START-in-both": [once, once, once]}
as_stated = True
print(f"{'':16} {'fast server':23}{'Python server':23}EventAccumulator")
for run in RUNS:
    seen = [fast[run], python[run], accumulated(f"logs/{run}")]
    print(f"{run:16}", "".join(f"{' '.join(map(str, steps)):23}" for steps in seen).rstrip())
    as_stated = as_stated and seen == stated[run]
sys.exit(0 if as_stated else 1)
PY
venv/bin/python try.py
