"""Questions whose answers are numbers of several types, as Parquet, by pyarrow: writes questions.parquet beside this file.

Needs `pip install pyarrow` (26.0.1 was used). Run: python questions_parquet.py
"""
import decimal
import pathlib

import pyarrow
import pyarrow.parquet

here = pathlib.Path(__file__).resolve().parent
cents = [decimal.Decimal(text) for text in ("0.57", "1234.50", "-0.07", "9999999999999.99")]
table = pyarrow.table({
    "question": ["a?", "b?", "c?", "d?"],
    "cents": pyarrow.array(cents, pyarrow.decimal128(15, 2)),
    "long": pyarrow.array([decimal.Decimal("12345678901234567.89")] * 4, pyarrow.decimal128(20, 2)),
    "single": pyarrow.array([0.1, 1.5, -2e-7, 16777216], pyarrow.float32()),
    "whole": pyarrow.array([9007199254740993, 1, -1, 0], pyarrow.int64()),
    "maybe": pyarrow.array([0.25, float("nan"), None, 1.0]),
    "day": pyarrow.array([0, 1, 2, 3], pyarrow.date32()),
    "chat": [[{"role": "user", "content": text}] for text in "abcd"],
    "reward_model": [{"ground_truth": text, "style": "rule"} for text in "4567"],
})
pyarrow.parquet.write_table(table, here / "questions.parquet", compression="zstd", row_group_size=3)
