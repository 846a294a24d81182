"""Text files are UTF-8, all of them: other bytes, read with stand-ins, would make two names one."""

from __future__ import annotations

import re
from pathlib import Path

from recsys.errors import UsageError


def check_utf8(path: Path) -> None:
    """Raise an error that names the first line of a file that is no UTF-8."""
    try:
        with open(path, encoding="utf-8") as file:
            while file.read(1 << 20):
                pass
    except UnicodeDecodeError:
        with open(path, encoding="utf-8", errors="surrogateescape") as file:
            number, byte = next(
                (number, ord(found[0]) - 0xDC00)
                for number, line in enumerate(file, start=1)
                if (found := re.search("[\udc80-\udcff]", line))
            )
        raise UsageError(
            f"{path}:{number}: expected UTF-8 text, got the byte 0x{byte:02x}; convert the file with `iconv -t UTF-8`, or "
            "unpack it first if it is an archive"
        ) from None
