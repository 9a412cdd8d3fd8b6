"""Files of fastMRI: what is read of them. What is refused: test_fastmri_refusals."""

from dataclasses import replace

import h5py
import numpy as np
import pytest
import torch
from fastmri_toys import back, header, images, transformed, written
from mri_toys import prepared, simulated_kspace, solve

from cmmulti.inspection import inspect
from modalities.volume.mri.fastmri import load_fastmri, without_oversampling
from modalities.volume.mri.kspace import save_kspace


def cropped(image, rows):
    first = image.shape[-2] // 2 - rows // 2
    return image[..., first : first + rows, :]


@pytest.mark.parametrize("coils", [(), (3,)])
@pytest.mark.parametrize(
    ("rows", "kept", "columns"), [(40, 20, 18), (41, 20, 17), (42, 21, 18), (43, 21, 17), (33, 33, 12)]
)
def test_the_image_is_the_central_part_of_the_full_one(tmp_path, coils, rows, kept, columns):
    image = images(4, *coils, rows, columns)
    kspace = transformed(image).astype(np.complex64)
    item = load_fastmri(written(tmp_path / "k.h5", kspace, xml=header(rows, columns, kept)))
    assert item.kspace.dtype == np.complex64
    assert item.kspace.shape == (4, *(coils or (1,)), kept, columns)
    expected = cropped(image, kept).reshape(item.kspace.shape)
    assert np.abs(back(item.kspace) - expected).max() < 1e-6 * np.abs(expected).max()
    assert item.mask.all()
    if rows == kept:
        assert np.array_equal(item.kspace.squeeze(), kspace.squeeze())


