"""Tries all that a component could do to the machine it runs on, and says in its log what came of it.

With `"Do": "sleep"` in its options it sleeps for an hour instead, in `register`; with `"print"` it prints without end of lines and with
too many, and with `"raise"` it raises an exception of its own.
"""

# Looking names up needs it, and what is not imported at build time is not there.
import encodings.idna  # noqa: F401
import json
import os
import random
import socket
import sys
import time

from wit_world import exports
from wit_world.exports.policy import Description, Registration
from wit_world.imports import log


def said(what: str, outcome: str) -> None:
    """Says what came of a deed."""
    log.write(log.Level.INFO, f"{what}: {outcome}", [])


def tried(what, deed) -> None:
    """Does it, and says what came of it."""
    try:
        said(what, f"got {deed()!r}")
    except OSError as error:
        said(what, f"failed: {type(error).__name__}")


def written(path: str) -> str:
    with open(path, "w") as file:
        return file.write("written")


def connected(kind: int):
    with socket.socket(socket.AF_INET, kind) as made:
        made.connect(("127.0.0.1", 53))


def listening():
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as made:
        made.bind(("127.0.0.1", 0))
        made.listen()


def look_around() -> None:
    tried("read /etc/hostname", lambda: open("/etc/hostname").read())
    tried("read /proc/self/environ", lambda: open("/proc/self/environ").read())
    tried("read a relative path", lambda: open("Cargo.toml").read())
    tried("read with dots", lambda: open("../../../../etc/hostname").read())
    tried("write /tmp/snoop", lambda: written("/tmp/snoop"))
    tried("list /", lambda: os.listdir("/"))
    tried("list .", lambda: os.listdir("."))
    tried("make a directory", lambda: os.mkdir("/tmp/snoop.d"))
    tried("look up localhost", lambda: socket.getaddrinfo("localhost", 80))
    tried("connect with TCP", lambda: connected(socket.SOCK_STREAM))
    tried("connect with UDP", lambda: connected(socket.SOCK_DGRAM))
    tried("listen", listening)
    said("environment", repr(dict(os.environ)))
    said("arguments", repr([argument for argument in sys.argv if argument]))
    said("standard input", repr(sys.stdin.read()))
    said("randomness differs", repr(os.urandom(16) != os.urandom(16)))
    said("the year is later than 2024", repr(time.gmtime().tm_year > 2024))
    before = time.monotonic()
    time.sleep(0.05)
    said("a short sleep is one", repr(0.05 <= time.monotonic() - before < 1))
    said("random.random works", repr(0 <= random.random() < 1))
    print("printed to standard output")
    print("printed to standard error", file=sys.stderr)
    print("printed without an end of line", end="")
    sys.stdout.flush()


class Policy(exports.Policy):
    def describe(self):
        return Description("snoop", "1.0.0", ["snoop"])

    def register(self, node, config):
        match json.loads(config).get("Do"):
            case "sleep":
                time.sleep(3600)
            case "raise":
                raise ValueError("the deed was asked for")
            case "print":
                print("x" * 10_000)
                for number in range(1000):
                    print("line", number)
            case _:
                look_around()
        return Registration("snoop", None, None, node.external.mtu)

    def lease_acquired(self, node_lease):
        pass

    def apply(self, changes):
        return []

    def tick(self):
        return None
