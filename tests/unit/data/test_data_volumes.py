"""Volumes: orientation, resampling, intensity, the flat arrays, and the drawn ones."""

from __future__ import annotations

import hashlib
import sys
import tracemalloc
from dataclasses import replace
from itertools import permutations, product
from pathlib import Path
from types import ModuleType
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError
from refusals import naming
from volume_factory import blob, config

from edgeward.core.errors import UserError
from edgeward.data import stage
from edgeward.data.audit import volume_fingerprint
from edgeward.data.config import DataConfig
from edgeward.data.door import Door
from edgeward.data.listing import BadImage, Listing, RawCase, Request
from edgeward.data.sources import phantom3d
from edgeward.data.split import strata
from edgeward.data.store import SPLITS, open_prepared
from edgeward.data.volume_config import VolumeConfig
from edgeward.data.volumes import grid, phantom
from edgeward.data.volumes.intensity import scaled
from edgeward.data.volumes.stream import brought

TINY: dict[str, Any] = {
    "n_train": 6, "n_val": 3, "n_test": 4, "shape": [20, 32, 36], "spacing": [4.0, 3.0, 2.5],
}  # fmt: skip


def tiny(**changes: Any) -> DataConfig:
    volume = {"spacing": [4.0, 3.0, 2.5]}
    return config(
        "phantom3d",
        source=TINY | changes.pop("source", {}),
        volume=volume | changes.pop("volume", {}),
        calibration={"n": 4, "min_per_class": 1},
        **changes,
    )


def affine_of(axes: tuple[int, ...], signs: tuple[int, ...], spacing: tuple[float, ...]) -> Any:
    affine = np.zeros((4, 4))
    for column, (row, sign) in enumerate(zip(axes, signs, strict=True)):
        affine[row, column] = sign * spacing[column]
    affine[:, 3] = [5, -7, 11, 1]
    return affine


@pytest.mark.parametrize("axes", list(permutations(range(3))))
def test_orientation_agrees_with_nibabel_and_keeps_every_place(axes: tuple[int, ...]) -> None:
    array = np.arange(4 * 5 * 6).reshape(4, 5, 6)
    for signs in product((1, -1), repeat=3):
        affine = affine_of(axes, signs, (1.0, 2.0, 3.0))
        turned, at = grid.oriented(np.stack([array, -array]), affine)
        reference = nib.as_closest_canonical(nib.Nifti1Image(array.astype(np.int16), affine))
        np.testing.assert_array_equal(turned[0], np.asarray(reference.dataobj).transpose(2, 1, 0))
        np.testing.assert_array_equal(turned[1], -turned[0])
        np.testing.assert_allclose(at.affine, reference.affine)
        assert at.spacing == tuple(reference.header.get_zooms()[::-1])
        i, j, k = 1, 2, 3
        w, h, d = np.argwhere(turned[0].transpose(2, 1, 0) == array[i, j, k])[0]
        np.testing.assert_allclose(at.affine @ [w, h, d, 1], affine @ [i, j, k, 1])


@pytest.mark.parametrize("spacing", [(2.0, 2.0, 2.0), (1.3, 0.7, 3.1)])
def test_resampling_agrees_with_simpleitk(spacing: tuple[float, float, float]) -> None:
    image, mask = blob((15, 18, 21), 0)
    old = grid.oriented(image, affine_of((2, 1, 0), (1, 1, 1), (3.0, 1.0, 1.5)))[1]
    new = grid.resampled_grid(old, spacing)
    resampler = sitk.ResampleImageFilter()
    resampler.SetSize([int(n) for n in new.shape[::-1]])
    resampler.SetOutputSpacing(new.spacing[::-1])
    resampler.SetOutputOrigin(
        [(n - o) / 2 for n, o in zip(new.spacing, old.spacing, strict=True)][::-1]
    )
    resampler.SetUseNearestNeighborExtrapolator(True)
    source = sitk.GetImageFromArray(image.astype(np.float32))
    source.SetSpacing(old.spacing[::-1])
    expected = sitk.GetArrayFromImage(resampler.Execute(source))
    ours = grid.resample(image.astype(np.float32), old, new, 1)
    inner = tuple(slice(3, -3) for _ in range(3))
    np.testing.assert_allclose(ours[inner], expected[inner], rtol=1e-4)
    resampler.SetInterpolator(sitk.sitkNearestNeighbor)
    source = sitk.GetImageFromArray(mask)
    source.SetSpacing(old.spacing[::-1])
    labels = grid.resample_mask(mask, old, new, "nearest")
    # a sample half way between two voxels may go either way
    assert np.mean(labels != sitk.GetArrayFromImage(resampler.Execute(source))) < 0.01


