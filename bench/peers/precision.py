"""How far log-probabilities are from float32 when a model runs in float16 or bfloat16: PyTorch and transformers.

    python3 bench/peers/precision.py FOLDER        # SmolLM2-135M-Instruct; test/tools/smollm2_to_hf.py makes the folder

The tokens and their float32 log-probabilities are those of test/fixtures/smollm2.json, which the slow test of foothold's own
f16 reads too: four greedy answers and a text, 323 log-probabilities.
"""
import json
import math
import pathlib
import sys

import torch
from transformers import AutoModelForCausalLM

known = json.loads((pathlib.Path(__file__).parents[2] / "test/fixtures/smollm2.json").read_text())
sequences = [
    (answer["prompt_ids"] + answer["continuation_ids"], answer["continuation_log_probs"]) for answer in known["greedy"]
]
sequences.append((known["scored"]["ids"], known["scored"]["log_probs_f64"]))


@torch.no_grad()
def errors(model):
    """|log p − log p in float32| of every known token; log-softmax is taken in float32."""
    for ids, expected in sequences:
        log_probs = torch.log_softmax(model(torch.tensor([ids])).logits[0].float(), -1)
        first = len(ids) - len(expected)
        for t, value in enumerate(expected, first):
            yield abs(log_probs[t - 1, ids[t]].item() - value)


for dtype in (torch.float32, torch.float16, torch.bfloat16):
    found = list(errors(AutoModelForCausalLM.from_pretrained(sys.argv[1], dtype=dtype).eval()))
    rms = math.sqrt(sum(error**2 for error in found) / len(found))
    near = sum(error <= 1e-2 for error in found)
    print(f"{str(dtype):15} {near} of {len(found)} within 1e-2, rms {rms:.1e}, largest {max(found):.1e}", flush=True)
