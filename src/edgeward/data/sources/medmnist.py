"""Any set of MedMNIST v2, of images or volumes: Yang et al., Sci. Data 10:41 (2023)."""

from __future__ import annotations

import ast
import hashlib
import importlib.util
import logging
import urllib.request
import zipfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from http.client import HTTPException
from pathlib import Path
from typing import IO, Any

import numpy as np
from PIL import Image

from edgeward.core.errors import UserError, unknown
from edgeward.core.io import atomic
from edgeward.data.config import MedmnistSource
from edgeward.data.door import BadImage, Door, said
from edgeward.data.findings import Findings
from edgeward.data.listing import Batch, Listing, RawCase, Request, images_per_chunk
from edgeward.data.pixels import square
from edgeward.data.store import SPLITS

log = logging.getLogger(__name__)

CITATION = "Yang et al.: MedMNIST v2, Sci. Data 10:41 (2023)"


def catalogue() -> dict[str, dict[str, Any]]:
    """Return medmnist.INFO without importing the package (which would import torch)."""
    spec = importlib.util.find_spec("medmnist")
    if spec is None or spec.origin is None:
        raise UserError("the package 'medmnist' is not installed: its catalogue is needed.")
    path = Path(spec.origin).with_name("info.py")
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.Assign) and getattr(node.targets[0], "id", "") == "INFO":
            return ast.literal_eval(node.value)
    raise UserError(f"{path} holds no INFO: this version of medmnist is not supported.")