def test_resampling_covers_the_same_extent() -> None:
    ramp = np.broadcast_to(np.arange(12.0, dtype=np.float32)[:, None, None], (12, 8, 8))
    old = grid.oriented(ramp.transpose(2, 1, 0), np.eye(4))[1]
    new = grid.resampled_grid(old, (3.0, 1.0, 1.0))
    assert new.shape == (4, 8, 8)
    np.testing.assert_allclose(grid.resample(ramp, old, new, 1)[:, 0, 0], [1, 4, 7, 10])
    assert new.affine[2, 3] == 1.0
    same = grid.resampled_grid(old, (1.0, 1.0, 1.0))
    assert grid.resample(ramp, old, same, 1) is ramp


def test_a_linear_mask_is_the_largest_interpolated_membership() -> None:
    mask = np.zeros((16, 16, 16), np.uint8)
    mask[4:12, 4:12, 4:12] = 1
    mask[7:9, 7:9, 7:9] = 2
    old = grid.Grid(mask.shape, (2.0, 2.0, 2.0), np.diag([2.0, 2.0, 2.0, 1.0]))
    new = grid.resampled_grid(old, (1.0, 1.0, 1.0))
    fine = grid.resample_mask(mask, old, new, "linear")
    members = [grid.resample((mask == v).astype(np.float32), old, new, 1) for v in range(3)]
    top = np.max(members, axis=0)
    chosen = np.take_along_axis(np.stack(members), fine[None].astype(int), 0)[0]
    np.testing.assert_allclose(chosen, top, atol=2e-6)
    assert set(np.unique(fine)) == {0, 1, 2}
    nearest = grid.resample_mask(mask, old, new, "nearest")
    np.testing.assert_array_equal(nearest, mask.repeat(2, 0).repeat(2, 1).repeat(2, 2))


@pytest.mark.parametrize(
    ("affine", "reason"),
    [
        (np.diag([1.0, 0.0, 1.0, 1.0]), "spacing"),
        (np.array([[1, 0.3, 0, 0], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1.0]]), "right angles"),
        (np.diag([1.0, np.nan, 1.0, 1.0]), "not finite"),
    ],
)
def test_an_affine_without_a_grid_is_refused(affine: np.ndarray, reason: str) -> None:
    with pytest.raises(BadImage, match=reason):
        grid.check_affine(affine)


def volume(**changes: Any) -> VolumeConfig:
    found = config("phantom3d", volume=changes).volume
    assert found is not None
    return found


