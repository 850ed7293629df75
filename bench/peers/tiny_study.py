"""The tiny study's two phases in PyTorch and transformers, beside a run folder of foothold's tiny study.

    npx node landscape/run.ts tiny --out RUN --landscape.steps 20
    python3 bench/peers/tiny_study.py RUN

It reads the settings of the run, its first checkpoint and the prompts of its training conversations. Then it trains by GRPO
(two-turn rollouts with a key-value cache, one scoring pass with gradients, AdamW) for as many steps as the run, and measures
a grid around a checkpoint of the run: per point new weights (Gaussian directions at each tensor's norm), two-turn rollouts
with the same Gumbel noise at every point, and the exact KL and the surrogate J of the reference completions. Batches hold
as much as the run's (the embedded preset's 512 rows and 8192 tokens). It prints its times beside those in the run's timings.jsonl. Random numbers are PyTorch's,
so rewards agree in size and not in digits.
"""
import argparse
import difflib
import glob
import gzip
import json
import os
import re
import time
import tomllib

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

TAGS = ("alphabetical_sorted", "combined_alphabetical_sorted")


def split_name(name):
    cut = next((i for i, c in enumerate(name) if i and c.isupper()), len(name))
    return name[:cut], name[cut:]


class Episode:
    """The user's turns of a conversation, and the right lines of each answer."""

    def __init__(self, messages):
        self.users = [m["content"] for m in messages if m["role"] == "user"]
        named = [re.search(r"name: (.*)\n", text)[1].split(", ") for text in self.users]
        by_first = "FIRST name" in self.users[0]
        key = lambda name: split_name(name)[0 if by_first else 1]
        both = sorted(named[0] + named[1], key=key)
        self.truths = [sorted(named[0], key=key), [n + " // new name!" if n in named[1] else n for n in both]]

    def reward(self, answers):
        return sum(map(score_turn, answers, TAGS, self.truths)) / 2


def score_turn(answer, tag, truth):
    attempts = re.findall(f"<{tag}>(.*?)</{tag}>", answer, re.DOTALL)
    lower = lambda lines: "\n".join(line.strip().lower() for line in lines if line.strip())
    scores = [difflib.SequenceMatcher(None, lower(a.split("\n")), lower(truth)).ratio() ** 4 for a in attempts]
    improves = all(b > a for a, b in zip(scores, scores[1:]))
    return scores[-1] if scores and improves else 0.0


def padded(rows, value, left):
    width = max(map(len, rows))
    fill = [[value] * (width - len(r)) for r in rows]
    ids = torch.tensor([f + r if left else r + f for f, r in zip(fill, rows)])
    ones = [[1] * len(r) for r in rows]
    zeros = [[0] * len(f) for f in fill]
    return ids, torch.tensor([z + o if left else o + z for z, o in zip(zeros, ones)])


