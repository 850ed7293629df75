#!/usr/bin/env python3
"""Exports models from foothold to transformers and back, and compares everything that should be equal.

    pip install torch==2.15.0 transformers==5.24.0 safetensors==0.8.0
    python3 test/tools/transformers_round_trip.py [--model DIR …] [--adapter lavapipe] [--json FILE]

Sources are the checkpoints of test/fixtures and the folders given. For each, in f32, bf16, f16 and in f32 shards:
1. `node model/export.ts` writes it.
2. transformers loads it by AutoModelForCausalLM and AutoTokenizer without a warning, nothing missing, surplus or misshaped, in
   the dtype that config.json names.
3. Every weight equals the source's, cast to the dtype by PyTorch, bit for bit; the tokenizer's files are the source's.
4. Log-probabilities and entropies of `node model/score.ts` agree with those of transformers, both in f32 from the same weights.
5. transformers saves the model again (in one file, or in shards for the sharded one); foothold scores that to the same bits.
Exits with 1 on any difference, or if a log-probability is off by more than --tolerance.
"""
import argparse
import json
import logging
import platform
import random
import subprocess
import sys
import tempfile
import warnings
from datetime import date
from pathlib import Path

import safetensors
import safetensors.torch
import torch
import transformers
from transformers import AutoModelForCausalLM, AutoTokenizer

ROOT = Path(__file__).resolve().parents[2]
DTYPES = {"f32": torch.float32, "bf16": torch.bfloat16, "f16": torch.float16}
TEXTS = ["Once upon a time, 1234 times.", "Zürich, naïve façade; 日本語 и русский", "👩‍🚀 says: \t\n  hi", "<|im_start|>user\nHello<|im_end|>\n"]


def node(*words):
    """The standard output of one of foothold's commands."""
    done = subprocess.run(["node_modules/.bin/node", *map(str, words)], cwd=ROOT, capture_output=True, text=True)
    if done.returncode != 0:
        sys.exit(f"{' '.join(map(str, words))}: exit code {done.returncode}\n{done.stderr}")
    return done.stdout


class Warnings(logging.Handler):
    """Collects all warnings of transformers and of Python."""

    def __init__(self):
        super().__init__(logging.WARNING)
        self.messages = []

    def emit(self, record):
        self.messages.append(record.getMessage())

    def __enter__(self):
        self.python = warnings.catch_warnings(record=True)
        self.caught = self.python.__enter__()
        warnings.simplefilter("always")
        logging.getLogger("transformers").addHandler(self)
        return self

    def __exit__(self, *error):
        logging.getLogger("transformers").removeHandler(self)
        self.messages += [str(warning.message) for warning in self.caught]
        self.python.__exit__(*error)


def stored_weights(folder):
    """All tensors of a folder's weight files, under the names of the causal model."""
    found = {}
    for path in sorted(folder.glob("*.safetensors")):
        found |= safetensors.torch.load_file(path)
    return {name if name.startswith(("model.", "lm_head.")) else f"model.{name}": tensor for name, tensor in found.items()}


def equal_bits(a, b):
    bits = torch.int32 if a.dtype == torch.float32 else torch.int16
    return a.dtype == b.dtype and a.shape == b.shape and torch.equal(a.contiguous().view(bits), b.contiguous().view(bits))


def check_load(source, folder, dtype):
    """The model as transformers loads it, and the problems of loading it."""
    faults = []
    with Warnings() as warned:
        model, info = AutoModelForCausalLM.from_pretrained(folder, output_loading_info=True)
        has_tokenizer = (source / "tokenizer.json").exists()
        tokenizer = AutoTokenizer.from_pretrained(folder) if has_tokenizer else None
    faults += [f"warning: {message}" for message in warned.messages]
    faults += [f"{kind}: {sorted(map(str, names))}" for kind, names in info.items() if names]
    if model.dtype != DTYPES[dtype]:
        faults.append(f"loaded as {model.dtype}")
    loaded = model.state_dict()
    expected = stored_weights(source)
    if model.config.tie_word_embeddings:
        expected["lm_head.weight"] = expected["model.embed_tokens.weight"]
    if loaded.keys() != expected.keys():
        faults.append(f"names differ: {sorted(loaded.keys() ^ expected.keys())}")
    for name in loaded.keys() & expected.keys():
        if not equal_bits(loaded[name], expected[name].to(DTYPES[dtype])):
            faults.append(f"{name} differs")
    if tokenizer is not None:
        original = AutoTokenizer.from_pretrained(source)
        for text in TEXTS:
            if tokenizer.encode(text) != original.encode(text):
                faults.append(f"token ids of {text!r} differ")
        if tokenizer.chat_template != original.chat_template:
            faults.append("the chat template differs")
    for path in source.iterdir():
        if path.name.startswith(("tokenizer", "chat_template", "special_tokens", "added_tokens", "vocab", "merges", "generation_config")):
            if path.read_bytes() != (folder / path.name).read_bytes():
                faults.append(f"{path.name} differs")
    return model, faults