def test_intensity_is_what_its_name_says() -> None:
    values = np.arange(1000, dtype=np.float32).reshape(1, 10, 10, 10)
    window = scaled(values, volume(intensity={"kind": "window", "low": 100, "high": 300}))
    assert window.dtype == np.float16
    assert window[0, 0].max() == 0
    assert window.reshape(-1)[200] == 127.5
    assert window[0, 3:].min() == 255
    z = {"kind": "zscore", "clip": 1.0, "region": "all"}
    unit = scaled(values, volume(intensity=z)).astype(float) / 255 * 2 - 1
    expected = np.clip((values - values.mean()) / values.std(), -1, 1)
    np.testing.assert_allclose(unit, expected, atol=2e-3)
    p = {"kind": "percentile", "low": 10, "high": 90, "region": "nonzero"}
    low, high = np.percentile(values[values > 0], [10, 90])
    expected = np.clip((values - low) / (high - low) * 255, 0, 255)
    np.testing.assert_allclose(scaled(values, volume(intensity=p)), expected, atol=0.07)
    two = np.concatenate([values, values * 5])
    both = scaled(two, volume(intensity=z))
    np.testing.assert_allclose(both[0], both[1], atol=0.13)
    for how in (z, p):
        with pytest.raises(BadImage, match="one value"):
            scaled(np.ones((1, 8, 8, 8)), volume(intensity=how))
    mostly = np.zeros((1, 8, 8, 8))
    mostly[0, 0, 0, 0] = 1
    with pytest.raises(BadImage, match=naming("data.volume.intensity", 10, 90)):
        scaled(mostly, volume(intensity=p | {"region": "all"}))


@settings(max_examples=25, deadline=None)
@given(
    axes=st.permutations(range(3)),
    signs=st.tuples(*[st.sampled_from((1, -1))] * 3),
    spacing=st.tuples(*[st.sampled_from((0.8, 1.0, 1.7))] * 3),
)
def test_labels_find_the_way_back_to_the_file(axes: Any, signs: Any, spacing: Any) -> None:
    image, mask = blob((14, 16, 18), 1)
    affine = affine_of(tuple(axes), signs, spacing)
    case = brought(
        RawCase(image[None], mask, affine), volume(spacing=[0.5, 0.4, 0.5], min_side=8), Door()
    )
    assert case.mask is not None
    back = grid.to_source(case.mask, _volume(case, affine))
    assert np.mean(back != mask) < 0.02  # a finer grid, so only borders can move
    same = brought(
        RawCase(image[None], mask, affine), volume(spacing=case.source.spacing, min_side=8), Door()
    )
    assert same.mask is not None
    np.testing.assert_array_equal(grid.to_source(same.mask, _volume(same, affine)), mask)
    assert same.grid.affine.tolist() == same.source.affine.tolist()


def _volume(case: Any, affine: np.ndarray) -> Any:
    from edgeward.data.store import Volume

    return Volume(0, 0, case.image.shape, case.grid.spacing, case.grid.affine, (14, 16, 18), affine)


def test_phantom_volumes_are_what_geometry_says() -> None:
    source = tiny(source={"shape": [40, 48, 52], "spacing": [2.0, 2.0, 1.5], "noise": 5}).source
    assert source.kind == "phantom3d"
    voxel = float(np.prod(source.spacing))
    seen = 0
    for number in range(6):
        image, mask, shown = phantom.draw(source, 3, 0, number, 2)
        seen += len(shown.lesions)
        organ, lesions = np.sum(mask > 0) * voxel, np.sum(mask == 2) * voxel
        ball = 4 / 3 * np.pi
        assert organ == pytest.approx(ball * np.prod(shown.organ.axes), rel=0.03)
        exact = sum(ball * np.prod(lesion.axes) for lesion in shown.lesions)
        assert lesions == pytest.approx(exact, rel=0.2)
        assert image[mask == 1].mean() == pytest.approx(phantom.ORGAN, abs=6)
        for lesion in shown.lesions:
            at = [
                round(c / s + (n - 1) / 2)
                for c, s, n in zip(lesion.centre, source.spacing, source.shape, strict=True)
            ]
            assert mask[tuple(at)] == 2
        assert image[0, 0, 0] == pytest.approx(phantom.AIR, abs=5 * source.noise)
    assert seen >= 10
    again, _, _ = phantom.draw(source, 3, 0, 5, 2)
    np.testing.assert_array_equal(again, image)


