#!/usr/bin/env python3
"""The cases of bench/card.ts in PyTorch: matrix products without TF32, SDPA, a compiled head, fused AdamW; decoding and
training of a random model in transformers. bench/card/peers.ts starts it.

Standard input: {"cases": [{"name", "work"}], "limitSeconds", "onProcessor"}.
Standard output: a JSON object per line: {"torch"} or {"absent"} first, then {"name", "milliseconds"} or {"name",
"problem"} per case, and {"left"}, the number of cases that there was no time for. Cases are taken kind by kind, those
that start fast first.
"""
import json
import statistics
import sys
import time

SAMPLES = 7
SAMPLE_SECONDS = 0.01
TEMPERATURE = 0.8


def say(**answer):
    print(json.dumps(answer), flush=True)


class Card:
    def __init__(self, torch, on_processor, case_seconds):
        self.torch, self.case_seconds = torch, case_seconds
        if torch.cuda.is_available():
            self.device, self.name = "cuda", torch.cuda.get_device_name()
        elif getattr(torch.backends, "mps", None) is not None and torch.backends.mps.is_available():
            self.device, self.name = "mps", "Metal"
        elif on_processor:
            self.device, self.name = "cpu", f"the processor, {torch.get_num_threads()} threads"
        else:
            self.device, self.name = None, ""

    def wait(self):
        if self.device == "cuda":
            self.torch.cuda.synchronize()
        elif self.device == "mps":
            self.torch.mps.synchronize()

    def queue(self, run, count):
        """Milliseconds of `count` runs, by the device's own clock where it has one."""
        if self.device == "cuda":
            begin, end = (self.torch.cuda.Event(enable_timing=True) for _ in range(2))
            begin.record()
            for _ in range(count):
                run()
            end.record()
            self.torch.cuda.synchronize()
            return begin.elapsed_time(end)
        self.wait()
        start = time.perf_counter()
        for _ in range(count):
            run()
        self.wait()
        return 1000 * (time.perf_counter() - start)

    def time(self, run):
        """The median over samples of the time of one run, ms."""
        for _ in range(3):
            run()
        self.wait()
        once = max(1e-3, self.queue(run, 3) / 3)
        count = max(1, min(2000, int(1000 * SAMPLE_SECONDS / once)))
        found, begun = [], time.monotonic()
        while len(found) < SAMPLES and (len(found) < 2 or time.monotonic() - begun < self.case_seconds):
            found.append(self.queue(run, count))
        return statistics.median(found) / count

    def numbers(self, *shape, dtype=None, scale=1.0):
        made = (2 * self.torch.rand(*shape, device=self.device) - 1) * scale
        return made if dtype is None else made.to(dtype)


def product(card, work):
    torch = card.torch
    dtype = torch.float16 if work["precision"] == "f16" else torch.float32
    T, C, O = work["T"], work["C"], work["O"]
    x, weight, dy = (card.numbers(*shape, dtype=dtype) for shape in ((T, C), (O, C), (T, O)))
    run = {"forward": lambda: x @ weight.T, "input": lambda: dy @ weight, "weight": lambda: dy.T @ x}[work["pass"]]
    return card.time(run)


def attention(card, work):
    torch = card.torch
    rows, T, S, H, K, D = (work[key] for key in ("rows", "T", "S", "H", "K", "D"))
    q = card.numbers(rows, H, T, D).requires_grad_(work["pass"] == "backward")
    k, v = (card.numbers(rows, K, S, D).requires_grad_(work["pass"] == "backward") for _ in range(2))

    def forward():
        return torch.nn.functional.scaled_dot_product_attention(q, k, v, is_causal=T == S and T > 1, enable_gqa=H != K)

    if work["pass"] == "forward":
        return card.time(forward)
    y, dy = forward(), card.numbers(rows, H, T, D)
    return card.time(lambda: torch.autograd.grad(y, (q, k, v), dy, retain_graph=True))


def head(card, work):
    torch = card.torch
    T, C, V = work["T"], work["C"], work["V"]

    def make():
        return card.numbers(T, C), card.numbers(V, C, scale=3 * C**-0.5)

    targets = torch.randint(V, (T, 1), device=card.device)

    def log_probs(hidden, weight):
        return torch.log_softmax(hidden @ weight.T / TEMPERATURE, -1).gather(1, targets)[:, 0]

    def divergence(hidden_p, weight_p, hidden_q, weight_q):
        p, q = (torch.log_softmax(h @ w.T / TEMPERATURE, -1) for h, w in ((hidden_p, weight_p), (hidden_q, weight_q)))
        return (p.exp() * (p - q)).sum(-1)

    hidden, weight = make()
    if work["pass"] == "KL":
        others, compiled = make(), torch.compile(divergence)
        with torch.no_grad():
            return card.time(lambda: compiled(hidden, weight, *others))
    compiled = torch.compile(log_probs)
    if work["pass"] == "forward":
        with torch.no_grad():
            return card.time(lambda: compiled(hidden, weight))
    hidden.requires_grad_(), weight.requires_grad_()
    upstream = card.numbers(T)
    y = compiled(hidden, weight)
    return card.time(lambda: torch.autograd.grad(y, (hidden, weight), upstream, retain_graph=True))


