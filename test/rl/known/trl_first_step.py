"""The first optimiser step of TRL's GRPOTrainer itself on given rollouts, for some GRPOConfigs. Writes trl-first-step.json beside this file.

The trainer is built as a user builds it; its rollout_func returns the rollouts below instead of sampling, its reward function
the rewards below. The model is test/fixtures/tiny-warm-start in float64. Each config is kept as to_json_string saves it.
Run: python trl_first_step.py (torch 2.15, transformers 5.24, trl 1.16)
"""
import json
import pathlib
import tempfile

import numpy as np
import torch
import transformers
import trl
from datasets import Dataset
from transformers import AutoModelForCausalLM, AutoTokenizer
from trl import GRPOConfig, GRPOTrainer

here = pathlib.Path(__file__).resolve().parent
folder = here.parent.parent / "fixtures" / "tiny-warm-start"
CONFIGS = {
    "TRL's defaults": dict(),
    "grpo, KL penalty, scaled by the batch": dict(loss_type="grpo", scale_rewards="batch", beta=0.04, gradient_accumulation_steps=2,
                                                  per_device_train_batch_size=4, mask_truncated_completions=True, weight_decay=0.1),
    "dr_grpo, sequence ratios, no scale": dict(loss_type="dr_grpo", scale_rewards=False, importance_sampling_level="sequence", temperature=0.7,
                                               max_grad_norm=0.1, lr_scheduler_type="cosine", warmup_steps=2),
    "cispo": dict(loss_type="cispo", epsilon_high=5.0, top_entropy_quantile=0.5, lr_scheduler_type="constant"),
    "bnpo, entropy bonus": dict(loss_type="bnpo", entropy_coef=0.01, delta=3.0, num_generations=2),
}
LIMIT = 9

tokenizer = AutoTokenizer.from_pretrained(folder)
end = tokenizer.eos_token_id
rng = np.random.default_rng(3)
PROMPTS = ["Sort these names", "B, A, C"]


def rollouts(count, prompts):
    """`count` completions: most end with the end token, some are cut off at LIMIT tokens."""
    made = []
    for i in range(count):
        length = LIMIT if i % 4 == 3 else int(rng.integers(2, LIMIT))
        ids = rng.integers(3, 90, length).tolist()
        if i % 4 != 3:
            ids[-1] = end
        made.append({"prompt": prompts[i], "completion": ids, "reward": round(float(rng.random()), 3)})
    return made


def first_step(changes):
    torch.manual_seed(0)
    out = tempfile.mkdtemp()
    given = dict(output_dir=out, use_cpu=True, bf16=False, max_steps=4, num_generations=4, per_device_train_batch_size=8,
                 max_completion_length=LIMIT, logging_steps=1, learning_rate=1e-4, report_to=[], save_strategy="no", disable_tqdm=True,
                 gradient_checkpointing=False, seed=7)
    args = GRPOConfig(**{**given, **changes})
    config = json.loads(args.to_json_string())
    config["output_dir"] = "outputs/my-run"
    config["logging_dir"] = config.get("logging_dir") and "outputs/my-run/logs"
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float64)
    drawn = []

    def rollout_func(prompts, trainer):
        found = rollouts(len(prompts), prompts)
        drawn.extend(found)
        prompt_ids = [tokenizer(r["prompt"])["input_ids"] for r in found]
        for r, ids in zip(found, prompt_ids):
            r["ids"] = ids
        return {"prompt_ids": prompt_ids, "completion_ids": [r["completion"] for r in found],
                "logprobs": [[0.0] * len(r["completion"]) for r in found]}

    def reward(prompts, completions, completion_ids, **_):
        return [r["reward"] for r in drawn[-len(completions):]]

    class FirstStep(transformers.TrainerCallback):
        def on_step_end(self, args, state, control, **_):
            control.should_training_stop = True

    trainer = GRPOTrainer(model=model, reward_funcs=[reward], args=args, processing_class=tokenizer, rollout_func=rollout_func,
                          train_dataset=Dataset.from_dict({"prompt": PROMPTS * 8}), callbacks=[FirstStep()])
    trainer.train()
    log = next(entry for entry in trainer.state.log_history if "loss" in entry)
    return {"config": {k: v for k, v in config.items() if k != "logging_dir"},
            "rollouts": [{"prompt": r["ids"], "completion": r["completion"], "reward": r["reward"]} for r in drawn],
            "log": {k: log[k] for k in ("loss", "grad_norm", "learning_rate", "reward", "reward_std", "entropy", "frac_reward_zero_std",
                                        "completions/mean_length", "completions/min_length", "completions/max_length",
                                        "completions/mean_terminated_length", "completions/clipped_ratio", "num_tokens")},
            "raw": None}


# The logs are rounded to four digits; the unrounded loss and norm are caught on their way there.
exact = {}
original = GRPOTrainer.log
def log(self, logs, start_time=None):
    if "loss" in logs and "grad_norm" in logs:
        exact["logged"] = dict(logs)
    return original(self, logs, start_time)
GRPOTrainer.log = log
training_step = GRPOTrainer.training_step
def step(self, model, inputs, num_items_in_batch):
    loss = training_step(self, model, inputs, num_items_in_batch)
    exact.setdefault("losses", []).append(loss.item())
    return loss
GRPOTrainer.training_step = step

cases = []
for name, changes in CONFIGS.items():
    exact.clear()
    case = first_step(changes)
    del case["raw"]
    case["log"]["loss"] = sum(exact["losses"])
    case["log"]["grad_norm"] = float(exact["logged"]["grad_norm"])
    cases.append({"name": name, **case})
    print(name, case["log"])
versions = {"trl": trl.__version__, "transformers": transformers.__version__, "torch": torch.__version__.split("+")[0]}
(here / "trl-first-step.json").write_text(json.dumps({"versions": versions, "limit": LIMIT, "cases": cases}) + "\n")
