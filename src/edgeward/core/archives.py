"""Archives of weights from outside, looked at before a library unpacks them."""

from __future__ import annotations

import stat
import zipfile
from pathlib import Path

from edgeward.core.errors import UserError


def check_regular(path: Path) -> None:
    """Refuse a pipe, a device or a folder in the place of a file; FileNotFoundError if there is nothing.

    Raises
    ------
    UserError
        With the path.
    """
    if not stat.S_ISREG(path.stat().st_mode):
        raise UserError(f"{path} is no regular file.")


def check_stored(path: Path) -> None:
    """Refuse a zip archive that would unpack to more than it is: torch stores tensors as they are.

    A file that is no zip archive passes; its reader says what it is.

    Raises
    ------
    UserError
        If a member is compressed, or all of them claim to be larger than the file.
    """
    check_regular(path)
    if not zipfile.is_zipfile(path):
        return
    size = path.stat().st_size
    try:
        with zipfile.ZipFile(path) as archive:
            members = archive.infolist()
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError) as error:
        raise UserError(f"{path} is no intact archive ({error}).") from error
    packed = [m.filename for m in members if m.compress_type != zipfile.ZIP_STORED]
    if packed:
        raise UserError(
            f"{path}: '{packed[0][:100]}' is compressed, as torch never writes it; the archive is not opened."
        )
    claimed = sum(m.file_size for m in members)
    if claimed > size:
        raise UserError(f"{path} claims {claimed} bytes and has {size}; the archive is not opened.")