def adamw(card, work):
    torch = card.torch
    parameters = [torch.nn.Parameter(card.numbers(*shape)) for shape in work["shapes"]]
    for one in parameters:
        one.grad = card.numbers(*one.shape, scale=0.1)
    optimiser = torch.optim.AdamW(parameters, lr=1e-3, weight_decay=0.01, fused=card.device != "mps")

    def step():
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        optimiser.step()

    return card.time(step)


def make_model(card, work):
    import transformers

    card.torch.manual_seed(0)
    with card.torch.device(card.device):
        return transformers.Qwen2ForCausalLM(transformers.Qwen2Config(**work["model"]))


def prompt_of(card, tokens, vocabulary, sequences=1):
    rows = [[((i + 131 * row) * 7919 + 13) % vocabulary for i in range(tokens)] for row in range(sequences)]
    return card.torch.tensor(rows, device=card.device)


def decode(card, work):
    torch = card.torch
    model = make_model(card, work).eval()
    if work["precision"] == "mixed":
        model = model.half()
    prompt = prompt_of(card, work["promptTokens"], work["model"]["vocab_size"])

    @torch.no_grad()
    def continue_rows(steps):
        out = model(prompt, use_cache=True, logits_to_keep=1)
        name = "cache" if getattr(out, "cache", None) is not None else "past_key_values"
        cache = getattr(out, name)
        cache.batch_repeat_interleave(work["rows"])
        ids = out.logits[:, -1].argmax(-1, keepdim=True).expand(work["rows"], 1)
        card.wait()
        start = time.perf_counter()
        for _ in range(steps):
            ids = model(ids, use_cache=True, **{name: cache}).logits[:, -1].argmax(-1, keepdim=True)
            ids[0].item()  # A sampled token is read, as here.
        card.wait()
        return 1000 * (time.perf_counter() - start) / steps

    continue_rows(2)
    return statistics.median(continue_rows(work["newTokens"]) for _ in range(2))


def training(card, work):
    torch = card.torch
    model = make_model(card, work).train()
    ids = prompt_of(card, work["tokens"], work["model"]["vocab_size"], work["sequences"])
    optimiser = torch.optim.AdamW(model.parameters(), lr=1e-4, weight_decay=0.01, fused=card.device != "mps")
    is_mixed = work["precision"] == "mixed"
    scaler = torch.amp.GradScaler(card.device, enabled=is_mixed and card.device == "cuda")
    times = []
    for _ in range(5):
        card.wait()
        start = time.perf_counter()
        optimiser.zero_grad(set_to_none=True)
        with torch.autocast(card.device, torch.float16, enabled=is_mixed):
            loss = model(ids, labels=ids).loss
        scaler.scale(loss).backward()
        scaler.unscale_(optimiser)
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        scaler.step(optimiser)
        scaler.update()
        loss.item()
        card.wait()
        times.append(1000 * (time.perf_counter() - start))
        if times[-1] > 5000 and len(times) > 1:
            break
    return statistics.median(times[1:])


KINDS = {"product": product, "attention": attention, "adamw": adamw, "decode": decode, "training": training, "head": head}


def main():
    begun = time.monotonic()
    given = json.load(sys.stdin)
    try:
        import torch
    except ImportError as error:
        say(absent=f"this Python has no PyTorch ({error})")
        return
    card = Card(torch, given["onProcessor"], given["limitSeconds"] / 40)
    if card.device is None:
        say(absent=f"PyTorch {torch.__version__} finds no GPU")
        return
    torch.backends.cuda.matmul.allow_tf32 = False
    torch.backends.cudnn.allow_tf32 = False
    torch.set_float32_matmul_precision("highest")
    try:
        import transformers

        transformers.utils.logging.set_verbosity_error()
        say(torch=f"PyTorch {torch.__version__}, transformers {transformers.__version__}, {card.name}")
        missing = None
    except ImportError as error:
        say(torch=f"PyTorch {torch.__version__}, without transformers, {card.name}")
        missing = f"this Python has no transformers ({error})"
    kinds = list(KINDS)
    cases = sorted(given["cases"], key=lambda case: kinds.index(case["work"]["kind"]))
    for i, case in enumerate(cases):
        if time.monotonic() - begun > given["limitSeconds"]:
            say(left=len(cases) - i)
            return
        kind = case["work"]["kind"]
        if missing is not None and kind in ("decode", "training"):
            say(name=case["name"], problem=missing)
            continue
        try:
            say(name=case["name"], milliseconds=KINDS[kind](card, case["work"]))
        except Exception as error:  # One case that fails does not end the others.
            lines = str(error).strip().splitlines() or [""]
            say(name=case["name"], problem=f"{type(error).__name__}: {lines[0]}")
        if card.device == "cuda":
            torch.cuda.empty_cache()


if __name__ == "__main__":
    main()
