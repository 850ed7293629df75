"""Token ids of small tokenizers, as PyPI's tokenizers and transformers give them.

    python -m venv venv && venv/bin/pip install tokenizers==0.23.3 transformers==5.24.0
    venv/bin/python tokenizers.py > tokenizers.json && node_modules/.bin/biome format --write tokenizers.json

The vocabulary is SmolLM2's in little: its 17 special tokens, its bytes in its order (without 0xC0 and 0xC1, which UTF-8 does not
have), so that single bytes have SmolLM2's ids; then merges that were learnt on the texts of the test without any
pre-tokenizer. They go across every kind of boundary, so a text that is cut elsewhere has other ids.
"""

import json
import os
import random
import sys
import tempfile

# This file has the name of the package that it needs.
sys.path = [place for place in sys.path if os.path.abspath(place or ".") != os.path.dirname(os.path.abspath(__file__))]

from tokenizers import Tokenizer, models, pre_tokenizers, trainers  # noqa: E402
from transformers import AutoTokenizer  # noqa: E402

SPECIALS = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"] + [f"<reserved_{i}>" for i in range(3, 17)]
# White space of Unicode and of JavaScript, letters, marks, digits of three kinds, punctuation, joiners, a pair of surrogates.
PIECES = [" ", "  ", "\t", "\n", "\r", "\x0b", "\x1c", "\u0085", "\u00a0", "\u1680", "\u180e", "\u2003", "\u200b", "\u2028"]
PIECES += ["\u202f", "\u3000", "\ufeff", "'s", "'", "s", "t", "'ll", "a", "the", " the", "\u00e9", "e\u0308", "\u4e2d", "1", "12"]
PIECES += ["\u00b2", "\u0663", "\u2167", "\u00bd", "_", "-", ".", "!?", "$", "\u00ab", "\u2014", "\u200d", "\U0001f600", "A"]
FIXED = ["\ufeff's", "a\u0085\u0085b", "\u0085's", " \ufeff the", "the 12's", "'s\u2028 's", ""]

rng = random.Random(1)
TEXTS = FIXED + ["".join(rng.choices(PIECES, k=rng.randint(3, 14))) for _ in range(28)]


def byte_characters():
    """GPT-2's character for each byte, in its order."""
    shown = [*range(33, 127), *range(161, 173), *range(174, 256)]
    rest = [byte for byte in range(256) if byte not in shown]
    table = {byte: chr(byte) for byte in shown} | {byte: chr(256 + i) for i, byte in enumerate(rest)}
    return [table[byte] for byte in [*shown, *rest] if byte not in (0xC0, 0xC1)]


def learn_merges():
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=600, initial_alphabet=alphabet, show_progress=False, min_frequency=2)
    tokenizer.train_from_iterator(TEXTS[len(FIXED) :] * 2 + ["'s"] * 40, trainer)
    merges = json.loads(tokenizer.to_str())["model"]["merges"]
    # U+FEFF and U+0085 stay single bytes, as in SmolLM2.
    return [pair for pair in merges if not any(c in "".join(pair) for c in "\u00ef\u00bb\u00bf\u0127")]


MERGES = learn_merges()
VOCABULARY = SPECIALS + byte_characters() + ["".join(pair) for pair in MERGES]


def added(content, id=None, **flags):
    usual = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True}
    return {**({} if id is None else {"id": id}), "content": content, **usual, **flags}


STANDARD = [added(content, id) for id, content in enumerate(SPECIALS)]
BYTES = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": False}
GPT2 = {**BYTES, "use_regex": True}
QWEN = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)


def sequence(*steps):
    return {"type": "Sequence", "pretokenizers": list(steps)}


def split(pattern, behavior, invert):
    return {"type": "Split", "pattern": {"Regex": pattern}, "behavior": behavior, "invert": invert}


def metaspace(split, scheme="always"):
    return {"type": "Metaspace", "replacement": "\u2581", "prepend_scheme": scheme, "split": split}


