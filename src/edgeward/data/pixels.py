"""Image files to square uint8 arrays, with a named reason for each that cannot be used."""

from __future__ import annotations

import io
import warnings
import zipfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path, PurePosixPath
from typing import NamedTuple

import numpy as np
from PIL import ExifTags, Image, ImageOps

from edgeward.core.errors import UserError
from edgeward.data.config import Fit
from edgeward.data.door import WHERE, Door, said
from edgeward.data.labels import label_indices
from edgeward.data.listing import BadImage, Batch, images_per_chunk

SUFFIXES = frozenset(
    {".jpg", ".jpeg", ".png", ".bmp", ".tif", ".tiff", ".webp", ".dcm", ".dicom", ".ima"}
)
_FORMATS = ("JPEG", "PNG", "BMP", "DIB", "TIFF", "WEBP", "GIF", "JPEG2000", "PPM")
_EIGHT_BIT = frozenset({"1", "L", "LA", "P", "PA", "RGB", "RGBA", "RGBX", "CMYK", "YCbCr"})
_TURNS = {
    1: None,
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}  # EXIF orientation -> what `ImageOps.exif_transpose` does


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


class Stored(NamedTuple):
    """How an image file holds its picture: width and height, pixels, and the EXIF tag of how it is turned (1: it is not)."""

    width: int
    height: int
    orientation: int = 1


@contextmanager
def _picture(content: bytes, door: Door, whose: str = "") -> Iterator[Image.Image]:
    """Open an image file and look at its header only; whatever then goes wrong is a `BadImage`."""
    if not content:
        raise BadImage(f"{whose}empty file")
    try:
        with warnings.catch_warnings(), _unguarded(), _opened(content, door) as opened:
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            if opened.width * opened.height > door.limits.pixels:
                size = f"{opened.width}x{opened.height} pixels"
                raise BadImage(whose + door.beyond(size, "pixels"))
            frames = int(getattr(opened, "n_frames", 1))
            if frames > 1 and opened.format != "MPO":  # a camera's second picture is no frame
                if door.checks.frames == "invalid":
                    raise BadImage(
                        f"{whose}holds {frames} pictures: one per file is read (data.checks.frames {WHERE})"
                    )
                door.noted["several_frames"] += 1
            yield opened
    except BadImage:
        raise
    except Exception as error:  # decoders raise what they like
        raise BadImage(f"{whose}cannot be decoded ({said(error)})") from error


@contextmanager
def _unguarded() -> Iterator[None]:
    """Leave the size of pictures to `data.limits.pixels`, which also holds where a user raised it beyond Pillow's."""
    before, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None
    try:
        yield
    finally:
        Image.MAX_IMAGE_PIXELS = before


def _opened(content: bytes, door: Door) -> Image.Image:
    if content[128:132] == b"DICM":
        from edgeward.data.dicom_image import picture  # pydicom loads only where it is needed

        return picture(content, door)
    return Image.open(io.BytesIO(content), formats=_FORMATS)


def decode(
    content: bytes,
    *,
    size: int,
    channels: int,
    fit: Fit,
    min_side: int,
    door: Door | None = None,
) -> tuple[np.ndarray, Stored]:
    """Decode one image file.

    Returns
    -------
    pixels : uint8 (size, size, channels), turned upright as EXIF says.
    stored : how the file holds it, for its mask.

    Raises
    ------
    BadImage
        If the file is empty, truncated, no image, not 8 bits deep (DICOM: windowed to 8 bits), of several pictures,
        smaller than `min_side`, or larger than `data.limits` allows.
    """
    with _picture(content, door or Door()) as opened:
        if opened.mode not in _EIGHT_BIT:
            raise BadImage(f"pixel mode {opened.mode}: only 8-bit images are read")
        if min(opened.size) < min_side:
            raise BadImage(
                f"{opened.width}x{opened.height} pixels: the shorter side must be at least "
                f"{min_side} (min_side)"
            )
        stored = Stored(*opened.size, _orientation(opened))
        opened.load()
        image = ImageOps.exif_transpose(opened).convert("L" if channels == 1 else "RGB")
    pixels = np.asarray(square(image, size, fit), dtype=np.uint8)
    return pixels.reshape(size, size, channels), stored


def _orientation(image: Image.Image) -> int:
    found = image.getexif().get(ExifTags.Base.Orientation, 1)
    return found if isinstance(found, int) and found in _TURNS else 1


def decode_labels(content: bytes, *, stored: Stored, door: Door | None = None) -> np.ndarray:
    """Decode a mask and keep its values, uint8 (height, width) of the upright image, which is `stored` so.

    Of a palette image the values are the indices; a 1-bit image has 0 and 255.

    Raises
    ------
    BadImage
        If it cannot be decoded, has another size than its image, or nobody can tell which way it lies: the image is turned by
        its EXIF tag, and the mask would fit before and after.
    """
    with _picture(content, door or Door(), "its mask ") as opened:
        opened.load()
        if opened.mode not in {"1", "L", "P"}:
            raise BadImage(f"its mask has pixel mode {opened.mode}: 8-bit values are needed")
        turned = _orientation(opened)
        plain = opened if opened.mode == "P" else opened.convert("L")
        mask = Image.fromarray(np.asarray(plain))
    width, height, orientation = stored
    upright = (height, width) if orientation >= 5 else (width, height)
    if turned != orientation:
        if mask.size == upright and turned == 1 and orientation >= 5 and width != height:
            return np.asarray(mask)  # drawn on the picture as it is seen
        if mask.size == (width, height) and (turned != 1 or upright == mask.size):
            raise BadImage(
                f"the image is turned by its EXIF tag ({orientation}) and its mask by {turned}: which way the mask lies "
                "cannot be told; turn the pixels themselves"
            )
    if mask.size != (width, height):
        raise BadImage(
            f"its mask is {mask.width}x{mask.height} and the image {width}x{height} pixels"
        )
    turn = _TURNS[orientation]
    return np.asarray(mask if turn is None else mask.transpose(turn))