class Policy:
    def __init__(self, folder, max_new_tokens, rows):
        self.tokenizer = AutoTokenizer.from_pretrained(folder)
        self.model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
        self.end = self.tokenizer.eos_token_id
        self.max_new_tokens, self.rows = max_new_tokens, rows

    @torch.no_grad()
    def answer(self, prompts, noise):
        """Samples an answer to each row of token ids: argmax of logits plus Gumbel noise [rows, positions, vocabulary]."""
        ids, mask = padded(prompts, self.end, left=True)
        answers, alive, cache = [[] for _ in prompts], torch.ones(len(prompts), dtype=torch.bool), None
        positions = (mask.cumsum(1) - 1).clamp(min=0)
        for t in range(self.max_new_tokens):
            out = self.model(ids, attention_mask=mask, position_ids=positions, past_key_values=cache, use_cache=True, logits_to_keep=1)
            cache = out.past_key_values
            token = (out.logits[:, -1] + noise[:, t]).argmax(-1)
            for row, id in enumerate(token.tolist()):
                if alive[row]:
                    answers[row].append(id)
            alive &= token != self.end
            if not alive.any():
                break
            ids, positions = token[:, None], positions[:, -1:] + 1
            mask = torch.cat([mask, torch.ones_like(ids)], 1)
        return answers

    def converse(self, episodes, noise):
        """Two turns with each episode. @returns conversations as (token ids, 1 where the assistant wrote), and rewards"""
        done, rewards = [], []
        for begin in range(0, len(episodes), self.rows):
            part, draws = episodes[begin : begin + self.rows], noise[:, begin : begin + self.rows]
            render = lambda text, first: self.tokenizer.encode(
                ("" if first else "\n") + f"<|im_start|>user\n{text}<|im_end|>\n<|im_start|>assistant\n", add_special_tokens=False
            )
            ids, own, texts = [[] for _ in part], [[] for _ in part], [[] for _ in part]
            for turn in (0, 1):
                for row, episode in enumerate(part):
                    prompt = render(episode.users[turn], turn == 0)
                    ids[row] += prompt
                    own[row] += [0] * len(prompt)
                for row, answer in enumerate(self.answer(ids, draws[turn])):
                    texts[row].append(self.tokenizer.decode([id for id in answer if id != self.end]))
                    ids[row] += answer
                    own[row] += [1] * len(answer)
            done += zip(ids, own)
            rewards += [episode.reward(answers) for episode, answers in zip(part, texts)]
        return done, torch.tensor(rewards)

    def log_probabilities(self, conversations):
        """[tokens, vocabulary] before each of the assistant's tokens, and these tokens with their row."""
        ids, mask = padded([ids for ids, _ in conversations], self.end, left=False)
        own, _ = padded([own for _, own in conversations], 0, left=False)
        where = own[:, 1:].bool()
        logits = self.model(ids, attention_mask=mask).logits[:, :-1][where]
        return logits.log_softmax(-1), ids[:, 1:][where], where.nonzero()[:, 0]


def gumbel(shape, generator):
    return -torch.empty(shape).exponential_(generator=generator).log()


def chosen(log_p, tokens):
    return log_p.gather(1, tokens[:, None])[:, 0]


def cut(conversations, most_tokens):
    """Micro-batches of at most this many tokens, padding counted."""
    part, width = [], 0
    for one in conversations:
        wider = max(width, len(one[0]))
        if part and wider * (len(part) + 1) > most_tokens:
            yield part
            part, wider = [], len(one[0])
        part.append(one)
        width = wider
    yield part


def surrogate(log_p, old, advantage):
    ratio = (log_p - old).exp()
    return torch.minimum(ratio * advantage, ratio.clamp(0.8, 1.2) * advantage)


def advantages(rewards, group):
    grouped = rewards.view(-1, group)
    return ((grouped - grouped.mean(1, keepdim=True)) / (grouped.std(1, keepdim=True, correction=0) + 1e-8)).view(-1)


def train(run, settings, episodes_of, generator):
    t = settings["train"]
    policy = Policy(os.path.join(run, "checkpoints", "step-000000"), t["maxNewTokens"], settings["batch"].get("rows", 512))
    optimiser = torch.optim.AdamW(policy.model.parameters(), lr=t["learningRate"], weight_decay=0.01)
    group, rewards, seconds = t["rolloutsPerPrompt"], [], 0.0
    vocabulary = policy.model.config.vocab_size
    for step in range(1, t["steps"] + 1):
        noise = gumbel((2, t["promptsPerStep"] * group, t["maxNewTokens"], vocabulary), generator)
        began = time.perf_counter()
        episodes = [episode for episode in episodes_of(step) for _ in range(group)]
        conversations, reward = policy.converse(episodes, noise)
        advantage = advantages(reward, group)
        total = sum(sum(own) for _, own in conversations)
        begin = 0
        for part in cut(conversations, settings["batch"]["trainTokens"]):
            log_p, tokens, row = policy.log_probabilities(part)
            taken = chosen(log_p, tokens)
            (-surrogate(taken, taken.detach(), advantage[begin:][row]).sum() / total).backward()
            begin += len(part)
        torch.nn.utils.clip_grad_norm_(policy.model.parameters(), 1.0)
        optimiser.step()
        optimiser.zero_grad()
        seconds += time.perf_counter() - began
        rewards.append(reward.mean().item())
    return seconds, rewards


