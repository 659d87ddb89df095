"""Text files, plain or gzip, as blocks of whole lines in bounded memory."""

import gzip
import zlib
from collections.abc import Iterator
from pathlib import Path

from deconv.errors import InputError
from deconv.files import require_file

BLOCK_BYTES = 1 << 21
_MAX_LINE = 1 << 21  # bytes; more means that the file is something else
_BGZF_START = (b"\x1f\x8b\x08\x04", b"BC")  # at bytes 0 and 12
_BGZF_END = bytes.fromhex("1f8b08040000000000ff0600424302001b0003000000000000000000")


def whole_lines(path: Path) -> Iterator[bytes]:
    """Yield about `BLOCK_BYTES` at a time, each block ending with a line.

    A last line without an end gets one.

    Raises
    ------
    InputError
        If the file is missing, empty, damaged, cut off or no text.
    """
    require_file(path)
    refuse_cut_bgzip(path)
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


def refuse_cut_bgzip(path: Path) -> None:
    """Refuse bgzip without its end marker; other files are not looked at.

    Its blocks are gzip files of their own: one cut between two of them would look whole.

    Raises
    ------
    InputError
        If the marker is missing.
    """
    with path.open("rb") as file:
        head = file.read(14)
        if not head.startswith(_BGZF_START[0]) or head[12:] != _BGZF_START[1]:
            return
        file.seek(max(path.stat().st_size - len(_BGZF_END), 0))
        if file.read() != _BGZF_END:
            raise InputError(
                "the file is cut off", where=path, got="no end marker",
                expected="bgzip's empty last block",
            )  # fmt: skip
