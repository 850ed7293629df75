"""Known answers of CPython's random, difflib and str: writes python.json beside this file. Run: python3 python.py"""
import difflib
import json
import pathlib
import platform
import random
import sys
import unicodedata

SEEDS = (0, 1, -7, 2001, 12345, 1337420, 2**31, 2**32 - 1, 2**32, 2**53 - 1, 2**64 - 1, 3**60, -(2**700) + 1)


def calls():
    """One fixed order of calls, past two refills of the generator's 624 words."""
    for i in range(60):
        yield "getrandbits", 1 + i % 32
        yield "getrandbits", 33 + i % 21
        yield "random",
        for first, last in ((0, i), (2, 2), (1, 5), (-3, 2**31 + i), (0, 2**53 - 2), (i, i + 2**(i % 50))):
            yield "randint", first, last
    yield "getrandbits", 0


def stream(seed):
    """What the calls give after the seed (one text, to keep the file short), then shuffles, then choices."""
    rng = random.Random(seed)
    results = " ".join(repr(getattr(rng, name)(*args)) for name, *args in calls())
    shuffles = []
    for length in (0, 1, 2, 3, 7, 40):
        items = list(range(length))
        rng.shuffle(items)
        shuffles.append(items)
    return {"seed": str(seed), "results": results, "shuffles": shuffles, "choices": "".join(rng.choice("abcdefg") for _ in range(50))}


def texts(rng):
    """Pairs of texts: random over small alphabets (many ties), lists of names with slips, characters beyond the BMP."""
    names = ["adalovelace", "alanturing", "weiabbott", "jörghopper", "ivanßtrange", "ángelkumar", "linzhang", "𝒜mber𝒵ola", "rosafischer"]
    pairs = [["", ""], ["", "a"], ["a", ""], ["𝒜", "𝒜𝒜"], ["a" * 250, "a" * 250], ["ab" * 150, "ba" * 150], ["a" * 199, "a" * 199], ["b" + "a" * 199, "a" * 199 + "b"]]
    for i in range(60):
        letters = "ab" if i % 3 == 0 else "abcde " if i % 3 == 1 else "a𝒜ß\n-"
        pairs.append(["".join(rng.choice(letters) for _ in range(rng.randint(0, 40))) for _ in range(2)])
    for i in range(60):
        truth = [f"{rng.choice(names)}{rng.choice(names)} // new name!" if rng.random() < 0.5 else rng.choice(names) for _ in range(rng.randint(1, 14))]
        answer = list(truth)
        slip = i % 5
        if slip == 1:
            answer = [line.replace(" // new name!", " // new name") for line in answer]
        if slip == 2:
            answer = [line.replace(" // new name!", "") for line in answer]
        if slip == 3:
            answer = answer[1:] + answer[:1]
        if slip == 4:
            rng.shuffle(answer)
        pairs.append(["\n".join(answer), "\n".join(truth)])
    return pairs


def ranges(belongs):
    """The code points for which `belongs` holds, as [first, last, first, last, …]."""
    found = []
    for c in range(sys.maxunicode + 1):
        if belongs(chr(c)):
            if found and found[-1] == c - 1:
                found[-1] = c
            else:
                found += [c, c]
    return found


def main():
    rng = random.Random(20240229)
    ends = ["", " ", "\t\n\v\f\r", "\x1c\x1d\x1e\x1f", "\x85", "\xa0", "\ufeff", "\u200b", "\u1680\u2000\u200a\u2028\u2029\u202f\u205f\u3000", "\u180e", "\x00"]
    words = ["ΟΔΟΣ", "ΟΔΟΣ.", "Σ", "ΑΣΒ", "ΑΣ'Β ΑΣ", "İSTANBUL", "STRASSE ẞ", "ǅ", "ÅNGSTRÖM K", "𐐀𐐁", "Mixed CASE"]
    answers = {
        "python": platform.python_version(),
        "unicode": unicodedata.unidata_version,
        "calls": "; ".join(" ".join(map(str, call)) for call in calls()),
        "streams": [stream(seed) for seed in SEEDS],
        "ratios": [[a, b, difflib.SequenceMatcher(None, a, b).ratio()] for a, b in texts(rng)],
        "strip": [[text, text.strip()] for a in ends for b in ends for text in (f"{a}x {b}y{b}", a + b)],
        "lower": [[word, word.lower()] for word in words],
        "sorted": sorted(["", "a", "ab", "b", "Z", "é", "\uffff", "\ue000", "𐀀", "𝒜", "𝒜a", "\u0100"]),
        "assigned": ranges(lambda c: unicodedata.category(c) not in ("Cn", "Cs")),
        "upper": ranges(str.isupper),
        "space": ranges(str.isspace),
        "lowered": " ".join(c + c.lower() for c in map(chr, range(sys.maxunicode + 1)) if c.lower() != c),
    }
    out = pathlib.Path(__file__).resolve().with_suffix(".json")
    out.write_text("{\n" + ",\n".join(f"{json.dumps(key)}: {json.dumps(value)}" for key, value in answers.items()) + "\n}\n")


main()
