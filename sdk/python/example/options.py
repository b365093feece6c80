"""What others write, read with care: the options of the network config's `Backend`, and what peers publish. Nothing of it is a trap."""

import json
import re

# Deeper ones are refused: reading them takes the stack, and when that is over the plugin is started afresh.
DEPTH = 64
STRING = re.compile(r'"(?:[^"\\]|\\.)*"', re.DOTALL)
BRACKET = re.compile(r"[\[\]{}]")


class Refused(Exception):
    """Why something is refused; for the operator. In `apply` it costs one peer, in other functions the call: see refusals.py."""


def read(text: str):
    """A JSON value."""
    if text.count("[") + text.count("{") > DEPTH and depth(text) > DEPTH:
        raise Refused(f"not JSON: nested more than {DEPTH} deep")
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise Refused(f"not JSON: {error}")


def depth(text: str) -> int:
    """How deep brackets are nested."""
    deepest = now = 0
    for bracket in BRACKET.finditer(STRING.sub("", text)):
        now += 1 if bracket[0] in "[{" else -1
        deepest = max(deepest, now)
    return deepest


def options(config: str) -> dict:
    """The options by name, in lower case: names match without regard to case. What is null is as good as absent."""
    value = read(config)
    if not isinstance(value, dict):
        raise Refused(f'{json.dumps(value)} is not a JSON object such as {{"Key": 1}}')
    return {name.lower(): value for name, value in value.items() if value is not None}


def number(options: dict, name: str, least: int, most: int, missing: int) -> int:
    """A whole number within bounds; `missing` stands for one that is absent."""
    value = options.get(name.lower())
    if value is None:
        return missing
    # A bool is an int for Python.
    if type(value) is not int or not least <= value <= most:
        raise Refused(f"{name}: {json.dumps(value)} is not a whole number from {least} to {most}")
    return value
