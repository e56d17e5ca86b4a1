"""Image files to square uint8 arrays, with a named reason for each that cannot be used."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path, PurePosixPath

import numpy as np
from PIL import Image, ImageOps

from edgeward.core.errors import UserError
from edgeward.data.config import Fit
from edgeward.data.listing import BadImage, Batch, images_per_chunk
from edgeward.data.paths import inside

SUFFIXES = frozenset(
    {".jpg", ".jpeg", ".png", ".bmp", ".tif", ".tiff", ".webp", ".dcm", ".dicom", ".ima"}
)
MAX_FILE_BYTES = 256 << 20
_UNDECODABLE = (OSError, ValueError, SyntaxError, EOFError, Image.DecompressionBombError)
_EIGHT_BIT = frozenset({"1", "L", "LA", "P", "PA", "RGB", "RGBA", "RGBX", "CMYK", "YCbCr"})


def square(image: Image.Image, size: int, fit: Fit, *, nearest: bool = False) -> Image.Image:
    """Bring an image to size x size.

    crop keeps the centre and the proportions, stretch keeps all and bends the proportions, pad
    keeps both and adds black. Reduction averages over the source pixels (Lanczos window).
    """
    method = Image.Resampling.NEAREST if nearest else Image.Resampling.LANCZOS
    if fit == "crop":
        return ImageOps.fit(image, (size, size), method)
    if fit == "pad":
        return ImageOps.pad(image, (size, size), method)
    return image.resize((size, size), method)


def _decoded(content: bytes, min_side: int) -> tuple[Image.Image, tuple[int, int]]:
    """Return an image of 8 bits, upright, and its width and height as stored."""
    if not content:
        raise BadImage("empty file")
    try:
        with _opened(content) as opened:
            if opened.mode not in _EIGHT_BIT:
                raise BadImage(f"pixel mode {opened.mode}: only 8-bit images are read")
            if min(opened.size) < min_side:
                raise BadImage(
                    f"{opened.width}x{opened.height} pixels: the shorter side must be at least "
                    f"{min_side} (min_side)"
                )
            shape = opened.size
            opened.load()
            return ImageOps.exif_transpose(opened), shape
    except _UNDECODABLE as error:
        raise BadImage(f"cannot be decoded ({error})") from error


def _opened(content: bytes) -> Image.Image:
    if content[128:132] == b"DICM":
        from edgeward.data.dicom_image import picture  # pydicom loads only where it is needed

        return picture(content)
    return Image.open(io.BytesIO(content))


def decode(
    content: bytes, *, size: int, channels: int, fit: Fit, min_side: int
) -> tuple[np.ndarray, tuple[int, int]]:
    """Decode one image file.

    Returns
    -------
    pixels : uint8 (size, size, channels).
    shape : width and height as stored, pixels.

    Raises
    ------
    BadImage
        If the file is empty, truncated, no image, not 8 bits deep (DICOM: windowed to 8 bits), or
        smaller than `min_side`.
    """
    image, shape = _decoded(content, min_side)
    image = image.convert("L" if channels == 1 else "RGB")
    pixels = np.asarray(square(image, size, fit), dtype=np.uint8)
    return pixels.reshape(size, size, channels), shape


def decode_mask(content: bytes, *, size: int, fit: Fit, shape: tuple[int, int]) -> np.ndarray:
    """Decode a mask that belongs to an image of `shape` (width, height): uint8 0/1 (size, size)."""
    return (decode_labels(content, size=size, fit=fit, shape=shape) >= 128).astype(np.uint8)


def decode_labels(content: bytes, *, size: int, fit: Fit, shape: tuple[int, int]) -> np.ndarray:
    """Decode a mask and keep its values, uint8 (size, size), by the nearest pixel.

    Of a palette image the values are the indices; a 1-bit image has 0 and 255.
    """
    try:
        with Image.open(io.BytesIO(content)) as opened:
            opened.load()
            if opened.mode not in {"1", "L", "P"}:
                raise BadImage(f"its mask has pixel mode {opened.mode}: 8-bit values are needed")
            mask = Image.fromarray(
                np.asarray(opened if opened.mode == "P" else opened.convert("L"))
            )
    except _UNDECODABLE as error:
        raise BadImage(f"its mask cannot be decoded ({error})") from error
    if mask.size != shape:
        raise BadImage(
            f"its mask is {mask.width}x{mask.height} and the image {shape[0]}x{shape[1]} pixels"
        )
    return np.asarray(square(mask, size, fit, nearest=True))


class Store:
    """Files by stem, from folders and zip archives, read without unpacking.

    Parameters
    ----------
    places : folders or zip files.

    Raises
    ------
    UserError
        If an archive is damaged, a member's path leads out of it, or two files share a stem.
    """

    def __init__(self, places: Sequence[Path]) -> None:
        self._archives: list[zipfile.ZipFile] = []
        self._at: dict[str, Callable[[], bytes]] = {}
        for place in places:
            if place.is_dir():
                files = (p for p in sorted(place.rglob("*")) if p.suffix.lower() in SUFFIXES)
                for path in files:
                    inside(place, str(path.relative_to(place)))
                    self._add(path.stem, lambda p=path: read_file(p), place)  # type: ignore[misc]
            else:
                self._open_archive(place)

    def _open_archive(self, place: Path) -> None:
        try:
            archive = zipfile.ZipFile(place)
        except (zipfile.BadZipFile, OSError) as error:
            raise UserError(f"{place} is no intact zip archive ({error}); get it again.") from error
        self._archives.append(archive)
        for member in archive.infolist():
            path = PurePosixPath(member.filename.replace("\\", "/"))
            if path.is_absolute() or ".." in path.parts:
                raise UserError(f"{place}: member '{member.filename}' leads out of the archive.")
            hidden = path.name.startswith(".") or "__MACOSX" in path.parts
            if not member.is_dir() and not hidden and path.suffix.lower() in SUFFIXES:
                self._add(path.stem, lambda a=archive, m=member: read_member(a, m), place)  # type: ignore[misc]

    def _add(self, stem: str, read: Callable[[], bytes], place: Path) -> None:
        if stem in self._at:
            raise UserError(f"{place}: more than one file is called '{stem}'; keep one of them.")
        self._at[stem] = read

    def __contains__(self, stem: str) -> bool:
        return stem in self._at

    def stems(self) -> list[str]:
        """Return the names of all files, without suffix."""
        return list(self._at)

    def read(self, stem: str) -> bytes:
        """Return the bytes of a file; BadImage if they cannot be had."""
        return self._at[stem]()


def read_file(path: Path) -> bytes:
    """Return the bytes of a file; BadImage if it is too large or cannot be read."""
    try:
        if path.stat().st_size > MAX_FILE_BYTES:
            raise BadImage(f"larger than {MAX_FILE_BYTES >> 20} MiB")
        return path.read_bytes()
    except OSError as error:
        raise BadImage(f"cannot be read ({error})") from error


def read_member(archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> bytes:
    """Return the bytes of a member of an archive; BadImage if it is too large or cannot be read."""
    if member.file_size > MAX_FILE_BYTES:
        raise BadImage(f"larger than {MAX_FILE_BYTES >> 20} MiB")
    try:
        return archive.read(member)
    except (zipfile.BadZipFile, OSError, EOFError, RuntimeError, NotImplementedError) as error:
        raise BadImage(f"cannot be read from the archive ({error})") from error


def decoded_batches(
    n: int, size: int, channels: int, read: Callable[[int], tuple[np.ndarray, np.ndarray | None]]
) -> Iterator[Batch]:
    """Stream n images, each by ``read(row)`` -> pixels and mask, in bounded batches."""
    step = images_per_chunk(size, channels)
    for start in range(0, n, step):
        rows: list[int] = []
        images: list[np.ndarray] = []
        masks: list[np.ndarray] = []
        invalid: list[tuple[int, str]] = []
        for row in range(start, min(start + step, n)):
            try:
                pixels, mask = read(row)
            except BadImage as error:
                invalid.append((row, str(error)))
                continue
            rows.append(row)
            images.append(pixels)
            if mask is not None:
                masks.append(mask)
        yield Batch(
            rows=np.array(rows, np.int64),
            images=np.stack(images) if images else np.empty((0, size, size, channels), np.uint8),
            masks=np.stack(masks) if masks else None,
            invalid=tuple(invalid),
        )
