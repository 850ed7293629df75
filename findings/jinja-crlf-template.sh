#!/usr/bin/env bash
# A chat template with Windows line ends (CRLF) gives another prompt under npm @huggingface/jinja than under Python's
# Jinja.
#
# Python's Jinja turns every CRLF of a template into LF before it parses, so the file's line ends do not matter. The
# JavaScript port keeps the carriage returns and so misses the line end after a `%}`, which trim_blocks should remove.
# The same template file, checked out on Windows, then puts "\r\n" between the turns: the tokens differ, and the model
# sees a format that it was not trained on.
#
# Versions: npm @huggingface/jinja 0.5.11; PyPI jinja2 3.1.6 with trim_blocks and lstrip_blocks, as transformers sets them.
# Seen, for two messages:
#           Python, LF and CRLF alike   "<user>hi\n<bot>yes\n"
#           JavaScript, LF              "<user>hi\n<bot>yes\n"
#           JavaScript, CRLF            "\r\n<user>hi\r\n\r\n<bot>yes\r\n\r"
# Instead:  replace "\r\n" by "\n" in the template (not in the messages) before you pass it to @huggingface/jinja.
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

lf='{% for m in messages %}\n<{{ m.role }}>{{ m.content }}\n{% endfor %}\n'
crlf=${lf//\\n/\\r\\n}
messages='[{"role":"user","content":"hi"},{"role":"bot","content":"yes"}]'

cat >try.mjs <<'JS'
import { Template } from "@huggingface/jinja";
const [template, messages] = process.argv.slice(2).map((text) => JSON.parse(text));
console.log(JSON.stringify(new Template(template).render({ messages })));
JS
cat >try.py <<'PY'
import json, sys
from jinja2 import Environment
template, messages = map(json.loads, sys.argv[1:])
print(json.dumps(Environment(trim_blocks=True, lstrip_blocks=True).from_string(template).render(messages=messages)))
PY
py_lf=$(venv/bin/python try.py "\"$lf\"" "$messages")
py_crlf=$(venv/bin/python try.py "\"$crlf\"" "$messages")
js_lf=$(node try.mjs "\"$lf\"" "$messages")
js_crlf=$(node try.mjs "\"$crlf\"" "$messages")
printf '%s\n' "Python, LF:       $py_lf" "Python, CRLF:     $py_crlf" "JavaScript, LF:   $js_lf" "JavaScript, CRLF: $js_crlf"
[ "$py_lf" = "$py_crlf" ] && [ "$js_lf" = "$py_lf" ] && [ "$js_crlf" = '"\r\n<user>hi\r\n\r\n<bot>yes\r\n\r"' ]