def test_phantom_volumes_are_the_same_bytes_everywhere() -> None:
    source = tiny().source
    assert source.kind == "phantom3d"
    image, mask, _ = phantom.draw(source, 7, 1, 2, 3)
    digest = hashlib.sha256(image.tobytes() + mask.tobytes()).hexdigest()
    assert digest == "67db560f30726ca0ca3bfdad7f7ff33b452238cd43c8febb2c3458b873ba0cca"


def test_phantom3d_is_prepared_as_the_contract_says(tmp_path: Path) -> None:
    cfg = tiny()
    metrics = stage.run(cfg, out=tmp_path, data_root=None)
    data = open_prepared(tmp_path)
    assert (data.task, data.spatial_dims, data.n_labels) == ("segmentation", 3, 3)
    assert data.images.dtype == np.float16
    assert data.masks is not None
    assert data.images.ndim == data.masks.ndim == 1
    assert data.masks.dtype == np.uint8
    assert metrics["n_train"] == 6
    card = data.card
    assert card.classes == ["organ", "lesion"]
    assert card.image_shape == [20, 32, 36, 1]
    listing = phantom3d.open_source(Request(cfg.source, 0, cfg.seed, None))
    assert listing.read is not None
    counts = np.zeros(3, int)
    total = []
    for i in range(13):
        image, mask = data.case(i)
        assert image.dtype == np.float32
        assert image.shape == (1, 20, 32, 36)
        assert mask.dtype == np.uint8
        raw = listing.read(i)
        assert raw.mask is not None
        np.testing.assert_array_equal(mask, raw.mask.transpose(2, 1, 0))
        expected = np.clip((raw.image[0].transpose(2, 1, 0) + 160) / 400 * 255, 0, 255)
        np.testing.assert_allclose(image[0], expected, atol=0.13)
        assert data.spacing(i) == (4.0, 3.0, 2.5)
        view, _ = data.view(i)
        assert np.shares_memory(view, data.images)
        if data.splits[i] == "train":
            counts += np.bincount(mask.reshape(-1), minlength=3)
            total.append(image)
    np.testing.assert_allclose(card.train_prior, counts / counts.sum())
    assert card.pixels is not None
    assert card.pixels["train"] == dict(
        zip(["background", "organ", "lesion"], counts.tolist(), strict=True)
    )
    np.testing.assert_allclose(card.channel_mean, np.mean(total) / 255, rtol=1e-5)
    np.testing.assert_allclose(card.channel_std, np.std(total) / 255, rtol=1e-4)
    for split in SPLITS:
        own = [data.case(int(i))[1] for i in data.indices(split)]
        assert card.counts[split]["lesion"] == sum((m == 2).any() for m in own) >= 1
    assert set(data.calibration) <= set(data.indices("train"))
    assert {"images.npy", "masks.npy", "volumes.csv"} < set(card.hashes)
    assert (tmp_path / "montage.png").stat().st_size > 1000
    other = stage.run(cfg, out=tmp_path / "again", data_root=None)
    assert other["n_train"] == 6
    assert open_prepared(tmp_path / "again").card.hashes == card.hashes


def planted(
    monkeypatch: pytest.MonkeyPatch, cases: list[Any], groups: list[str] | None = None
) -> None:
    """Let phantom3d open cases of the test's own; an exception among them is raised."""

    def read(row: int) -> RawCase:
        if isinstance(cases[row], Exception):
            raise cases[row]
        return cases[row]

    listing = Listing(
        ids=[f"case{i}" for i in range(len(cases))],
        groups=groups or [f"case{i}" for i in range(len(cases))],
        foreground=["box", "corner"],
        splits=None,
        read=read,
        source="test",
        licence="none",
        citation="none",
    )
    monkeypatch.setattr(phantom3d, "open_source", lambda request: listing)


STRATIFIED = {"kind": "stratified", "train": 0.5, "val": 0.2, "test": 0.3}
ZSCORE = {"kind": "zscore", "clip": 3.0, "region": "all"}