def scores_of_transformers(model, sequences):
    model = model.to(torch.float32).eval()
    found = []
    with torch.no_grad():
        for ids in sequences:
            log_probs = torch.log_softmax(model(torch.tensor([ids])).logits[0], dim=-1)
            picked = log_probs[:-1].gather(1, torch.tensor(ids[1:])[:, None])[:, 0]
            found.append((picked, -(log_probs.exp() * log_probs).sum(-1)))
    return found


def scores_of_foothold(folder, tokens, adapter):
    return json.loads(node("model/score.ts", "--model", folder, "--tokens", tokens, "--adapter", adapter, "--json"))["sequences"]


def worst(found, expected):
    """Largest differences of log-probabilities and entropies."""
    log_probs = [(torch.tensor(f["logProbs"]) - e[0]).abs().max().item() for f, e in zip(found, expected) if len(e[0]) > 0]
    entropies = [(torch.tensor(f["entropy"]) - e[1]).abs().max().item() for f, e in zip(found, expected)]
    return max(log_probs), max(entropies)


def trip(source, dtype, shard_bytes, place, options):
    """One source in one form. Returns a row of the table."""
    folder = place / "exported"
    words = [] if shard_bytes is None else ["--shard-size", f"{shard_bytes}B"]
    node("model/export.ts", "--model", source, "--out", folder, "--dtype", dtype, *words)
    model, faults = check_load(source, folder, dtype)

    numbers = random.Random(1)
    vocabulary = model.config.vocab_size
    sequences = [[numbers.randrange(vocabulary) for _ in range(length)] for length in (1, 7, 64, 150)]
    tokens = place / "tokens.json"
    tokens.write_text(json.dumps(sequences))
    found = scores_of_foothold(folder, tokens, options.adapter)
    again = place / "again"
    model.save_pretrained(again, **({} if shard_bytes is None else {"max_shard_size": shard_bytes}))
    files = sorted(path.name for path in folder.glob("model*"))
    if files != (saved := sorted(path.name for path in again.glob("model*"))):
        faults.append(f"transformers saves {saved} where foothold wrote {files}")
    if scores_of_foothold(again, tokens, options.adapter) != found:
        faults.append("what transformers saved again is scored otherwise")
    log_probs, entropies = worst(found, scores_of_transformers(model, sequences))
    if not max(log_probs, entropies) <= options.tolerance:
        faults.append(f"scores differ by more than {options.tolerance}")
    return {
        "source": source.name,
        "dtype": dtype,
        "files": len(list(folder.glob("*.safetensors"))),
        "weights": len(stored_weights(source)),
        "logProbs": log_probs,
        "entropy": entropies,
        "faults": faults,
    }


def main():
    command = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    command.add_argument("--model", type=Path, action="append", default=[], help="a model folder beside the fixtures; may stand several times")
    command.add_argument("--no-fixtures", action="store_true", help="only the folders given")
    command.add_argument("--adapter", default="auto", help="what foothold computes on")
    command.add_argument("--tolerance", type=float, default=1e-3, help="largest difference of a log-probability or entropy, nats")
    command.add_argument("--json", type=Path, help="also write the results to this file")
    options = command.parse_args()
    transformers.utils.logging.disable_progress_bar()
    fixtures = [] if options.no_fixtures else sorted(path.parent for path in (ROOT / "test/fixtures").glob("*/config.json"))
    rows = []
    for source in [*fixtures, *(model.resolve() for model in options.model)]:
        size = sum(tensor.numel() * 4 for tensor in stored_weights(source).values())
        for dtype, shard_bytes in [("f32", None), ("bf16", None), ("f16", None), ("f32", -(-size // 3))]:
            with tempfile.TemporaryDirectory() as place:
                row = trip(source, dtype, shard_bytes, Path(place), options)
            rows.append(row)
            print(f"{row['source']:24} {dtype:5} {row['files']} files  log-probabilities {row['logProbs']:.1e}  entropies {row['entropy']:.1e}  "
                  f"{'; '.join(row['faults']) or 'equal'}", flush=True)
    versions = {"python": platform.python_version(), **{package.__name__: package.__version__ for package in (torch, transformers, safetensors)}}
    print(", ".join(f"{name} {version}" for name, version in versions.items()), date.today())
    if options.json:
        command_line = " ".join(["python3 test/tools/transformers_round_trip.py", *sys.argv[1:]])
        options.json.write_text(json.dumps({"command": command_line, "date": str(date.today()), "versions": versions, "rows": rows}, indent=2) + "\n")
    sys.exit(any(row["faults"] for row in rows))


if __name__ == "__main__":
    main()
