#!/usr/bin/env bash
# TRL's GRPOTrainer logs another entropy, KL and clip ratio if the same batch is cut into other micro-batches, although
# the training step is the same.
#
# per_device_train_batch_size and gradient_accumulation_steps with the same product need different memory, but give the
# same loss, gradient and weights (with the default loss; with loss_type "bnpo" these change too). `entropy`, `kl` and the
# means in `clip_ratio` are averages over tokens. Over several devices TRL computes them exactly, from the devices' sums
# and counts of tokens. But over the micro-batches of one device it logs the mean of their means, in which a token of a
# short answer counts more than a token of a long one. So the same run on a smaller card has other curves.
#
# Versions: PyPI trl 1.16.0, transformers 5.24.0, torch 2.15.0, on the processor.
# Seen, for a second update of a tiny random model on eight given answers, five of 2 to 4 tokens and three of 24 to 31:
#           micro-batches               loss        grad_norm   entropy   kl        clip_ratio/region_mean
#           1 of 8 answers              -0.068281   1.072627    2.337942  0.027596  0.216495
#           2 of 4 answers              -0.068281   1.072627    2.349936  0.028396  0.223033
#           8 of 1 answer               -0.068281   1.072627    2.008621  0.014297  0.119192
#           mean over all tokens                                2.337943  0.027596  0.216495
# Instead:  compare these curves only between runs with the same micro-batches; for exact values take one micro-batch.
#
# PyPI's torch comes with the libraries of CUDA: this script downloads 3 GB and needs 7 GB in the temporary folder.
#
# Exit status: 0 as stated, 1 the behaviour has changed, 2 something needed is missing.
set -euo pipefail
missing() { echo "cannot run: $1" >&2; exit 2; }
command -v python3 >/dev/null || missing "python3 is not on PATH"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
{ python3 -m venv venv && venv/bin/pip install --quiet --disable-pip-version-check trl==1.16.0 transformers==5.24.0 \
  torch==2.15.0 accelerate==1.15.0 datasets==5.2.0 tokenizers==0.23.3 numpy==2.4.6; } >pip.log 2>&1 ||
  missing "pip could not install the packages: $(tail -n 1 pip.log)"

cat >try.py <<'PY'
import sys
import torch
from datasets import Dataset
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast, Qwen2Config, Qwen2ForCausalLM, TrainerCallback
from transformers.trainer_callback import PrinterCallback
from trl import GRPOConfig, GRPOTrainer

END, PAD = 0, 1
words = Tokenizer(models.WordLevel({word: i for i, word in enumerate(["end", "pad", "one", "two", *map(str, range(60))])}, "pad"))
words.pre_tokenizer = pre_tokenizers.Whitespace()
tokenizer = PreTrainedTokenizerFast(tokenizer_object=words, eos_token="end", pad_token="pad")
torch.manual_seed(13)
Qwen2ForCausalLM(Qwen2Config(
    vocab_size=64, hidden_size=16, intermediate_size=16, num_hidden_layers=1, num_attention_heads=2, num_key_value_heads=2,
    initializer_range=0.5, eos_token_id=END, pad_token_id=PAD, bos_token_id=None)).save_pretrained("model")
LENGTHS = [2, 3, 31, 2, 24, 3, 4, 28]  # of the eight answers: four to each of two prompts
ANSWERS = [torch.randint(4, 64, (length - 1,)).tolist() + [END] for length in LENGTHS]

def reward(completion_ids, **_):
    return [float(len(ids) % 2) for ids in completion_ids]

