"""Short trainings of test/fixtures/qwen2-tiny with TRL's own loss function, in float64. Writes policy-training.json beside this file.

GRPOTrainer._compute_loss is called as it is, on a stand-in that has the attributes it reads; its log-probabilities and entropies
come from the model at a temperature (test/fixtures/make/qwen2_float64.py). Each step is torch.optim.AdamW on the whole batch.
Run: python policy_training.py (torch 2.15, transformers 5.24, trl 1.16)
"""
import json
import math
import pathlib
import sys
import types
from collections import defaultdict

here = pathlib.Path(__file__).resolve().parent
fixtures = here.parent.parent / "fixtures"
sys.path.insert(0, str(fixtures / "make"))
import numpy as np
import torch
import transformers
import trl
from trl.trainer.grpo_trainer import GRPOTrainer

from qwen2_float64 import forward, load

torch.set_default_dtype(torch.float64)
TEMPERATURE, STEPS, RATE, LIMIT = 0.8, 3, 1e-5, 20
FORMS = {
    "token, cap, KL times ratio": dict(loss_type="bnpo", delta=1.2, epsilon_low=0.05, epsilon_high=0.1, beta=0.1, use_bias_correction_kl=True),
    "sequence": dict(loss_type="grpo", importance_sampling_level="sequence", epsilon_low=0.005, epsilon_high=0.01),
    "sequence, cap, KL times ratio": dict(loss_type="dr_grpo", importance_sampling_level="sequence", delta=1.02, epsilon_low=0.005,
                                          epsilon_high=0.01, beta=0.1, use_bias_correction_kl=True),
    "cispo": dict(loss_type="cispo", epsilon_high=1.05),
    "sequence cispo, KL": dict(loss_type="cispo", importance_sampling_level="sequence", epsilon_high=1.005, beta=0.1),
    "entropy bonus": dict(loss_type="dapo", entropy_coef=0.05),
    "quantile, entropy bonus, KL": dict(loss_type="grpo", top_entropy_quantile=0.4, entropy_coef=0.05, beta=0.1),
    "sequence quantile": dict(loss_type="bnpo", importance_sampling_level="sequence", top_entropy_quantile=0.4, epsilon_low=0.005, epsilon_high=0.01),
}
DEFAULTS = dict(epsilon_low=0.2, epsilon_high=0.28, beta=0.0, importance_sampling_level="token", top_entropy_quantile=1.0, entropy_coef=0.0)


class Accelerator:
    num_processes = 1

    def gather(self, x):
        return x

    def reduce(self, x, reduction):
        return x

    def pad_across_processes(self, x, dim, pad_index):
        return x


def scored(model, ids, mask):
    """Log-probabilities and entropies of the masked-in tokens of one sequence."""
    log_probs = (forward(model, ids) / TEMPERATURE).log_softmax(-1)[:-1]
    entropy = -(log_probs.exp() * log_probs).sum(-1)
    at = [t - 1 for t, m in enumerate(mask) if m]
    return log_probs.gather(-1, torch.tensor(ids[1:])[:, None])[at, 0], entropy[at]


def padded(rows):
    return torch.nn.utils.rnn.pad_sequence([torch.as_tensor(r) for r in rows], batch_first=True)