@torch.no_grad()
def sweep(run, settings, episodes, step, generator):
    l = settings["landscape"]
    policy = Policy(os.path.join(run, "checkpoints", f"step-{step:06d}"), l["maxNewTokens"], settings["batch"].get("rows", 512))
    vocabulary, group = policy.model.config.vocab_size, l["reference"]["rollouts"]
    made = lambda prompts, rollouts: [e for e in episodes[:prompts] for _ in range(rollouts)]
    reference = made(l["reference"]["prompts"], group)
    rolled = made(l["rollouts"]["prompts"], l["rollouts"]["rollouts"])
    noise = [gumbel((2, len(which), l["maxNewTokens"], vocabulary), generator) for which in (reference, rolled)]
    began = time.perf_counter()
    conversations, reward = policy.converse(reference, noise[0])
    parts = list(cut(conversations, settings["batch"].get("tokens", 8192)))
    base = [policy.log_probabilities(part)[0] for part in parts]
    advantage = advantages(reward, group)
    tensors = list(policy.model.parameters())
    stored = [p.clone() for p in tensors]
    random = [[torch.randn(p.shape, generator=generator) for p in stored] for _ in range(2)]
    directions = [[g * (p.norm() / g.norm()) for g, p in zip(gs, stored)] for gs in random]
    half, cells = (l["points"] - 1) // 2, []
    for i in range(-half, half + 1):
        for j in range(-half, half + 1):
            alpha, beta = (l["radius"] * k / half for k in (i, j))
            for p, theta, d, e in zip(tensors, stored, *directions):
                torch.add(theta, d, alpha=alpha, out=p.data)
                p.data.add_(e, alpha=beta)
            _, r = policy.converse(rolled, noise[1])
            kl, tokens, j_sum, begin = 0.0, 0, 0.0, 0
            for part, old in zip(parts, base):
                log_q, ids, row = policy.log_probabilities(part)
                d = log_q - old
                kl += (old.exp() * (d.expm1() - d)).sum().item()
                j_sum += surrogate(chosen(log_q, ids), chosen(old, ids), advantage[begin:][row]).sum().item()
                tokens += len(ids)
                begin += len(part)
            cells.append((i, j, r.mean().item(), kl / tokens, j_sum / tokens))
    return time.perf_counter() - began, cells


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", help="run folder of foothold's tiny study")
    parser.add_argument("--step", type=int, default=20, help="checkpoint to measure around")
    parser.add_argument("--part", choices=("both", "training", "landscape"), default="both")
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    settings = tomllib.load(open(os.path.join(given.run, "config.toml"), "rb"))
    told = {}
    for name in sorted(glob.glob(os.path.join(given.run, "rollouts", "*.jsonl.gz"))):
        for line in gzip.open(name, "rt", encoding="utf-8"):
            messages = json.loads(line)["messages"]
            told.setdefault(messages[0]["content"], messages)
    episodes = [Episode(messages) for messages in told.values() if len(messages) == 4]
    timings = [json.loads(line) for line in open(os.path.join(given.run, "timings.jsonl"))]
    generator = torch.Generator().manual_seed(1)
    print(f"PyTorch {torch.__version__}, {given.threads} threads; {len(episodes)} prompts")

    def tell(part, seconds, ours):
        print(f"{part}: PyTorch {seconds:.1f} s, foothold {ours:.1f} s, ratio {ours / seconds:.2f}")

    if given.part != "landscape":
        count = settings["train"]["promptsPerStep"]
        of = lambda step: [episodes[(step * count + k) % len(episodes)] for k in range(count)]
        seconds, rewards = train(given.run, settings, of, generator)
        phases = ("rollouts", "learning")
        ours = sum(t["seconds"] for t in timings if t.get("phase") in phases and t["step"] > 0 and "drafted" not in t)
        tell(f"{len(rewards)} GRPO steps", seconds, ours)
        print(f"  reward of the first and last three steps: {rewards[:3]} {rewards[-3:]}")
    if given.part != "training":
        seconds, cells = sweep(given.run, settings, episodes, given.step, generator)
        tell(f"{len(cells)} grid points around step {given.step}", seconds, next(t["seconds"] for t in timings if t.get("part") == f"landscape {given.step}"))
        half = max(i for i, *_ in cells)
        for name, far in (("centre", [0]), ("mid-edges", [half]), ("corners", [2 * half])):
            ring = [c for c in cells if abs(c[0]) + abs(c[1]) in far and (name != "mid-edges" or 0 in c[:2])]
            reward, kl = (sum(c[k] for c in ring) / len(ring) for k in (2, 3))
            print(f"  {name}: reward {reward:.3f}, KL {kl:.4f} nats a token")


main()
