"""The few forms of DER (X.690) that an encrypted PKCS#8 file needs.

Example:
    >>> sequence(integer(128), octets(b"ab")).hex()
    '30080202008004026162'
    >>> object_id("1.2.840.113549.1.5.13").hex()
    '06092a864886f70d01050d'
"""

from __future__ import annotations

__all__ = ["integer", "null", "object_id", "octets", "sequence"]

_LONG_FORM = 0x80


def sequence(*items: bytes) -> bytes:
    """Return a SEQUENCE of encoded items."""
    return _tagged(0x30, b"".join(items))


def integer(value: int) -> bytes:
    """Return an INTEGER, 0 or more."""
    return _tagged(0x02, value.to_bytes(value.bit_length() // 8 + 1, "big"))


def octets(data: bytes) -> bytes:
    """Return an OCTET STRING."""
    return _tagged(0x04, data)


def null() -> bytes:
    """Return NULL."""
    return b"\x05\x00"


def object_id(dotted: str) -> bytes:
    """Return an OBJECT IDENTIFIER from its dotted form."""
    first, second, *rest = (int(part) for part in dotted.split("."))
    body = bytearray([40 * first + second])
    for part in rest:
        groups = [part & 0x7F]
        while part := part >> 7:
            groups.append(part & 0x7F | _LONG_FORM)
        body += bytes(reversed(groups))
    return _tagged(0x06, bytes(body))


def _tagged(tag: int, body: bytes) -> bytes:
    if len(body) < _LONG_FORM:
        return bytes([tag, len(body)]) + body
    length = len(body).to_bytes((len(body).bit_length() + 7) // 8, "big")
    return bytes([tag, _LONG_FORM | len(length)]) + length + body
