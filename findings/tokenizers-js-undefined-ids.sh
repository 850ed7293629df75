#!/usr/bin/env bash
# npm @huggingface/tokenizers encodes an unknown word of a WordLevel tokenizer as the id `undefined`, not as the
# unknown token.
#
# The file names its unknown token, and Python's library uses it. The JavaScript library has no WordLevel model: it
# silently accepts the file, looks each word up, and never reads `unk_token`. In an Int32Array, `undefined` becomes 0,
# which is the id of an ordinary token.
#
# Versions: npm @huggingface/tokenizers 0.2.0; PyPI tokenizers 0.23.3.
# Seen, for "the green cat" with the vocabulary the=0, cat=1, [UNK]=2:
#           Python [0, 2, 1]   JavaScript [0, undefined, 1]   as Int32Array [0, 0, 1] ("the the cat")
# Instead:  check `model.type` before you load (BPE, WordPiece and Unigram have a model), and check that every id is an
#           integer.
#
# Exit status: 0 as stated, 1 the behaviour has changed, 2 something needed is missing.
set -euo pipefail
missing() { echo "cannot run: $1" >&2; exit 2; }
command -v npm >/dev/null || missing "npm is not on PATH"
command -v python3 >/dev/null || missing "python3 is not on PATH"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
npm install --prefix . --no-audit --no-fund --loglevel=error @huggingface/tokenizers@0.2.0 >npm.log 2>&1 ||
  missing "npm could not install the packages: $(head -n 1 npm.log)"
{ python3 -m venv venv && venv/bin/pip install --quiet --disable-pip-version-check tokenizers==0.23.3; } >pip.log 2>&1 ||
  missing "pip could not install the packages: $(tail -n 1 pip.log)"

cat >try.py <<'PY'
from tokenizers import Tokenizer, models, pre_tokenizers
tokenizer = Tokenizer(models.WordLevel({"the": 0, "cat": 1, "[UNK]": 2}, unk_token="[UNK]"))
tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
tokenizer.save("tokenizer.json")
print(tokenizer.encode("the green cat").ids)
PY
cat >try.mjs <<'JS'
import { readFileSync } from "node:fs";
import { Tokenizer } from "@huggingface/tokenizers";
const tokenizer = new Tokenizer(JSON.parse(readFileSync("tokenizer.json", "utf8")), {});
const { ids } = tokenizer.encode("the green cat");
console.log(`[${ids.map(String).join(", ")}] [${Int32Array.from(ids).join(", ")}]`);
JS
python=$(venv/bin/python try.py)
javascript=$(node try.mjs)
printf '%s\n' "Python:                       $python" "JavaScript, as an Int32Array: $javascript"
[ "$python" = "[0, 2, 1]" ] && [ "$javascript" = "[0, undefined, 1] [0, 0, 1]" ]
