"""Errors that are answered in words, as the contract has them. Any other exception is a trap, after which the plugin is started afresh."""

import functools

from componentize_py_types import Err

from .options import Refused


def in_words(function):
    """For a function that the host calls: what it refuses, and what the host has refused it, is for the operator to see."""

    @functools.wraps(function)
    def answer(*arguments):
        try:
            return function(*arguments)
        except Refused as reason:
            raise Err(str(reason))
        except Err as refused:
            # The host's have a kind, too; the text is all that can be answered.
            raise Err(refused.value if isinstance(refused.value, str) else refused.value.value)

    return answer
