"""Addresses as people write them, and as the contract has them, which is numbers."""

import re
from ipaddress import IPv4Address, IPv6Address

from .options import Refused

# As Go reads them, and so what upstream's nodes take of a lease.
MAC = re.compile(r"[0-9a-f]{2}(:[0-9a-f]{2}){5}|[0-9a-f]{2}(-[0-9a-f]{2}){5}|[0-9a-f]{4}(\.[0-9a-f]{4}){2}", re.IGNORECASE | re.ASCII)


def text(address) -> str:
    """An `IpAddress`."""
    if len(address.value) == 4:
        return str(IPv4Address(bytes(address.value)))
    return str(IPv6Address(b"".join(group.to_bytes(2, "big") for group in address.value)))


def mac_text(mac) -> str:
    """An Ethernet address: `9e:01:c5:3f:00:0b`."""
    return ":".join(f"{octet:02x}" for octet in mac)


def mac(text: str) -> tuple[int, int, int, int, int, int]:
    """An Ethernet address that somebody has written: `9e:01:c5:3f:00:0b`, with `-` for `:`, or `9e01.c53f.000b`."""
    if not MAC.fullmatch(text):
        raise Refused(f'"{text}" is no Ethernet address; one looks like 9e:01:c5:3f:00:0b')
    return tuple(bytes.fromhex(re.sub("[:.-]", "", text)))
