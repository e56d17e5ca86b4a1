"""The metadata of a LiteRT file."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import flatbuffers
import numpy as np
from ai_edge_litert import schema_py_generated as schema

NAME = "edgeward"
IDENTIFIER = b"TFL3"


def stamp(path: Path, properties: Mapping[str, Any]) -> None:
    """Write properties into a file, as JSON under one name."""
    model = schema.ModelT.InitFromPackedBuf(path.read_bytes(), 0)
    buffer, entry = schema.BufferT(), schema.MetadataT()
    text = json.dumps(dict(properties), sort_keys=True).encode()
    buffer.data = np.frombuffer(text, np.uint8)
    entry.name, entry.buffer = NAME, len(model.buffers)
    model.buffers.append(buffer)
    model.metadata = [*(model.metadata or []), entry]
    builder = flatbuffers.Builder(path.stat().st_size + len(text))
    builder.Finish(model.Pack(builder), IDENTIFIER)
    path.write_bytes(builder.Output())
