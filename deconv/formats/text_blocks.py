"""Text files, plain or gzip, as blocks of whole lines in bounded memory."""

import gzip
import zlib
from collections.abc import Iterator
from pathlib import Path

from deconv.errors import InputError
from deconv.files import require_file

BLOCK_BYTES = 1 << 21
_MAX_LINE = 1 << 21  # bytes; more means that the file is something else
_GZIP = b"\x1f\x8b"
_BGZF_END = bytes.fromhex("1f8b08040000000000ff0600424302001b0003000000000000000000")


def whole_lines(path: Path) -> Iterator[bytes]:
    """Yield about `BLOCK_BYTES` at a time, each block ending with a line.

    A last line without an end gets one.

    Raises
    ------
    InputError
        If the file is missing, empty, damaged, cut off, no text, or is compressed where
        its suffix says that it is not (and the other way round).
    """
    require_file(path)
    _check_compression(path)
    opener = gzip.open if path.suffix.lower() == ".gz" else open
    rest = b""
    try:
        with opener(path, "rb") as file:
            while part := file.read(BLOCK_BYTES):
                rest += part
                cut = rest.rfind(b"\n") + 1
                if cut:
                    yield rest[:cut]
                    rest = rest[cut:]
                elif len(rest) > _MAX_LINE:
                    raise InputError(
                        "not lines", where=path, got=f"{len(rest)} bytes without a line end"
                    )
    except (OSError, EOFError, zlib.error) as error:
        raise InputError("the file is damaged or cut off", where=path, got=error) from error
    if rest:
        yield rest + b"\n"


def _check_compression(path: Path) -> None:
    says_gzip = path.suffix.lower() == ".gz"
    with path.open("rb") as file:
        head = file.read(14)
        if says_gzip != head.startswith(_GZIP):
            raise InputError(
                "suffix and content disagree", where=path,
                got="gzip" if head.startswith(_GZIP) else f"no gzip: {head[:4]!r}",
                expected="gzip, as .gz says" if says_gzip else "plain text, or a name with .gz",
            )  # fmt: skip
        # bgzip's blocks are gzip files of their own: without its end marker, a file that
        # was cut between two of them would look whole.
        if head.startswith(b"\x1f\x8b\x08\x04") and head[12:14] == b"BC":
            file.seek(max(path.stat().st_size - len(_BGZF_END), 0))
            if file.read() != _BGZF_END:
                raise InputError(
                    "the file is cut off", where=path, got="no end marker",
                    expected="bgzip's empty last block",
                )  # fmt: skip
