"""Event files by TensorBoard's own writer, and what its readers show of them: writes tensorboard.json beside this file.

`sessions` is the life of one run: it is stopped, resumed from an earlier step, and begun again after its state was deleted.
Each is a file with the first step to come and the steps that were written; the points are those that are shown after all.

Needs `pip install tensorboard` (2.21.0 was used). Run: python tensorboard_events.py
"""
import glob
import json
import pathlib
import tempfile

from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.backend.event_processing.plugin_event_accumulator import EventAccumulator as ServerAccumulator
from tensorboard.compat.proto.event_pb2 import Event, SessionLog
from tensorboard.compat.proto.summary_pb2 import Summary
from tensorboard.summary.writer.event_file_writer import EventFileWriter
from tensorboard.compat.tensorflow_stub.pywrap_tensorflow import crc32c, masked_crc32c

START = 1700000000.25
SCALARS = [["reward", 0.171, 0, START + 1], ["reward", 0.0, 1, START + 2], ["clip_ratio/low_mean", -1.5, 128, START + 3.5], ["évaluation/größe", 3e38, 2**40 + 5, START + 4], ["x" * 200, 1e-45, 127, START + 5]]

SESSIONS = [{"wallTime": START + 100 * i, "firstStep": first, "steps": steps} for i, (first, steps) in enumerate([(0, [0, 1, 2, 3, 4, 5]), (4, [4, 5, 6, 7]), (0, [0, 1, 2]), (3, [3])])]


def events(first_step, wall_time, scalars):
    """The records of a file after the file version, as TensorBoard's writer makes them."""
    with tempfile.TemporaryDirectory() as folder:
        writer = EventFileWriter(folder)
        writer.add_event(Event(wall_time=wall_time, step=first_step, session_log=SessionLog(status=SessionLog.START)))
        for tag, value, step, time in scalars:
            writer.add_event(Event(wall_time=time, step=step, summary=Summary(value=[Summary.Value(tag=tag, simple_value=value)])))
        writer.close()
        (path,) = glob.glob(f"{folder}/*")
        content = pathlib.Path(path).read_bytes()
    # The writer stamps the first record (file version) with its own clock and adds its name: taken off here.
    first = 16 + int.from_bytes(content[:8], "little")
    return content[:first], content[first:]


def shown(folder):
    """[step, value] of "reward" as TensorBoard's library and its own server (--load_fast=false) have it after reading a folder."""
    library = EventAccumulator(folder, size_guidance={"scalars": 0}).Reload()
    server = ServerAccumulator(folder, size_guidance={"tensors": 0}).Reload()
    points = [[e.step, e.value] for e in library.Scalars("reward")]
    assert points == [[e.step, e.tensor_proto.float_val[0]] for e in server.Tensors("reward")], "the two readers differ"
    return points


_, records = events(21, START, SCALARS)
with tempfile.TemporaryDirectory() as folder:
    for i, session in enumerate(SESSIONS):
        # Values tell which session a point is of.
        session["scalars"] = [["reward", i + step / 16, step, session["wallTime"] + step] for step in session.pop("steps")]
        version, rest = events(session["firstStep"], session["wallTime"], session["scalars"])
        session["recordsAfterVersion"] = rest.hex()
        pathlib.Path(folder, f"events.out.tfevents.{int(session['wallTime']):010d}.foothold.000").write_bytes(version + rest)
        session["shown"] = shown(folder)
texts = ["", "a", "123456789", "The quick brown fox jumps over the lazy dog"]
vectors = [[text.encode().hex(), crc32c(text.encode()), masked_crc32c(text.encode())] for text in texts]
zeros = bytes(32)  # with 123456789, the vectors of RFC 3720
vectors.append([zeros.hex(), crc32c(zeros), masked_crc32c(zeros)])
version = Event(wall_time=START, file_version="brain.Event:2").SerializeToString()
out = pathlib.Path(__file__).with_name("tensorboard.json")
out.write_text(json.dumps({"wallTime": START, "resumeStep": 21, "scalars": SCALARS, "versionEvent": version.hex(), "recordsAfterVersion": records.hex(), "sessions": SESSIONS, "crc32c": vectors}, indent=1) + "\n")
