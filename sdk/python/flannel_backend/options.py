"""What others write, read with care: the options of the network config's `Backend`, and what peers publish. Nothing of it is a trap."""

import json
import re

# Deeper ones are refused: reading them takes the stack, and when that is over the plugin is started afresh.
DEPTH = 64
STRING = re.compile(r'"(?:[^"\\]|\\.)*"', re.DOTALL)
BRACKET = re.compile(r"[\[\]{}]")


class Refused(Exception):
    """Why something is refused; for the operator. In `apply` it costs one peer, in other functions the call: see `refusals`."""


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
    # Of a name that comes twice the last counts, as in the daemon.
    found = {name.lower(): value for name, value in value.items()}
    return {name: value for name, value in found.items() if value is not None}


def number(options: dict, name: str, least: int, most: int, missing: int) -> int:
    """A whole number within bounds; `missing` stands for one that is absent."""
    value = options.get(name.lower())
    if value is None:
        return missing
    # A bool is an int for Python.
    if type(value) is not int or not least <= value <= most:
        raise Refused(f"{name}: {json.dumps(value)} is not a whole number from {least} to {most}")
    return value


def boolean(options: dict, name: str, missing: bool) -> bool:
    """`true` or `false`; `missing` stands for one that is absent."""
    value = options.get(name.lower())
    if value is None:
        return missing
    if type(value) is not bool:
        raise Refused(f"{name}: {json.dumps(value)} is neither true nor false")
    return value


def text(options: dict, name: str) -> str | None:
    """A text; None stands for one that is absent."""
    value = options.get(name.lower())
    if value is not None and type(value) is not str:
        raise Refused(f"{name}: {json.dumps(value)} is not a text in quotes")
    return value
