#!/usr/bin/env python3
"""Coins of rl/random-rewards.ts, by Philox 4x32-10 in plain integers. No arguments; prints random-rewards.json.

python3 test/rl/known/random_rewards.py > test/rl/known/random-rewards.json
"""
import hashlib
import json
import struct


def words(text):
    return struct.unpack("<II", hashlib.sha256(text.encode()).digest()[:8])


def philox(counter, key):
    c, k = list(counter), list(key)
    for _ in range(10):
        low, high = 0xD2511F53 * c[0], 0xCD9E8D57 * c[2]
        c = [(high >> 32) ^ c[1] ^ k[0], high & 0xFFFFFFFF, (low >> 32) ^ c[3] ^ k[1], low & 0xFFFFFFFF]
        k = [(k[0] + 0x9E3779B9) & 0xFFFFFFFF, (k[1] + 0xBB67AE85) & 0xFFFFFFFF]
    return c


# Random123's known answer for zeros.
assert philox([0] * 4, [0] * 2)[0] == 0x6627E8D5


def coins(seed, step, prompt, copy, member, probability, count=24):
    key = words(f"reward|{seed}|{step}")
    drawn = (philox([member, r + 65536 * copy, words(prompt)[0], 0], key)[0] for r in range(count))
    return [int((word + 0.5) * 2**-32 < probability) for word in drawn]


cases = [
    dict(seed=100, step=3, prompt="prompt 0", copy=0, member=0, probability=0.5),
    dict(seed=100, step=3, prompt="prompt 0", copy=2, member=0, probability=0.5),
    dict(seed=100, step=3, prompt="prompt 0", copy=0, member=5, probability=0.5),
    dict(seed=100, step=4, prompt="prompt 1", copy=0, member=0, probability=0.7),
    dict(seed=7, step=1, prompt="Sort Zoë's names.", copy=0, member=1, probability=0.3),
]
print(json.dumps([{**case, "coins": coins(**case)} for case in cases]))
