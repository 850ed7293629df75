#!/usr/bin/env python3
"""The work of bench/model/whole-model.ts in PyTorch on the processor, f32: load, prefill, decode, a training step with AdamW.

    pip install torch==2.15.0 transformers==5.24.0
    python3 test/tools/torch_whole_model.py DIR [--threads N] [--json FILE] [--beside FILE]

--beside FILE reads the results that whole-model.ts wrote with --json for the same model and prints both as one Markdown
table. The exit code is 1 if greedy tokens differ (except at a near tie) or losses differ. Inference and training run in
separate processes, so that each has its own peak of memory. Prompt, rows, steps and optimiser are those of whole-model.ts.
Each row of a batch has its own copy of the prompt's keys and values, as usual in PyTorch.
"""
import argparse
import json
import platform
import resource
import subprocess
import sys
import tempfile
import time
from datetime import date
from pathlib import Path

LEARNING_RATE, WEIGHT_DECAY, MAX_GRADIENT_NORM = 1e-5, 0.01, 1.0
LOSS_TOLERANCE = 1e-3  # relative
TIE = 1e-3  # the order of two logits closer than this may differ


def timed(body):
    start, processors = time.perf_counter(), time.process_time()
    result = body()
    return result, {"seconds": time.perf_counter() - start, "processorSeconds": time.process_time() - processors}


def median(runs):
    """The median run; of two, the faster."""
    return sorted(runs, key=lambda run: run["seconds"])[(len(runs) - 1) // 2]


def peak_bytes():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def load(options):
    import torch
    import transformers
    from transformers.models.qwen2 import modeling_qwen2  # noqa: F401, imported here so that it is not timed

    torch.set_num_threads(options.threads)
    transformers.utils.logging.disable_progress_bar()
    return timed(lambda: transformers.AutoModelForCausalLM.from_pretrained(options.model, dtype=torch.float32))


def prompt_of(options, model):
    import torch

    return torch.tensor([[(i * 7919 + 13) % model.config.vocab_size for i in range(options.tokens)]])


def measure_inference(options):
    import torch

    model, loaded = load(options)
    load_peak = peak_bytes()
    prompt = prompt_of(options, model)

    @torch.no_grad()
    def prefill():
        return model(prompt, use_cache=True, logits_to_keep=1)

    @torch.no_grad()
    def decode(rows, steps):
        """Seconds of `steps` decode steps, the generated tokens, and the smallest gap between the two best logits."""
        out = prefill()
        cache = out.cache
        cache.batch_repeat_interleave(rows)
        said, gaps = [], []

        def choose(logits):
            best = logits[0, -1].topk(2).values
            gaps.append((best[0] - best[1]).item())
            said.append(logits[:, -1].argmax(-1, keepdim=True))

        choose(out.logits.expand(rows, -1, -1))

        def go_on():
            for _ in range(steps):
                choose(model(said[-1], cache=cache, use_cache=True).logits)

        _, took = timed(go_on)
        return took, [tokens[0].item() for tokens in said], gaps

    prefills = [timed(prefill)[1] for _ in range(options.repeats + 1)]
    taken = median(prefills[1:])
    found = []
    for rows in options.rows:
        decode(rows, 1)
        took, said, gaps = decode(rows, options.new_tokens)
        found.append({"rows": rows, **{key: value / options.new_tokens for key, value in took.items()},
                      "tokensPerSecond": rows * options.new_tokens / took["seconds"]})
    return {"load": loaded, "loadPeakBytes": load_peak, "peakBytes": peak_bytes(),
            "prefill": {**taken, "tokensPerSecond": options.tokens / taken["seconds"]},
            "decode": found, "greedy": said, "gaps": gaps}


def measure_training(options):
    import torch

    model, loaded = load(options)
    model.train()
    ids = prompt_of(options, model)
    optimiser = torch.optim.AdamW(model.parameters(), lr=LEARNING_RATE, weight_decay=WEIGHT_DECAY)

    def step():
        optimiser.zero_grad(set_to_none=True)
        loss = model(ids, labels=ids).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), MAX_GRADIENT_NORM)
        optimiser.step()
        return loss.item()

    steps = [timed(step) for _ in range(options.repeats + 1)]
    taken = median([took for _, took in steps[1:]])
    return {"load": loaded, "peakBytes": peak_bytes(), "step": {**taken, "tokensPerSecond": options.tokens / taken["seconds"]},
            "losses": [loss for loss, _ in steps]}


PARTS = {"inference": measure_inference, "training": measure_training}


