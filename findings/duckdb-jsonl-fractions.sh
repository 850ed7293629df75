#!/usr/bin/env bash
# DuckDB rounds fractions to whole numbers, without an error, where the first 20,480 lines of a JSON Lines file had
# whole numbers only.
#
# It guesses a column's type from a sample at the start of the file. A later value that does not fit is cast to that
# type, and the cast of 0.4 to an integer is 0. A log of rewards that begin as 0 and 1 and become graded later loses
# all grades. (Polars stops with an error there.)
#
# Versions: PyPI duckdb 2.0.1.
# Seen, for 20,480 rewards of 1, then 1,000 of 0.4 (the true sum is 20,880):
#           read_json(file)                    type BIGINT, sum 20480
#           read_json(file, sample_size = -1)  type DOUBLE, sum 20880.0
# Instead:  give sample_size = -1 (look at the whole file), or name the types with columns = {...}.
#
# Exit status: 0 as stated, 1 the behaviour has changed, 2 something needed is missing.
set -euo pipefail
missing() { echo "cannot run: $1" >&2; exit 2; }
command -v python3 >/dev/null || missing "python3 is not on PATH"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
{ python3 -m venv venv && venv/bin/pip install --quiet --disable-pip-version-check duckdb==2.0.1; } >pip.log 2>&1 ||
  missing "pip could not install the packages: $(tail -n 1 pip.log)"

cat >try.py <<'PY'
import duckdb, json, sys

with open("rewards.jsonl", "w") as file:
    for reward in [1] * 20480 + [0.4] * 1000:
        file.write(json.dumps({"reward": reward}) + "\n")
ask = lambda source: duckdb.sql(f"SELECT typeof(any_value(reward)), sum(reward)::DOUBLE FROM {source}").fetchall()[0]
guessed = ask("read_json('rewards.jsonl')")
whole = ask("read_json('rewards.jsonl', sample_size = -1)")
print("guessed from the start:", *guessed)
print("guessed from all lines:", *whole)
sys.exit(0 if guessed == ("BIGINT", 20480) and whole[0] == "DOUBLE" and abs(whole[1] - 20880) < 1e-6 else 1)
PY
venv/bin/python try.py