def test_what_is_in_the_centre_stays_there():
    for rows in (40, 41):
        for kept in (8, 9, 20, 21, rows):
            image = np.zeros((1, rows, 9), np.complex64)
            image[0, rows // 2, 4] = 1
            kspace = torch.from_numpy(transformed(image))
            small = back(without_oversampling(kspace, kept).numpy())
            assert np.unravel_index(np.abs(small).argmax(), small.shape) == (0, kept // 2, 4)
            assert np.abs(small).max() == pytest.approx(1)


def test_voxels_are_of_the_encoded_field_of_view_and_the_slices_of_the_images(tmp_path):
    kspace = transformed(images(2, 40, 18))
    item = load_fastmri(written(tmp_path / "k.h5", kspace, xml=header(40, 18, 20, mm=0.6875, columns_mm=27)))
    assert item.voxel_mm == pytest.approx((0.6875, 1.5, 5))
    assert item.stated == "voxel_mm"
    assert item.notes[0].startswith("the measurement has no affine: its rows were taken")
    assert item.notes[2:4] == (
        "oversampling of the readout was removed: 20 of 40 rows, 13.75 mm",
        "slices of 5 mm: gaps between them are not stated",
    )


@pytest.mark.parametrize("form", [(18,), (1, 18), (1, 1, 18, 1)])
@pytest.mark.parametrize("dtype", [bool, np.float32])
def test_the_files_mask_says_what_is_measured(tmp_path, form, dtype):
    mask = np.zeros(18, bool)
    mask[[0, 3, 8, 9, 10, 15]] = True
    kspace = transformed(images(2, 2, 40, 18))
    path = written(tmp_path / "k.h5", kspace, mask.reshape(form).astype(dtype), header(40, 18, 20))
    item = load_fastmri(path)
    assert np.array_equal(item.mask, mask)
    assert not item.kspace[..., ~mask].any()
    assert np.array_equal(
        item.kspace[..., mask], load_fastmri(written(path, kspace, xml=header(40, 18, 20))).kspace[..., mask]
    )
    assert not any("columns" in note for note in item.notes[2:])


def test_columns_filled_up_with_zeros_are_not_measured(tmp_path):
    kspace = transformed(images(2, 40, 18))
    kspace[..., :2] = kspace[..., 16:] = 0
    path = tmp_path / "k.h5"
    item = load_fastmri(written(path, kspace, xml=header(40, 18, 20)))
    assert np.flatnonzero(item.mask).tolist() == list(range(2, 16))
    assert item.notes[-1] == "columns 2 to 15 of 18 are measured, without a gap"
    mask = np.arange(18) % 2 == 1
    item = load_fastmri(written(path, kspace, mask, header(40, 18, 20)))
    assert np.flatnonzero(item.mask).tolist() == [3, 5, 7, 9, 11, 13, 15]
    assert item.notes[-3].startswith("2 of 9 columns that the mask says are measured are 0 in every slice")
    kspace[..., 4] = 0
    item = load_fastmri(written(path, kspace, xml=header(40, 18, 20)))
    assert item.notes[-1] == "no mask: 13 of 18 columns are not 0 in every slice, taken as measured"


def test_a_fully_sampled_file_says_so(tmp_path):
    kspace = transformed(images(2, 40, 18))
    for mask in (None, np.ones(18, bool)):
        item = load_fastmri(written(tmp_path / "k.h5", kspace, mask, header(40, 18, 20)))
        assert item.mask.all()
        assert item.notes[-1] == "all 18 columns are measured: nothing is undersampled"


def test_without_a_header_voxels_are_of_one_millimetre_and_all_rows_stay(tmp_path):
    item = load_fastmri(written(tmp_path / "k.h5", transformed(images(2, 40, 18))))
    assert item.kspace.shape == (2, 1, 40, 18)
    assert (item.stated, item.voxel_mm) == ("nothing", (1, 1, 1))
    assert "voxels of 1 mm were assumed" in item.notes[0]
    assert item.notes[2].startswith("no ismrmrd_header")


@pytest.mark.parametrize(
    "storage",
    [
        {"chunks": (1, 1, 40, 18), "compression": "gzip"},
        {"chunks": (2, 3, 7, 18)},
        {"chunks": (3, 2, 40, 5), "compression": "lzf", "shuffle": True},
        {"chunks": (3, 3, 40, 18), "fletcher32": True},
        {"dtype": ">c8"},
        {"dtype": "<c16"},
    ],
)
def test_however_it_is_stored_it_is_the_same(tmp_path, storage):
    kspace = transformed(images(5, 3, 40, 18)).astype(np.complex64)
    plain = load_fastmri(written(tmp_path / "plain.h5", kspace, xml=header(40, 18, 20)))
    other = load_fastmri(written(tmp_path / "other.hdf5", kspace, xml=header(40, 18, 20), **storage))
    assert np.array_equal(plain.kspace, other.kspace)


@pytest.mark.parametrize("kind", ["bytes", "text", "fixed", "listed", "latin"])
def test_however_the_header_is_stored_it_is_the_same(tmp_path, kind):
    xml = header(40, 18, 20, mm=1.5)
    with h5py.File(tmp_path / "k.h5", "w") as file:
        file["kspace"] = transformed(images(2, 40, 18))
        file["ismrmrd_header"] = {
            "bytes": xml.encode(),
            "text": xml,
            "fixed": np.bytes_(xml.encode() + b"\n\0\0"),
            "listed": [xml.encode()],
            "latin": xml.replace("utf-8", "latin-1").encode("latin-1"),
        }[kind]
    assert load_fastmri(tmp_path / "k.h5").voxel_mm == (1.5, 1.5, 5)


@pytest.mark.parametrize("form", [{"userblock_size": 1024}, {"libver": "latest"}, {"libver": ("v108", "v108")}])
def test_forms_of_hdf5(tmp_path, form):
    kspace = transformed(images(2, 40, 18))
    plain = load_fastmri(written(tmp_path / "plain.h5", kspace, xml=header(40, 18, 20)))
    with h5py.File(tmp_path / "k.h5", "w", **form) as file:
        file["kspace"], file["ismrmrd_header"] = kspace, header(40, 18, 20)
    other = load_fastmri(tmp_path / "k.h5")
    assert np.array_equal(plain.kspace, other.kspace)
    assert other.notes == plain.notes


def test_a_header_without_namespace_and_with_a_wider_image(tmp_path):
    xml = header(40, 18, 44).replace(' xmlns="http://www.ismrm.org/ISMRMRD"', "")
    item = load_fastmri(written(tmp_path / "k.h5", transformed(images(2, 40, 18)), xml=xml))
    assert item.kspace.shape[2] == 40
    assert not any("oversampling" in note for note in item.notes)


def oversampled(item):
    """The k-space (slices, coils, 2 ky, kx) of the item's images with air above and below."""
    image = back(item.kspace)
    rows = image.shape[2]
    wide = np.zeros((*image.shape[:2], 2 * rows, image.shape[3]), complex)
    first = rows - rows // 2
    wide[:, :, first : first + rows] = image
    return transformed(wide)


@pytest.mark.parametrize("suffix", [".h5", ".HDF5"])
def test_a_reconstruction_is_that_of_the_same_npz(tmp_path, modality, model, suffix):
    item = replace(simulated_kspace(), affine=np.diag([2.0, 2, 5, 1]), stated="voxel_mm")
    path = written(tmp_path / f"k{suffix}", oversampled(item)[:, 0], item.mask, header(72, 40, 36))
    np.savez(tmp_path / "k.npz", kspace=item.kspace, mask=item.mask, voxel_mm=(2, 2, 5))
    ours, theirs = (prepared(modality, model, p) for p in (path, tmp_path / "k.npz"))
    a, b = (solve(assignment, model) for assignment in (ours, theirs))
    assert np.abs(a.values() - b.values()).max() < 1e-3 * b.values().max()
    assert np.array_equal(a.affine, b.affine)
    assert not a.placed
    assert ours.truth is None
    assert any("72 rows" in note for note in ours.notes)
    again = prepared(modality, model, save_kspace(load_fastmri(path), tmp_path / "again.npz"))
    assert np.array_equal(solve(again, model).values(), a.values())


def test_inspect_tells_what_is_in_it(tmp_path):
    found = inspect(written(tmp_path / "k.h5", transformed(images(2, 3, 40, 18)), xml=header(40, 18, 20)))
    assert (found["kind"], found["kspace"]["shape"], found["voxel_mm"]) == ("volume", [2, 3, 20, 18], [2.0, 2.0, 5.0])
    assert found["notes"][-1] == "all 18 columns are measured: nothing is undersampled"
