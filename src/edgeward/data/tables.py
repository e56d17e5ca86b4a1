"""CSV tables from outside: read whole, or one clear error."""

from __future__ import annotations

import csv
from pathlib import Path

from edgeward.core.errors import UserError


def read_table(path: Path) -> tuple[list[str], list[dict[str, str]]]:
    """Read a UTF-8 CSV with a header; commas, semicolons or tabs separate its fields, whichever its header has most of.

    Returns
    -------
    The column names, and each row as column -> text; absent trailing fields are "".

    Raises
    ------
    UserError
        If the file is no UTF-8 text, no CSV, or a row has more fields than the header.
    """
    try:
        with path.open(newline="", encoding="utf-8-sig") as handle:
            header = handle.readline()
            handle.seek(0)
            separator = max(",;\t", key=header.count)
            reader = csv.DictReader(handle, restval="", strict=True, delimiter=separator)
            columns = list(reader.fieldnames or ())
            rows = list(reader)
    except (UnicodeDecodeError, csv.Error) as error:
        raise UserError(f"{path} is no CSV in UTF-8 ({error}); save it as one.") from error
    for line, row in enumerate(rows, start=2):
        if None in row:
            raise UserError(f"{path}, row {line}: more fields than the header has columns.")
    return columns, rows