def _md5(path: Path) -> str:
    with path.open("rb") as handle:
        return hashlib.file_digest(handle, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()


def _download(url: str, to: Path, md5: str) -> None:
    """Fetch a file to `to`; it appears there only if its MD5 is right."""
    log.info("downloading %s to %s", url, to)
    try:
        with atomic(to) as temporary:
            with urllib.request.urlopen(url, timeout=60) as answer, temporary.open("wb") as out:
                total, got, said = int(answer.headers.get("Content-Length") or 0), 0, 0
                while block := answer.read(1 << 20):
                    out.write(block)
                    got += len(block)
                    if got - said >= 64 << 20:
                        said = got
                        log.info("%d of %d MiB", got >> 20, total >> 20)
            found = _md5(temporary)
            if found != md5:
                raise UserError(
                    f"{url} has MD5 {found}, the medmnist package says {md5}: damaged or changed "
                    "on the way, not used. Try again."
                )
    except (OSError, HTTPException) as error:
        raise UserError(
            f"{url} could not be fetched to {to} ({error}). Download it by hand and put it there."
        ) from error


class _Member:
    """One array of an .npz, read from front to back without loading it."""

    def __init__(self, archive: zipfile.ZipFile, name: str, where: Path, door: Door) -> None:
        try:
            self._file: IO[bytes] = archive.open(f"{name}.npy")
            version = np.lib.format.read_magic(self._file)
            header = (
                np.lib.format.read_array_header_1_0
                if version == (1, 0)
                else np.lib.format.read_array_header_2_0
            )
            self.shape, fortran, self.dtype = header(self._file)
        except Exception as error:  # a damaged archive makes its reader raise what it likes
            raise UserError(f"{where}: array '{name}' cannot be read ({said(error)}).") from error
        if self.dtype.hasobject or fortran or self.dtype.kind not in "ui" or not self.shape:
            raise UserError(f"{where}: array '{name}' is {self.dtype}, whole numbers expected.")
        door.count(self.shape[0], where)
        self._where = f"{where}: array '{name}'"

    def take(self, n: int) -> np.ndarray:
        """Return the next n rows."""
        row = int(np.prod(self.shape[1:], dtype=np.int64)) * self.dtype.itemsize
        try:
            content = self._file.read(n * row)
        except Exception as error:  # decompressors raise what they like
            raise UserError(f"{self._where} is damaged ({said(error)}).") from error
        if len(content) != n * row:
            raise UserError(f"{self._where} is cut off.")
        return np.frombuffer(content, self.dtype).reshape(n, *self.shape[1:])


def _locate(source: MedmnistSource, data_root: Path | None) -> tuple[Path, dict[str, Any]]:
    """Return the .npz, there and with the right MD5, and its catalogue entry."""
    info = catalogue()
    if source.dataset not in info:
        raise unknown("MedMNIST set", source.dataset, info, "data.source.dataset (config/data/)")
    entry = info[source.dataset]
    suffix = "" if source.size == 28 else f"_{source.size}"
    url, md5 = entry[f"url{suffix}"], entry[f"MD5{suffix}"]
    name = f"{source.dataset}{suffix}.npz"
    if data_root is None:
        raise UserError(
            f"MedMNIST needs a data root for {source.path}/{name} (from {url}): name it with "
            "EDGEWARD_DATA_ROOT or --config data_root=..."
        )
    path = data_root / source.path / name
    if not path.is_file():
        if not source.download:
            raise UserError(
                f"{path} is missing: download {url} to it, or set data.source.download."
            )
        _download(url, path, md5)
    elif (found := _md5(path)) != md5:
        raise UserError(
            f"{path} has MD5 {found}, the medmnist package says {md5}: it is damaged or another "
            f"release. Remove it, and get it again from {url}."
        )
    return path, entry


@contextmanager
def _archive(path: Path, door: Door) -> Iterator[zipfile.ZipFile]:
    """Open the .npz, the same bytes that were checked."""
    try:
        archive = zipfile.ZipFile(
            door.open(path, whole=False)
        )  # its rows are read one after the other
    except (BadImage, zipfile.BadZipFile, OSError, ValueError) as error:
        raise UserError(f"{path} is no intact .npz ({said(error)}); get it again.") from error
    with archive:
        yield archive


def open_source(request: Request) -> Listing:
    """List a MedMNIST set in the order train, val, test; it publishes no patient ids."""
    source: MedmnistSource = request.source
    path, entry = _locate(source, request.data_root)
    classes = [entry["label"][str(i)] for i in range(len(entry["label"]))]
    several = source.targets == ("findings",)
    width = len(classes) if several else 1
    channels = int(entry["n_channels"])
    sides = (source.size,) * (3 if source.volumetric else 2)
    expected = (*sides, *((3,) if channels == 3 else ()))
    labels: list[np.ndarray] = []
    ids: list[str] = []
    sizes: dict[str, int] = {}
    door = request.door
    with _archive(path, door) as archive:
        for split in SPLITS:
            member = _Member(archive, f"{split}_labels", path, door)
            images = _Member(archive, f"{split}_images", path, door)
            if images.shape[1:] != expected or images.dtype != np.uint8:
                raise UserError(
                    f"{path}: {split}_images are {images.dtype} {images.shape[1:]}, uint8 {expected} "
                    "expected."
                )
            if images.shape[0] != member.shape[0] or int(np.prod(member.shape[1:])) != width:
                raise UserError(
                    f"{path}: {images.shape[0]} {split} images, labels of shape {member.shape}."
                )
            sizes[split] = images.shape[0]
            labels.append(member.take(images.shape[0]).reshape(-1, width).astype(np.int64))
            ids += [f"{split}_{i:06d}" for i in range(images.shape[0])]
    label = np.concatenate(labels)
    most = 1 if several else len(classes) - 1
    wrong = np.flatnonzero(((label < 0) | (label > most)).any(axis=1))
    if len(wrong):
        raise UserError(
            f"{path}: {len(wrong)} labels are none of the {len(classes)} classes, first {ids[wrong[0]]} "
            f"with {label[wrong[0]].tolist()}."
        )

    def batches() -> Iterator[Batch]:
        step, row = images_per_chunk(max(source.size, request.image_size), channels), 0
        with ExitStack() as stack:
            archive = stack.enter_context(_archive(path, door))
            for split in SPLITS:
                member = _Member(archive, f"{split}_images", path, door)
                for start in range(0, sizes[split], step):
                    n = min(step, sizes[split] - start)
                    yield Batch(np.arange(row, row + n), _fit(member.take(n), request.image_size))
                    row += n

    def read(row: int) -> RawCase:
        split = splits[row]
        if split not in held:  # one side at a time: they are read in order
            held.clear()
            with _archive(path, door) as archive:
                held[split] = _Member(archive, f"{split}_images", path, door).take(sizes[split])
        volume = held[split][row - int(np.flatnonzero(splits == split)[0])]
        # Nobody states a geometry: the axes as they are stored, one voxel a millimetre.
        return RawCase(np.swapaxes(volume, 0, 2)[None], None, np.eye(4))

    splits, held = np.repeat(SPLITS, [sizes[s] for s in SPLITS]), dict[str, np.ndarray]()
    return Listing(
        classes=[] if several else classes,
        ids=ids,
        labels=None if several else label[:, 0],
        findings=Findings(classes, label.astype(np.int8)) if several else None,
        groups=ids,
        splits=splits,
        channels=channels,
        batches=None if source.volumetric else batches,
        read=read if source.volumetric else None,
        source=f"MedMNIST v2 {source.dataset}, {source.size} {'voxels' if source.volumetric else 'pixels'}",
        licence=entry["license"],
        citation=CITATION,
        notes={"published_groups": False},
    )


def _fit(images: np.ndarray, size: int) -> np.ndarray:
    """Return images (b, s, s[, 3]) as (b, size, size, c)."""
    if images.ndim == 3:
        images = images[..., None]
    if images.shape[1] == size:
        return images
    grey = images.shape[-1] == 1
    resized = (square(Image.fromarray(i[..., 0] if grey else i), size, "stretch") for i in images)
    return np.stack([np.asarray(i).reshape(size, size, -1) for i in resized])
