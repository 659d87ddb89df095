"""Lines of JSON that tell whether they are whole: each ends in a checksum of what is before it."""

import json
import re
import zlib
from collections.abc import Mapping
from typing import Any

_LINE = re.compile(rb'(.*),"crc":"([0-9a-f]{8})"\}')


def sealed(content: Mapping[str, Any]) -> bytes:
    """Return an object as a line."""
    body = json.dumps(content, separators=(",", ":"))[:-1].encode()
    return b'%s,"crc":"%08x"}\n' % (body, zlib.crc32(body))


def unsealed(line: bytes) -> dict[str, Any] | None:
    """Return the object of a line, None if it is not what was written."""
    found = _LINE.fullmatch(line.rstrip(b"\n"))
    if found is None or zlib.crc32(found[1]) != int(found[2], 16):
        return None
    content: dict[str, Any] = json.loads(found[1] + b"}")
    return content
