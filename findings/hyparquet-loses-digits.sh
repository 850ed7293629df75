#!/usr/bin/env bash
# hyparquet reads 64-bit integers exactly, but it reads DECIMAL columns as doubles and cuts timestamps to milliseconds:
# digits are lost silently.
#
# It returns INT64 as BigInt, which suggests that nothing is rounded. Yet a decimal of 20 digits, which the file stores
# exactly, is read as another number, and two events a microsecond apart get the same timestamp (Parquet from pandas or
# Spark has micro- or nanoseconds).
#
# Versions: npm hyparquet 1.33.0; the file is written by PyPI pyarrow 26.0.1.
# Seen:     INT64 9007199254740993                             9007199254740993 (exact)
#           DECIMAL(20, 2) 123456789012345678.91               123456789012345660 (the nearest double ends in 680)
#           TIMESTAMP 00:00:00.000001 and 00:00:00.000999      00:00:00.000 twice
# Instead:  let the writer store such columns as integers (cents, microseconds) or as strings.
#
# Exit status: 0 as stated, 1 the behaviour has changed, 2 something needed is missing.
set -euo pipefail
missing() { echo "cannot run: $1" >&2; exit 2; }
command -v npm >/dev/null || missing "npm is not on PATH"
command -v python3 >/dev/null || missing "python3 is not on PATH"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
npm install --prefix . --no-audit --no-fund --loglevel=error hyparquet@1.33.0 >npm.log 2>&1 ||
  missing "npm could not install the packages: $(head -n 1 npm.log)"
{ python3 -m venv venv && venv/bin/pip install --quiet --disable-pip-version-check pyarrow==26.0.1; } >pip.log 2>&1 ||
  missing "pip could not install the packages: $(tail -n 1 pip.log)"

cat >try.py <<'PY'
import decimal
import pyarrow as pa, pyarrow.parquet as pq

pq.write_table(pa.table({
    "whole": pa.array([9007199254740993, 0], pa.int64()),
    "amount": pa.array([decimal.Decimal("123456789012345678.91"), None], pa.decimal128(20, 2)),
    "moment": pa.array([1, 999], pa.timestamp("us")),
}), "rows.parquet")
PY

cat >try.mjs <<'JS'
import { asyncBufferFromFile, parquetReadObjects } from "hyparquet";

const [first, second] = await parquetReadObjects({ file: await asyncBufferFromFile("rows.parquet") });
console.log(`whole ${first.whole}, decimal ${first.amount}, moments ${[first, second].map((row) => row.moment.toISOString()).join(" and ")}`);
const asStated = first.whole === 9007199254740993n && String(first.amount) === "123456789012345660" && +first.moment === +second.moment;
process.exit(asStated ? 0 : 1);
JS
venv/bin/python try.py
node try.mjs