def fit_labels(labels: np.ndarray, size: int, fit: Fit, door: Door | None = None) -> np.ndarray:
    """Bring a label map, uint8 (h, w), to (size, size) by the nearest pixel, as `square` does its image.

    Raises
    ------
    BadImage
        If `fit` cuts more of the foreground away than `data.checks.lost`.
    """
    door = door or Door()
    if fit == "crop":
        short, (h, w) = min(labels.shape), labels.shape
        top, left = (h - short) // 2, (w - short) // 2
        there = np.count_nonzero(labels)
        seen = np.count_nonzero(labels[top : top + short, left : left + short])
        lost = 1 - seen / there if there else 0.0
        if lost > door.checks.lost:
            raise BadImage(
                f"data.source.fit 'crop' cuts {lost:.0%} of its foreground away; data.checks.lost {WHERE} allows "
                f"{door.checks.lost:.0%}. Set fit to pad or stretch"
            )
        door.noted["cropped_foreground"] += lost > 0
    return np.asarray(square(Image.fromarray(labels), size, fit, nearest=True))


def decode_mask(
    content: bytes, *, size: int, fit: Fit, stored: Stored, door: Door | None = None
) -> np.ndarray:
    """Decode a black and white mask (0 and 255) that belongs to an image: uint8 0/1 (size, size)."""
    labels = label_indices(decode_labels(content, stored=stored, door=door), {255: 1}, "HAM10000")
    return fit_labels(labels, size, fit, door)


def open_archive(path: Path, door: Door) -> zipfile.ZipFile:
    """Open a zip archive; UserError if it is none that is intact."""
    try:
        return zipfile.ZipFile(door.open(path, whole=False))
    except Exception as error:  # a damaged directory makes zipfile raise what it likes
        raise UserError(
            f"{path} is no intact zip archive ({said(error)}); get it again."
        ) from error


def images_of(
    archive: zipfile.ZipFile, place: Path
) -> Iterator[tuple[PurePosixPath, zipfile.ZipInfo]]:
    """Yield path and member of each image in an archive, which lies at `place`; UserError if a path leads out of it."""
    for member in archive.infolist():
        path = PurePosixPath(member.filename.replace("\\", "/"))
        if path.is_absolute() or ".." in path.parts:
            raise UserError(f"{place}: member '{member.filename}' leads out of the archive.")
        hidden = path.name.startswith(".") or "__MACOSX" in path.parts
        if not member.is_dir() and not hidden and path.suffix.lower() in SUFFIXES:
            yield path, member


class Store:
    """Files by stem, from folders and zip archives, read without unpacking.

    Parameters
    ----------
    places : folders or zip files.
    invalid : name and reason of what the folders hold and cannot be read.

    Raises
    ------
    UserError
        If an archive is damaged, a member's path leads out of it, or two files share a stem.
    """

    def __init__(self, places: Sequence[Path], door: Door | None = None) -> None:
        self._door = door or Door()
        self._archives: list[zipfile.ZipFile] = []
        self._at: dict[str, Callable[[], bytes]] = {}
        self.invalid: list[tuple[str, str]] = []
        for place in places:
            if place.is_dir():
                names, lost = self._door.files(place, SUFFIXES)
                self.invalid += lost
                for name in names:
                    path = place / name
                    self._add(path.stem, lambda p=path: self._door.read(p), place)  # type: ignore[misc]
            else:
                self._open_archive(place)

    def _open_archive(self, place: Path) -> None:
        archive = open_archive(place, self._door)
        self._archives.append(archive)
        for path, member in images_of(archive, place):
            self._add(path.stem, partial(read_member, archive, member, self._door), place)
            self._door.count(len(self._at), place)

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


def read_member(archive: zipfile.ZipFile, member: zipfile.ZipInfo, door: Door) -> bytes:
    """Return the bytes of a member of an archive; BadImage if it is too large or cannot be read."""
    most = door.limits.decoded_mib << 20
    door.check_bytes(member.file_size, "a content")
    try:
        with archive.open(member) as stream:
            content = stream.read(most + 1)  # whatever the directory says of its size
    except Exception as error:  # decompressors raise what they like
        raise BadImage(f"cannot be read from the archive ({said(error)})") from error
    door.check_bytes(len(content), "a content")
    return content


def decoded_batches(
    n: int,
    size: int,
    channels: int,
    read: Callable[[int], tuple[np.ndarray, np.ndarray | None]],
    door: Door | None = None,
) -> Iterator[Batch]:
    """Stream n images, each by ``read(row)`` -> pixels and mask, in bounded batches."""
    door = door or Door()
    step = images_per_chunk(size, channels)
    for start in range(0, n, step):
        rows: list[int] = []
        images: list[np.ndarray] = []
        masks: list[np.ndarray] = []
        invalid: list[tuple[int, str]] = []
        for row in range(start, min(start + step, n)):
            try:
                pixels, mask = door.admit(partial(read, row))
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
