#!/usr/bin/env python3
"""A chat model answers greedily in transformers and in foothold: the same tokens?

    pip install torch==2.15.0 transformers==5.24.0
    python3 test/tools/transformers_generates.py FOLDER [--adapter lavapipe] [--max-new-tokens 16] QUESTION …

Each question is the first user message of a conversation of its own. Both sides read the same folder in f32 and apply its chat
template; foothold runs as `node model/generate.ts`. Prints each answer, and the largest difference between the two sides'
log-probabilities of its tokens. Exits with 1 if a token differs.

The tokenizer is loaded as PreTrainedTokenizerFast, which reads tokenizer.json as it stands (see smollm2_to_hf.py, note 5).
"""
import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path

import torch
import transformers
from transformers import AutoModelForCausalLM, PreTrainedTokenizerFast

ROOT = Path(__file__).resolve().parents[2]


def answers_of_transformers(folder, questions, max_new_tokens):
    """Token ids of each greedy answer, with its end token, and their log-probabilities."""
    tokenizer = PreTrainedTokenizerFast.from_pretrained(folder)
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    found = []
    for question in questions:
        messages = [{"role": "user", "content": question}]
        inputs = tokenizer.apply_chat_template(messages, add_generation_prompt=True, return_tensors="pt", return_dict=True)
        length = inputs["input_ids"].shape[1]
        ids = model.generate(**inputs, max_new_tokens=max_new_tokens, do_sample=False)[0]
        with torch.no_grad():
            log_probs = torch.log_softmax(model(ids[None]).logits[0].double(), dim=-1)
        picked = log_probs[length - 1 : -1].gather(1, ids[length:, None])[:, 0]
        found.append((ids[length:].tolist(), picked, tokenizer))
    return found


def answers_of_foothold(folder, questions, max_new_tokens, adapter):
    with tempfile.TemporaryDirectory() as place:
        path = Path(place) / "questions.jsonl"
        path.write_text("".join(json.dumps({"messages": [{"role": "user", "content": one}]}) + "\n" for one in questions))
        words = ["model/generate.ts", "--model", folder, "--jsonl", path, "--temperature", 0, "--max-new-tokens", max_new_tokens]
        words += ["--adapter", adapter, "--json"]
        done = subprocess.run(["node_modules/.bin/node", *map(str, words)], cwd=ROOT, capture_output=True, text=True)
    if done.returncode != 0:
        sys.exit(f"{' '.join(map(str, words))}: exit code {done.returncode}\n{done.stderr}")
    return json.loads(done.stdout)["completions"]


def main():
    command = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    command.add_argument("folder", type=Path)
    command.add_argument("questions", nargs="+", metavar="QUESTION")
    command.add_argument("--adapter", default="auto", help="what foothold computes on")
    command.add_argument("--max-new-tokens", type=int, default=16)
    options = command.parse_args()
    transformers.utils.logging.disable_progress_bar()
    folder = options.folder.resolve()
    ours = answers_of_foothold(folder, options.questions, options.max_new_tokens, options.adapter)
    theirs = answers_of_transformers(folder, options.questions, options.max_new_tokens)
    differing = 0
    for question, one, (ids, log_probs, tokenizer) in zip(options.questions, ours, theirs, strict=True):
        text = tokenizer.decode(ids, skip_special_tokens=True)
        if one["tokens"] == ids:
            off = (torch.tensor(one["logProbs"]) - log_probs).abs().max().item()
            print(f"{question!r} → {text!r}: the same {len(ids)} tokens, log-probabilities within {off:.1e}")
        else:
            differing += 1
            print(f"{question!r} → {text!r} in transformers, {one['text']!r} in foothold: {ids} and {one['tokens']}")
    print(f"torch {torch.__version__}, transformers {transformers.__version__}: {len(ours) - differing} of {len(ours)} answers alike")
    sys.exit(differing > 0)


if __name__ == "__main__":
    main()