def cases(n: int = 10, seed: int = 0) -> list[Any]:
    return [
        RawCase(image[None], mask, np.diag([2.5, 3.0, 4.0, 1.0]))
        for image, mask in (blob((24, 20, 18), seed + i) for i in range(n))
    ]


def test_unusable_volumes_are_named_or_left_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given_cases = cases()
    flat = RawCase(np.ones((1, 24, 20, 18)), given_cases[0].mask, given_cases[0].affine)
    thin = RawCase(
        given_cases[0].image[..., :4], given_cases[0].mask[..., :4], given_cases[0].affine
    )
    pair = RawCase(given_cases[0].image.repeat(2, 0), given_cases[0].mask, given_cases[0].affine)
    planted(monkeypatch, [*given_cases, BadImage("a planted fault"), flat, thin, pair])
    cfg = tiny(split=STRATIFIED, volume={"intensity": ZSCORE})
    with pytest.raises(UserError) as error:
        stage.run(cfg, out=tmp_path, data_root=None)
    for words in (
        "4 volumes", "case10: a planted fault", "case11: all its voxels have one value",
        "case12: 4x20x24 voxels", "min_side", "case13: has 2 channels, the first case has 1",
    ):  # fmt: skip
        assert words in str(error.value)
    assert not (tmp_path / "card.json").exists()
    metrics = stage.run(cfg.model_copy(update={"invalid": "skip"}), out=tmp_path, data_root=None)
    assert metrics["n_invalid"] == 4
    data = open_prepared(tmp_path)
    assert len(data.volumes or []) == 10
    np.testing.assert_array_equal(data.case(9)[1], given_cases[9].mask.transpose(2, 1, 0))


def test_identical_and_shared_volumes_are_leaks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given_cases = cases(8)
    brighter = RawCase(
        given_cases[1].image * 2, given_cases[1].mask, given_cases[1].affine
    )  # the same once normalised
    sides = ["train"] * 4 + ["val"] * 2 + ["test"] * 4
    planted(monkeypatch, [*given_cases, given_cases[0], brighter])
    cfg = tiny()
    listing = phantom3d.open_source(Request(cfg.source, 0, cfg.seed, None))
    fixed = replace(listing, splits=np.array(sides))
    monkeypatch.setattr(phantom3d, "open_source", lambda request: fixed)
    with pytest.raises(
        UserError, match=naming("identical: 2", "['case0', 'case8']", "['case1', 'case9']")
    ):
        stage.run(tiny(volume={"intensity": ZSCORE}), out=tmp_path, data_root=None)
    audit = {"identical": "warn", "near_levels": 0.5}
    metrics = stage.run(
        tiny(volume={"intensity": ZSCORE}, audit=audit), out=tmp_path, data_root=None
    )
    found = open_prepared(tmp_path).card.leakage
    assert (metrics["leak_identical"], metrics["leak_near_identical"]) == (2, 0)
    assert {tuple(f.ids) for f in found.findings} == {("case0", "case8"), ("case1", "case9")}


def test_a_volume_fingerprint_sees_the_picture_not_the_noise() -> None:
    image, _ = blob((24, 20, 18), 0)
    other, _ = blob((24, 20, 18), 1)
    moved = np.roll(image, 6, 0)
    base, thumb = volume_fingerprint(image[None])
    assert thumb.shape == (1, 512)
    assert volume_fingerprint(image[None] * 2)[0] == base
    near = np.abs(thumb.astype(int) - volume_fingerprint(other[None])[1]).mean()
    far = np.abs(thumb.astype(int) - volume_fingerprint(moved[None])[1]).mean()
    assert near < 4 < far


def test_strata_are_the_rarest_finding() -> None:
    pixels = np.array([[9, 5, 0]] * 5 + [[9, 5, 1]] * 3 + [[9, 0, 0]] * 4 + [[9, 0, 2]])
    groups = [f"g{i}" for i in range(13)]
    labels, names = strata(pixels[:, 1:] > 0, groups, ["organ", "lesion"])
    assert [names[i] for i in labels] == ["organ"] * 5 + ["lesion"] * 3 + ["none"] * 4 + ["lesion"]
    few = [*groups[:5], "a", "a", "a", *groups[8:12], "a"]
    labels, names = strata(pixels[:, 1:] > 0, few, ["organ", "lesion"])
    assert [names[i] for i in labels] == ["organ"] * 8 + ["none"] * 4 + ["organ"]


