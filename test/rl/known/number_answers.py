"""Answers of completions by the rules of lm-evaluation-harness's task gsm8k: writes number-answers.json beside this file.

The rules (lm_eval/tasks/gsm8k/gsm8k.yaml): a filter's regular expression, which of its matches counts, and what
exact_match removes from both texts before it compares them. Run: python number_answers.py (the standard library is enough).
"""
import json
import pathlib
import re

here = pathlib.Path(__file__).resolve().parent
FILTERS = {
    "strict-match": (re.compile(r"#### (\-?[0-9\.\,]+)"), 0),
    "flexible-extract": (re.compile(r"(-?[$0-9.,]{2,})|(-?[0-9]+)"), -1),
}
IGNORED = [r",", r"\$", r"(?s).*#### ", r"\.$"]


def extracted(completion, name):
    pattern, which = FILTERS[name]
    found = pattern.findall(completion)
    if not found:
        return None
    one = found[which]
    if isinstance(one, tuple):
        one = [group for group in one if group][0]
    return one.strip()


def compared(text):
    for pattern in IGNORED:
        text = re.sub(pattern, "", text)
    return text.lower()


solution = "Natalia sold 48/2 = <<48/2=24>>24 clips in May.\nAltogether 48+24 = <<48+24=72>>72 clips.\n#### 72"
cases = [
    (completion, gold)
    for gold, completions in {
        solution: [
            "#### 72", "#### 72.", "####72", "### 72", "#### $72", "#### 72\n\nThe end of 3 lines.", "#### 7\n#### 72",
            "The answer is 72.", "The answer is 72 clips", "She sold $72.", "72", "", "no number", "\\boxed{72}",
            "So $$\\boxed{72}$$.", "#### 72.0", "#### 72.00", "#### -72", "-72", "#### 72%", "72 = 48 + 24", "#### 72 clips (24 in May)",
            "It is 72...", "It is 72, or so, ...", "72 , .", "#### 7 2", "#### ٧٢", "٧٢", "####  72", "#### \u221272", "\u221272", "#### +72",
        ],
        "It costs 5000+12=<<5000+12=5012>>5,012 dollars.\n#### 5,012": [
            "#### 5012", "#### 5,012", "#### $5,012", "#### 5,012.", "It costs $5,012.", "It costs $5,012.00.", "5 012", "5.012", "5,0,1,2",
        ],
        "#### -3": ["#### -3", "The change is -3.", "The change is - 3.", "10-13=-3", "#### 3", "a-3", "--3"],
        "#### 0.5": ["#### 0.5", "#### .5", ".5", "1/2", "0.50", "The answer is 0.5."],
        "#### 18": ["#### 18.00", "$18.00", "18", "$18", "18$", "18.", "18,", "1.8e1", "x18y", "#### 18 #### 19"],
    }.items()
    for completion in completions
]
rows = []
for completion, gold in cases:
    row = {"completion": completion, "gold": gold}
    for name in FILTERS:
        answer = extracted(completion, name)
        row[name] = {"answer": answer, "right": answer is not None and compared(answer) == compared(gold)}
    rows.append(row)
(here / "number-answers.json").write_text(json.dumps(rows, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")