def train(micro_batch, accumulated):
    """Two updates on the answers: what TRL logs of the second, the prompts, and the weights before, between and after."""
    model = Qwen2ForCausalLM.from_pretrained("model")
    keep = lambda: {name: value.clone() for name, value in model.state_dict().items()}
    weights, drawn = [keep()], []

    def answer(prompts, trainer):
        drawn.append(prompts)
        return {"prompt_ids": [tokenizer(prompt)["input_ids"] for prompt in prompts], "completion_ids": ANSWERS,
                "logprobs": [[0.0] * length for length in LENGTHS]}

    class Keep(TrainerCallback):
        def on_step_end(self, *_, **__):
            weights.append(keep())

    trainer = GRPOTrainer(
        model=model, reward_funcs=reward, rollout_func=answer, processing_class=tokenizer, callbacks=[Keep()],
        train_dataset=Dataset.from_dict({"prompt": ["one", "two"]}),
        args=GRPOConfig(
            per_device_train_batch_size=micro_batch, gradient_accumulation_steps=accumulated,
            num_generations=4, num_iterations=2, max_steps=2, max_completion_length=32, beta=0.1,
            optim="sgd", learning_rate=0.05, lr_scheduler_type="constant", gradient_checkpointing=False, use_cpu=True, bf16=False,
            seed=7, output_dir="out", logging_steps=1, report_to=[], save_strategy="no", disable_tqdm=True))
    trainer.remove_callback(PrinterCallback)
    trainer.train()
    assert len(drawn) == 1, "both updates use the same answers"
    return [entry for entry in trainer.state.log_history if "loss" in entry][1], drawn[0], weights

@torch.no_grad()
def over_all_tokens(prompts, before, between):
    """The three metrics of the second update as means over all tokens of all answers, from the weights."""
    model = Qwen2ForCausalLM.from_pretrained("model").eval()
    entropy, kl, clipped = [], [], []
    for i, (prompt, answer) in enumerate(zip(prompts, ANSWERS)):
        ids = torch.tensor([tokenizer(prompt)["input_ids"] + answer])
        def scores(weights):
            model.load_state_dict(weights)
            every = model(ids).logits[0, -len(answer) - 1:-1].log_softmax(-1)
            return every, every.gather(1, ids[0, -len(answer):, None])[:, 0]
        (_, old), (every, new) = scores(before), scores(between)
        ratio = (new - old).exp()
        group = [len(other) % 2 for other in ANSWERS[i // 4 * 4:i // 4 * 4 + 4]]
        is_good = len(answer) % 2 > sum(group) / 4
        entropy.append(-(every.exp() * every).sum(-1))
        kl.append(((old - new).exp() - (old - new) - 1) * ratio)  # the first weights are the reference too
        clipped.append((ratio > 1.2 if is_good else ratio < 0.8).float())
    return [torch.cat(values).mean().item() for values in (entropy, kl, clipped)]

NAMES = ["loss", "grad_norm", "entropy", "kl", "clip_ratio/region_mean"]
row = lambda name, values: print(f"{name:28}" + "".join(f"{value:<15.6f}" for value in values).rstrip())
print(f"{'micro-batches':28}" + "".join(f"{name:15}" for name in NAMES).rstrip())
runs = {(micro, accumulated): train(micro, accumulated) for micro, accumulated in [(8, 1), (4, 2), (1, 8)]}
for (micro, accumulated), (log, _, _) in runs.items():
    row(f"{accumulated} of {micro} answer{'s' if micro > 1 else ''}", [log[name] for name in NAMES])
whole, halves, single = runs.values()
exact = over_all_tokens(whole[1], *whole[2][:2])
print(f"{'mean over all tokens':58}" + "".join(f"{value:<15.6f}" for value in exact).rstrip())

near = lambda a, b: abs(a - b) <= 1e-3 * abs(b)
same_step = all(
    run[1] == whole[1] and all(near(run[0][name], whole[0][name]) for name in NAMES[:2])
    and all(torch.allclose(run[2][2][name], value, rtol=1e-3, atol=1e-4) for name, value in whole[2][2].items())
    for run in (halves, single))
whole_is_exact = all(near(whole[0][name], value) for name, value in zip(NAMES[2:], exact))
eight_differ = all(abs(single[0][name] - value) > 0.05 * value for name, value in zip(NAMES[2:], exact))
print(f"same step: {same_step}; exact in one micro-batch: {whole_is_exact}; over 5% off in eight: {eight_differ}")
sys.exit(0 if same_step and whole_is_exact and eight_differ else 1)
PY
HF_HUB_OFFLINE=1 venv/bin/python try.py 2>messages || { code=$?; tail -n 20 messages >&2; exit $code; }