def test_a_class_without_cases_on_a_side_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given_cases = cases(9)
    bare = [RawCase(c.image, np.minimum(c.mask, 1), c.affine) for c in given_cases[1:]]
    planted(monkeypatch, [given_cases[0], *bare])
    with pytest.raises(UserError, match=naming("'val'", "corner", "data.split.kind")):
        stage.run(
            tiny(split=STRATIFIED, volume={"intensity": ZSCORE}), out=tmp_path, data_root=None
        )


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"image_size": 64}, ["image_size", "volume"]),
        ({"volume": None}, ["image_size", "volume"]),
        ({"volume": None, "image_size": 64}, ["source.kind", "'phantom3d'", "volume"]),
        (
            {"volume": {"intensity": {"kind": "window", "low": 3, "high": 3}}},
            ["volume.intensity.window", "low", "high"],
        ),
        ({"volume": {"spacing": [1.0, 0.0, 1.0]}}, ["volume.spacing.1", 0]),
        ({"source": {"lesion_radius": [9.0, 8.0]}}, ["source.phantom3d", "lesion_radius"]),
    ],
)
def test_a_config_that_contradicts_itself_is_refused(changes: Any, words: list[object]) -> None:
    with pytest.raises(ValidationError, match=naming(*words)):
        config("phantom3d", **changes)


def test_a_reader_of_ones_own_gives_volumes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = ModuleType("own_reader")
    given_cases = cases(8)

    def open_source(request: Any) -> Listing:
        return Listing(
            ids=[f"c{i}" for i in range(8)],
            groups=[f"patient{i // 2}" for i in range(8)],
            foreground=["box", "corner"],
            splits=None,
            read=lambda row: given_cases[row],
            source=str(request.source["folder"]),
            licence="none",
            citation="none",
        )

    monkeypatch.setattr(own, "open_source", open_source, raising=False)
    monkeypatch.setitem(sys.modules, "own_reader", own)
    values = tiny(split=STRATIFIED, volume={"intensity": ZSCORE}).model_dump()
    values["source"] = {"kind": "python", "module": "own_reader", "options": {"folder": "scans"}}
    stage.run(DataConfig(**values), out=tmp_path, data_root=None)
    assert open_prepared(tmp_path).card.source == "scans"
    flat = DataConfig(**values | {"volume": None, "image_size": 32})
    with pytest.raises(
        UserError, match=naming("data.source.module", "'own_reader'", 3, "data.volume")
    ):
        stage.run(flat, out=tmp_path / "flat", data_root=None)


def test_memory_does_not_grow_with_the_volumes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def peak(n: int) -> int:
        one = cases(1)[0]

        def read(row: int) -> RawCase:
            return RawCase(
                np.tile(one.image, (1, 2, 2, 2)) + row, np.tile(one.mask, (2, 2, 2)), one.affine
            )

        listing = Listing(
            ids=[str(i) for i in range(n)], groups=[str(i) for i in range(n)],
            foreground=["box", "corner"], splits=None, read=read, source="", licence="", citation="",
        )  # fmt: skip
        monkeypatch.setattr(phantom3d, "open_source", lambda request: listing)
        window = {"kind": "window", "low": -160, "high": 4000}
        cfg = tiny(
            split=STRATIFIED, volume={"intensity": window}, audit={"near_bits": 0, "near_levels": 0}
        )
        tracemalloc.start()
        stage.run(cfg, out=tmp_path / str(n), data_root=None)
        highest = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return highest

    few, many = peak(8), peak(40)
    assert many < 1.2 * few