def elsewhere(part):
    """Runs one part in a separate process."""
    with tempfile.NamedTemporaryFile(suffix=".json") as file:
        subprocess.run([sys.executable, __file__, *sys.argv[1:], "--part", part, "--json", file.name], check=True)
        return json.loads(Path(file.name).read_text())


def compare(ours, theirs):
    """The differences in value, as sentences."""
    faults = []
    if ours["inference"] and theirs["inference"]:
        a, b, gaps = ours["inference"]["greedy"], theirs["inference"]["greedy"], theirs["inference"]["gaps"]
        first = next((i for i, (x, y) in enumerate(zip(a, b)) if x != y), None)
        if first is not None and gaps[first] > TIE:
            faults.append(f"greedy token {first}: {a[first]} here, {b[first]} in PyTorch, whose best logits are {gaps[first]:.2g} apart")
    if ours["training"] and theirs["training"]:
        for i, (x, y) in enumerate(zip(ours["training"]["losses"], theirs["training"]["losses"])):
            if not abs(x - y) <= LOSS_TOLERANCE * abs(y):
                faults.append(f"loss of step {i + 1}: {x} here, {y} in PyTorch")
    return faults


def table(ours, theirs):
    shares = ours["shares"] or {"prefill": "", "decode": [""] * len(ours["inference"]["decode"] if ours["inference"] else []), "step": ""}

    def seconds(one):
        return f"{one['seconds']:.3g} s"

    def rate(one):
        return f"{one['tokensPerSecond']:{',.0f' if one['tokensPerSecond'] >= 100 else '.3g'}} tokens/s"

    def gib(count):
        return f"{count / 2**30:.2f} GiB"

    lines = []

    def line(name, a, b, show, share=""):
        lines.append(f"| {name} | {show(a)} | {share} | {show(b)} |")

    if (a := ours["inference"]) and (b := theirs["inference"]):
        line("load", a["load"], b["load"], seconds)
        line("peak memory after loading", a["loadPeakBytes"], b["loadPeakBytes"], gib)
        line(f"prefill, {ours['tokens']} tokens", a["prefill"], b["prefill"], rate, shares["prefill"])
        for x, y, share in zip(a["decode"], b["decode"], shares["decode"]):
            line(f"decode, batch {x['rows']}", x, y, rate, share)
        line("peak memory of inference", a["peakBytes"], b["peakBytes"], gib)
    if (a := ours["training"]) and (b := theirs["training"]):
        line(f"training step, 1 × {ours['tokens']} tokens", a["step"], b["step"], seconds, shares["step"])
        line("peak memory of training", a["peakBytes"], b["peakBytes"], gib)
    return lines


def main():
    command = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    command.add_argument("model", type=Path, help="a model folder in Hugging Face's layout")
    command.add_argument("--threads", type=int, default=2, help="PyTorch's threads: no more than there are idle processors")
    command.add_argument("--tokens", type=int, default=256, help="the prompt, and the sequence of a training step")
    command.add_argument("--new-tokens", type=int, default=16, help="decode steps that are timed")
    command.add_argument("--rows", type=int, nargs="+", default=[1, 16, 64], help="batches that are decoded")
    command.add_argument("--repeats", type=int, default=2, help="timed runs of prefill and training, after one untimed run")
    command.add_argument("--part", choices=["all", *PARTS], default="all", help="what is measured")
    command.add_argument("--json", type=Path, help="also write the results to this file")
    command.add_argument("--beside", type=Path, help="results of bench/model/whole-model.ts to compare with")
    options = command.parse_args()
    if options.part != "all":
        found = PARTS[options.part](options)
        if options.json:
            options.json.write_text(json.dumps(found))
        return
    import torch
    import transformers

    ours = json.loads(options.beside.read_text()) if options.beside else None
    results = {
        "command": " ".join(["python3 test/tools/torch_whole_model.py", *sys.argv[1:]]), "date": str(date.today()),
        "versions": {"python": platform.python_version(), "torch": torch.__version__, "transformers": transformers.__version__},
        "threads": options.threads, "tokens": options.tokens, "newTokens": options.new_tokens,
        **{part: elsewhere(part) if ours is None or ours[part] else None for part in PARTS},
    }
    if options.json:
        options.json.write_text(json.dumps(results, indent=2) + "\n")
    if ours is None:
        print(json.dumps(results, indent=2))
        return
    print("| | foothold | share | PyTorch |\n|---|---:|---:|---:|", *table(ours, results), sep="\n")
    faults = compare(ours, results)
    print("; ".join(faults) or "the same greedy tokens and losses")
    sys.exit(bool(faults))


if __name__ == "__main__":
    main()
