"""Rows of names as Parquet, by pyarrow: writes names-CODEC.parquet and names.json beside this file.

Needs `pip install pyarrow` (26.0.1 was used). Run: python names_parquet.py
"""
import json
import pathlib

import pyarrow
import pyarrow.parquet

here = pathlib.Path(__file__).resolve().parent
rows = [["Ada Lovelace", "Jörg Hopper", "Ángel Kumar"], ["Ivan ßtrange"], ["Wei Abbott", "𝒜mber Zola", "Wei Abbott"]] + [[f"First{i} Last{j}" for j in range(i % 5 + 1)] for i in range(40)]
table = pyarrow.table({"line": list(range(len(rows))), "names": rows})
for codec in ("none", "snappy", "gzip", "zstd", "brotli", "lz4"):
    pyarrow.parquet.write_table(table, here / f"names-{codec}.parquet", compression=codec, row_group_size=25)
pyarrow.parquet.write_table(table.select(["line"]), here / "names-absent.parquet")
pyarrow.parquet.write_table(pyarrow.table({"names": [["Ada Lovelace"], [None]]}), here / "names-null.parquet")
(here / "names.json").write_text(json.dumps(rows, ensure_ascii=False) + "\n")
