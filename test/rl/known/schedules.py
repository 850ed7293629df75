"""Learning-rate schedules of transformers beyond those of test/fixtures/schedules.json. Writes schedules.json beside this file.

Each is stepped beside an optimiser by transformers' own get_scheduler. Run: python schedules.py (torch 2.15, transformers 5.24)
"""
import json
import pathlib

import torch
import transformers
from transformers import get_scheduler

SHAPES = ((0, 1), (1, 1), (0, 8), (1, 8), (3, 8), (7, 8), (8, 8), (10, 8), (5, 17), (4, 30))  # warm-up steps, all steps
FORMS = (
    ("cosine_with_restarts", {"num_cycles": 1}),
    ("cosine_with_restarts", {"num_cycles": 3}),
    ("polynomial", {"lr_end": 0.0, "power": 1.0}),
    ("polynomial", {"lr_end": 2.5e-5, "power": 1.0}),
    ("polynomial", {"lr_end": 2.5e-5, "power": 2.5}),
    ("inverse_sqrt", {}),
)
RATE = 2.0**-10


def stepped(name, warmup, total, extra):
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=RATE)
    scheduler = get_scheduler(name, optimizer, warmup, total, scheduler_specific_kwargs=extra)
    rates = []
    for _ in range(total + 3):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    return rates


cases = []
for warmup, total in SHAPES:
    for name, extra in FORMS:
        if name == "polynomial" and warmup >= total:
            continue  # transformers divides by zero
        cases.append({"name": name, "warmupSteps": warmup, "totalSteps": total, "learningRate": RATE,
                      "floorShare": extra.get("lr_end", 0.0) / RATE, "cycles": extra.get("num_cycles", 1),
                      "power": extra.get("power", 1.0), "learningRates": stepped(name, warmup, total, extra)})
versions = {"transformers": transformers.__version__, "torch": torch.__version__.split("+")[0]}
out = pathlib.Path(__file__).with_suffix(".json")
out.write_text(json.dumps({"versions": versions, "schedules": cases}) + "\n")
