"""An event file by TensorBoard's own writer: writes tensorboard.json beside this file.

Needs `pip install tensorboard` (2.21.0 was used). Run: python tensorboard_events.py
"""
import glob
import json
import pathlib
import tempfile

from tensorboard.compat.proto.event_pb2 import Event, SessionLog
from tensorboard.compat.proto.summary_pb2 import Summary
from tensorboard.summary.writer.event_file_writer import EventFileWriter
from tensorboard.compat.tensorflow_stub.pywrap_tensorflow import crc32c, masked_crc32c

START = 1700000000.25
SCALARS = [["reward", 0.171, 0, START + 1], ["reward", 0.0, 1, START + 2], ["clip_ratio/low_mean", -1.5, 128, START + 3.5], ["évaluation/größe", 3e38, 2**40 + 5, START + 4], ["x" * 200, 1e-45, 127, START + 5]]

with tempfile.TemporaryDirectory() as folder:
    writer = EventFileWriter(folder)
    writer.add_event(Event(wall_time=START, step=21, session_log=SessionLog(status=SessionLog.START)))
    for tag, value, step, wall_time in SCALARS:
        writer.add_event(Event(wall_time=wall_time, step=step, summary=Summary(value=[Summary.Value(tag=tag, simple_value=value)])))
    writer.close()
    (path,) = glob.glob(f"{folder}/*")
    content = pathlib.Path(path).read_bytes()

# The writer stamps the first record (file version) with its own clock and adds its name: taken off here.
first = 16 + int.from_bytes(content[:8], "little")
texts = ["", "a", "123456789", "The quick brown fox jumps over the lazy dog"]
vectors = [[text.encode().hex(), crc32c(text.encode()), masked_crc32c(text.encode())] for text in texts]
zeros = bytes(32)  # with 123456789, the vectors of RFC 3720
vectors.append([zeros.hex(), crc32c(zeros), masked_crc32c(zeros)])
version = Event(wall_time=START, file_version="brain.Event:2").SerializeToString()
out = pathlib.Path(__file__).with_name("tensorboard.json")
out.write_text(json.dumps({"wallTime": START, "resumeStep": 21, "scalars": SCALARS, "versionEvent": version.hex(), "recordsAfterVersion": content[first:].hex(), "crc32c": vectors}, indent=1) + "\n")