PRE_TOKENIZERS = {
    "ByteLevel": GPT2,
    "ByteLevel with a space in front": {**GPT2, "add_prefix_space": True},
    "SmolLM2": sequence({"type": "Digits", "individual_digits": True}, GPT2),
    "runs of digits": sequence({"type": "Digits", "individual_digits": False}, BYTES),
    "Qwen2.5": sequence(split(QWEN, "Isolated", False), BYTES),
    "Split, inverted, removed": sequence(split(QWEN, "Removed", True), BYTES),
    "Split, inverted, isolated": sequence(split(r"\p{L}+", "Isolated", True), BYTES),
    "Split, removed": sequence(split(r"\s", "Removed", False), BYTES),
    "Whitespace": sequence({"type": "Whitespace"}, BYTES),
    "WhitespaceSplit": sequence({"type": "WhitespaceSplit"}, BYTES),
    "Bert": sequence({"type": "BertPreTokenizer"}, BYTES),
    "Punctuation": sequence({"type": "Punctuation", "behavior": "Isolated"}, BYTES),
    "Punctuation, contiguous": sequence({"type": "Punctuation", "behavior": "Contiguous"}, BYTES),
    "Punctuation, removed": sequence({"type": "Punctuation", "behavior": "Removed"}, BYTES),
    "Metaspace": sequence(metaspace(True), BYTES),
    "Metaspace, not split": sequence(metaspace(False), BYTES),
}
NORMALIZERS = {
    "Strip": {"type": "Strip", "strip_left": True, "strip_right": True},
    "Strip on the right, after NFC": {
        "type": "Sequence",
        "normalizers": [{"type": "NFC"}, {"type": "Strip", "strip_left": False, "strip_right": True}],
    },
}
TEMPLATE = {
    "type": "TemplateProcessing",
    "single": [{"SpecialToken": {"id": "<|im_start|>", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}],
    "pair": [{"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 1}}],
    "special_tokens": {"<|im_start|>": {"id": "<|im_start|>", "ids": [1], "tokens": ["<|im_start|>"]}},
}
X, Y = "<|x|>", "<|y|>"
NEXT = len(VOCABULARY)
# name: added tokens of tokenizer.json, tokenizer_config.json, special_tokens_map.json, added_tokens.json, post-processor
ADDED = {
    "none beyond tokenizer.json": (STANDARD, {}, None, None, None),
    "in the config alone": (STANDARD, {"added_tokens_decoder": {str(NEXT): added(X)}}, None, None, None),
    "two in the config, listed the other way round": (
        *(STANDARD, {"added_tokens_decoder": {str(NEXT + 1): added(Y, special=False), str(NEXT): added(X)}}),
        *(None, None, None),
    ),
    "none in tokenizer.json, all in the config": (
        *([], {"added_tokens_decoder": {str(i): added(s) for i, s in enumerate(SPECIALS)} | {str(NEXT): added(X)}}),
        *(None, None, None),
    ),
    "special by the config": (
        *([*STANDARD, added(X, NEXT, special=False)], {"added_tokens_decoder": {str(NEXT): added(X)}}),
        *(None, None, None),
    ),
    "not special by the config": (
        *([*STANDARD, added(X, NEXT)], {"added_tokens_decoder": {str(NEXT): added(X, special=False)}}),
        *(None, None, None),
    ),
    "other flags by the config": (
        *([*STANDARD, added(X, NEXT)], {"added_tokens_decoder": {str(NEXT): added(X, lstrip=True, rstrip=True)}}),
        *(None, None, None),
    ),
    "an end token that is no added token": (STANDARD, {"eos_token": X}, None, None, None),
    "an end token that is not special in tokenizer.json": (
        *([*STANDARD, added(X, NEXT, special=False)], {"eos_token": X}),
        *(None, None, None),
    ),
    "the same beside an added_tokens_decoder": (
        [*STANDARD, added(X, NEXT, special=False)],
        {"eos_token": X, "added_tokens_decoder": {"0": added(SPECIALS[0])}},
        *(None, None, None),
    ),
    "an end token of the decoder, not special there": (
        *(STANDARD, {"eos_token": X, "added_tokens_decoder": {str(NEXT): added(X, special=False)}}),
        *(None, None, None),
    ),
    "additional special tokens": (STANDARD, {"additional_special_tokens": [X, Y]}, None, None, None),
    "extra special tokens, listed": (STANDARD, {"extra_special_tokens": [Y, X]}, None, None, None),
    "extra special tokens, named": (STANDARD, {"extra_special_tokens": {"one": X, "two": Y}}, None, None, None),
    "special_tokens_map.json": (STANDARD, {}, {"eos_token": added(X), "pad_token": Y}, None, None),
    "special_tokens_map.json beside a decoder": (
        *(STANDARD, {"added_tokens_decoder": {"0": added(SPECIALS[0])}}, {"eos_token": X}, None, None),
    ),
    "added_tokens.json": (STANDARD, {"eos_token": X}, None, {X: NEXT, Y: NEXT + 1}, None),
    "added_tokens.json beside a decoder": (
        *(STANDARD, {"added_tokens_decoder": {"0": added(SPECIALS[0])}}, None, {X: NEXT}, None),
    ),
    "a start token by the post-processor": (STANDARD, {}, None, None, TEMPLATE),
}


def definition(added_tokens, pre_tokenizer, normalizer=None, post_processor=None):
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": added_tokens,
        "normalizer": normalizer,
        "pre_tokenizer": pre_tokenizer,
        "post_processor": post_processor,
        "decoder": BYTES,
        "model": {
            "type": "BPE",
            "dropout": None,
            "unk_token": None,
            "continuing_subword_prefix": None,
            "end_of_word_suffix": None,
            "fuse_unk": False,
            "byte_fallback": False,
            "ignore_merges": False,
            "vocab": {token: id for id, token in enumerate(VOCABULARY)},
            "merges": MERGES,
        },
    }


def parts(whole):
    """Without the model, and without the added tokens that all have: both stand once in the file."""
    added_tokens = [token for token in whole["added_tokens"] if token not in STANDARD]
    rest = {key: whole[key] for key in ("normalizer", "pre_tokenizer", "post_processor")}
    return {**rest, "hasStandardTokens": STANDARD[0] in whole["added_tokens"], "addedTokens": added_tokens}


def cut(name, pre_tokenizer, normalizer=None):
    whole = definition(STANDARD, pre_tokenizer, normalizer)
    tokenizer = Tokenizer.from_str(json.dumps(whole))
    ids = [tokenizer.encode(text, add_special_tokens=False).ids for text in TEXTS]
    return {"name": name, "tokenizer": parts(whole), "ids": ids}


def with_files(name, added_tokens, config, special_tokens_map, added_tokens_json, post_processor):
    whole = definition(added_tokens, GPT2, None, post_processor)
    files = {
        "tokenizer.json": whole,
        "tokenizer_config.json": config,
        "special_tokens_map.json": special_tokens_map,
        "added_tokens.json": added_tokens_json,
    }
    texts = [f"a{X}b {Y} c", f"{X}{Y}", " \n<|im_end|>  the<|endoftext|>", f"  {X}  the"]
    with tempfile.TemporaryDirectory() as folder:
        for file, content in files.items():
            # The class that reads tokenizer.json as it stands.
            extra = {"tokenizer_class": "PreTrainedTokenizerFast"} if file == "tokenizer_config.json" else {}
            if content is not None:
                with open(os.path.join(folder, file), "w", encoding="utf-8") as out:
                    json.dump({**content, **extra}, out)
        tokenizer = AutoTokenizer.from_pretrained(folder)
        known = []
        for text in texts:
            ids = tokenizer(text, add_special_tokens=False)["input_ids"]
            shown = tokenizer.decode(ids, skip_special_tokens=True, clean_up_tokenization_spaces=False)
            prompt = tokenizer(text)["input_ids"]
            known.append({"text": text, "ids": ids, "promptIds": prompt, "withoutSpecial": shown})
    case = {"name": name, "tokenizer": parts(whole), "config": config, "texts": known}
    return {**case, "specialTokensMap": special_tokens_map, "addedTokens": added_tokens_json}


json.dump(
    {
        "vocabulary": VOCABULARY,
        "merges": MERGES,
        "standardTokens": STANDARD,
        "decoder": BYTES,
        "texts": TEXTS,
        "cuts": [cut(name, step) for name, step in PRE_TOKENIZERS.items()]
        + [cut(name, GPT2, normalizer) for name, normalizer in NORMALIZERS.items()],
        "files": [with_files(name, *parts) for name, parts in ADDED.items()],
    },
    sys.stdout,
    separators=(",", ":"),
)
print()
