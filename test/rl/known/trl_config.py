"""Every field of TRL's GRPOConfig with its default, by introspection. Writes trl-config.json beside this file.

Run: python trl_config.py (trl 1.16, transformers 5.24)
"""
import dataclasses
import enum
import json
import pathlib

import transformers
import trl
from transformers import TrainingArguments
from trl import GRPOConfig


def text(field):
    """The default as it is written, or "" for one that is made anew (a list or a dict)."""
    if field.default is not dataclasses.MISSING:
        value = field.default
        return str(value.value if isinstance(value, enum.Enum) else value)
    if field.default_factory is not dataclasses.MISSING:
        return str(field.default_factory())
    return ""


inherited = {field.name for field in dataclasses.fields(TrainingArguments)}
fields = [{"name": field.name, "default": text(field), "own": field.name not in inherited}
          for field in dataclasses.fields(GRPOConfig)]
versions = {"trl": trl.__version__, "transformers": transformers.__version__}
out = pathlib.Path(__file__).with_name("trl-config.json")
out.write_text(json.dumps({"versions": versions, "fields": fields}, indent=1) + "\n")
