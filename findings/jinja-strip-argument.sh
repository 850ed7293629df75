#!/usr/bin/env bash
# In npm @huggingface/jinja, strip(), lstrip() and rstrip() ignore their argument and remove all white space.
#
# Chat templates use Python's string methods: published templates of thinking models cut a message with
# .split('</think>') and then .lstrip('\n'), to drop line ends but keep the indentation of code. The JavaScript port
# accepts the call silently and removes the indentation too; other characters given as the argument are not removed.
#
# Versions: npm @huggingface/jinja 0.5.11; PyPI jinja2 3.1.6.
# Seen:     '\n\n  code()\n'.lstrip('\n')   Python "  code()\n"   JavaScript "code()\n"
#           '  a  '.rstrip('\n')            Python "  a  "        JavaScript "  a"
#           '--a--'.strip('-')              Python "a"            JavaScript "--a--"
# Instead:  strip in the program, before rendering. For a template by others, compare one rendered conversation with
# Python's.
#
# Exit status: 0 as stated, 1 the behaviour has changed, 2 something needed is missing.
set -euo pipefail
missing() { echo "cannot run: $1" >&2; exit 2; }
command -v npm >/dev/null || missing "npm is not on PATH"
command -v python3 >/dev/null || missing "python3 is not on PATH"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
npm install --prefix . --no-audit --no-fund --loglevel=error @huggingface/jinja@0.5.11 >npm.log 2>&1 ||
  missing "npm could not install the packages: $(head -n 1 npm.log)"
{ python3 -m venv venv && venv/bin/pip install --quiet --disable-pip-version-check jinja2==3.1.6; } >pip.log 2>&1 ||
  missing "pip could not install the packages: $(tail -n 1 pip.log)"

cat >try.mjs <<'JS'
import { readFileSync } from "node:fs";
import { Template } from "@huggingface/jinja";
const expressions = JSON.parse(readFileSync("expressions.json", "utf8"));
console.log(JSON.stringify(expressions.map((expression) => new Template(`{{ ${expression} }}`).render({}))));
JS
cat >try.py <<'PY'
import json, subprocess, sys
from jinja2 import Environment
stated = {
    r"'\n\n  code()\n'.lstrip('\n')": ("  code()\n", "code()\n"),
    r"'  a  '.rstrip('\n')": ("  a  ", "  a"),
    r"'--a--'.strip('-')": ("a", "--a--"),
}
with open("expressions.json", "w") as file:
    json.dump(list(stated), file)
javascript = json.loads(subprocess.check_output(["node", "try.mjs"]))
as_stated = True
for (expression, pair), js in zip(stated.items(), javascript):
    py = Environment(keep_trailing_newline=True).from_string("{{ " + expression + " }}").render()
    print(f"{expression:32} Python {json.dumps(py):16} JavaScript {json.dumps(js)}")
    as_stated = as_stated and (py, js) == pair
sys.exit(0 if as_stated else 1)
PY
venv/bin/python try.py
