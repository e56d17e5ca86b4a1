"""CSV tables from outside: read whole, or one clear error."""

from __future__ import annotations

import csv
import io
from pathlib import Path

from edgeward.core.errors import UserError
from edgeward.data.door import Door


def read_table(root: Path, name: str, door: Door) -> tuple[list[str], list[dict[str, str]]]:
    """Read a UTF-8 CSV below `root` with a header; commas, semicolons or tabs separate its fields, whichever its header has most of.

    Returns
    -------
    The column names, and each row as column -> text; absent trailing fields are "".

    Raises
    ------
    UserError
        If the file is no UTF-8 text, no CSV, too long or without a row, or a row has more fields than the header.
    """
    path, text = root / name, door.text(root, name, "CSV")
    separator = max(",;\t", key=text.partition("\n")[0].count)
    rows = []
    try:
        lines = io.StringIO(text, newline="")
        reader = csv.DictReader(lines, restval="", strict=True, delimiter=separator)
        columns = list(reader.fieldnames or ())
        for row in reader:
            rows.append(row)
            door.count(len(rows), path)
    except csv.Error as error:
        raise UserError(f"{path} is no CSV in UTF-8 ({error}); save it as one.") from error
    if not rows:
        raise UserError(f"{path} has no rows below its header.")
    for line, row in enumerate(rows, start=2):
        if None in row:
            raise UserError(f"{path}, row {line}: more fields than the header has columns.")
    return columns, rows