def train(form, sequences):
    model = load(fixtures / "qwen2-tiny")
    s = {**DEFAULTS, **form}
    mask = padded([torch.ones(sum(q["mask"])) for q in sequences])
    near = []

    def forward_pass(*_, **__):
        found = [scored(model, q["ids"], q["mask"]) for q in sequences]
        return padded([f[0] for f in found]), padded([f[1] for f in found]), None

    stand_in = types.SimpleNamespace(
        loss_type=s["loss_type"], epsilon_low=s["epsilon_low"], epsilon_high=s["epsilon_high"], beta=s["beta"],
        importance_sampling_level=s["importance_sampling_level"], top_entropy_quantile=s["top_entropy_quantile"],
        entropy_coef=s["entropy_coef"], _entropy_bonus_enabled=s["entropy_coef"] != 0, use_adaptive_entropy=False,
        off_policy_mask_threshold=None, use_vllm=False, aux_loss_enabled=False, vllm_importance_sampling_correction=False,
        accelerator=Accelerator(), current_gradient_accumulation_steps=1, model=types.SimpleNamespace(training=False),
        max_completion_length=LIMIT, _metrics={"eval": defaultdict(list)}, _get_per_token_logps_and_entropies=forward_pass,
        args=types.SimpleNamespace(delta=s.get("delta"), use_bias_correction_kl=s.get("use_bias_correction_kl", False), steps_per_generation=1))
    stand_in.get_high_entropy_mask = types.MethodType(GRPOTrainer.get_high_entropy_mask, stand_in)
    ids = torch.zeros(mask.shape, dtype=torch.long)
    of = lambda key: padded([[v for v, m in zip(q[key], q["mask"]) if m] for q in sequences])
    inputs = {"prompt_ids": ids[:, :0], "prompt_mask": ids[:, :0], "completion_ids": ids, "completion_mask": mask,
              "advantages": torch.tensor([q["advantage"] for q in sequences]), "old_per_token_logps": of("samplerLogProbs"),
              "ref_per_token_logps": of("referenceLogProbs"), "num_items_in_batch": mask.sum()}
    optimizer = torch.optim.AdamW(model.parameters(), lr=RATE, betas=(0.9, 0.999), eps=1e-8, weight_decay=0.01, foreach=False, fused=False)
    steps = []
    for _ in range(STEPS):
        optimizer.zero_grad()
        now, entropy, _ = (x.detach() if x is not None else x for x in forward_pass())
        ratio = (now - inputs["old_per_token_logps"])
        log_ratio = (ratio * mask).sum(-1) / mask.sum(-1) if s["importance_sampling_level"] == "sequence" else ratio[mask > 0]
        bounds = [s["epsilon_high"]] if s["loss_type"] == "cispo" else [1 - s["epsilon_low"], 1 + s["epsilon_high"]] + ([s["delta"]] if "delta" in s else [])
        near += [(log_ratio.exp() - b).abs().min().item() for b in bounds]
        if s["top_entropy_quantile"] < 1:
            values = entropy[mask > 0]
            near.append((values - torch.quantile(values, 1 - s["top_entropy_quantile"])).abs().min().item())
        loss = GRPOTrainer._compute_loss(stand_in, None, inputs)
        loss.backward()
        norm = torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0, foreach=False)
        optimizer.step()
        steps.append({"loss": loss.item(), "gradientNorm": norm.item()})
    assert min(near) > 1e-5, f"{form}: a number comes within {min(near)} of a bound: choose another seed"
    return steps


rng = np.random.default_rng(7)
start = load(fixtures / "qwen2-tiny")
sequences = []
for i, prompt in enumerate([5, 5, 5, 8, 8, 8]):
    turns = rng.integers(2, 9, 2)
    mask = [0] * prompt + [1] * int(turns[0]) + [0] * 3 + [1] * int(turns[1])
    ids = rng.integers(0, start.config.vocab_size, len(mask)).tolist()
    with torch.no_grad():
        own = iter(scored(start, ids, mask)[0].tolist())
    near = [next(own) if m else 0.0 for m in mask]
    noisy = lambda scale: [float(np.float32(v + scale * rng.standard_normal())) if m else 0.0 for v, m in zip(near, mask)]
    sequences.append({"ids": ids, "mask": mask, "samplerLogProbs": noisy(0.1), "referenceLogProbs": noisy(0.3),
                      "advantage": round(float(rng.standard_normal()), 3)})
cases = [{"name": name, **DEFAULTS, "delta": None, "use_bias_correction_kl": False, **form, "steps": train(form, sequences)} for name, form in FORMS.items()]
versions = {"trl": trl.__version__, "transformers": transformers.__version__, "torch": torch.__version__.split("+")[0]}
(here / "policy-training.json").write_text(json.dumps(
    {"versions": versions, "temperature": TEMPERATURE, "learningRate": RATE, "completionLimit": LIMIT, "sequences": sequences, "cases": cases}) + "\n")
