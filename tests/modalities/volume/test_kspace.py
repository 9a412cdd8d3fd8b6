"""Measured k-space files: the exact form, and everything that may be wrong with them."""

import io
import zipfile

import numpy as np
import pytest

from cmmulti.errors import UserError
from cmmulti.inspection import inspect
from modalities.volume.mri.kspace import KSpace, load_kspace, save_kspace


@pytest.fixture
def arrays():
    rng = np.random.default_rng(0)
    mask = np.zeros(10, dtype=bool)
    mask[[1, 4, 5, 6]] = True
    kspace = (rng.standard_normal((2, 12, 10)) + 1j * rng.standard_normal((2, 12, 10))) * mask
    return {"kspace": kspace.astype(np.complex64), "mask": mask, "affine": np.diag([2.0, 3, 4, 1])}


def written(tmp_path, **arrays):
    path = tmp_path / "k.npz"
    np.savez(path, **arrays)
    return path


def test_round_trip_is_bit_exact(tmp_path, arrays):
    arrays["kspace"] = np.stack([arrays["kspace"], 2 * arrays["kspace"], -arrays["kspace"]], 1)
    maps = np.full_like(arrays["kspace"], 3**-0.5)
    maps[:, :, :5] = 0
    arrays["sensitivities"] = maps
    item = KSpace(**arrays)
    back = load_kspace(save_kspace(item, tmp_path / "m.npz"))
    assert all(np.array_equal(getattr(back, n), arrays[n]) for n in arrays)
    assert back.kspace.dtype == back.sensitivities.dtype == np.complex64
    assert back.mask.dtype == bool
    assert back.voxel_mm == (2, 3, 4)
    assert [p.name for p in tmp_path.iterdir()] == ["m.npz"]


def test_a_measurement_made_in_python_says_how_many_coils(arrays):
    with pytest.raises(UserError, match=r"kspace has shape \(2, 12, 10\); expected \(slices, coils, ky, kx\)"):
        KSpace(**arrays)


def test_affine_wins_over_voxel_size_over_one_millimetre(tmp_path, arrays):
    affine = arrays.pop("affine")
    bare = load_kspace(written(tmp_path, **arrays))
    assert bare.voxel_mm == (1, 1, 1)
    assert "no affine and no voxel_mm: voxels of 1 mm" in bare.notes[0]
    assert bare.stated == "nothing"
    assert load_kspace(written(tmp_path, **arrays, voxel_mm=2.5)).voxel_mm == (2.5, 2.5, 2.5)
    assert load_kspace(written(tmp_path, **arrays, voxel_mm=[1, 2, 3])).voxel_mm == (1, 2, 3)
    sized = load_kspace(written(tmp_path, **arrays, voxel_mm=2.5))
    assert (sized.stated, "1 mm" in sized.notes[0]) == ("voxel_mm", False)
    placed = load_kspace(written(tmp_path, **arrays, voxel_mm=[1, 2, 3], affine=affine))
    assert placed.voxel_mm == (2, 3, 4)
    assert placed.notes == ()


def test_other_number_types_and_values_outside_the_mask(tmp_path, arrays):
    arrays |= {"kspace": arrays["kspace"].astype(np.complex128) + 5, "mask": arrays["mask"].astype(np.uint8)}
    item = load_kspace(written(tmp_path, **arrays))
    assert item.kspace.dtype == np.complex64
    assert not item.kspace[..., ~item.mask].any()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"kspace": np.ones((2, 12, 11), np.complex64)}, r"mask has shape \(10,\); expected \(11,\)"),
        ({"kspace": np.ones((12, 10), np.complex64)}, r"expected \(slices, ky, kx\)"),
        ({"kspace": np.ones((0, 12, 10), np.complex64)}, r"expected \(slices, ky, kx\)"),
        ({"kspace": np.ones((1, 4, 10), np.complex64)}, "at least 8"),
        ({"kspace": np.ones((2, 12, 10), np.float32)}, "expected complex numbers"),
        ({"kspace": np.full((2, 12, 10), np.nan, np.complex64)}, "NaN or infinity"),
        ({"kspace": np.full((2, 12, 10), np.inf, np.complex64)}, "NaN or infinity"),
        ({"kspace": np.full((2, 12, 10), 1e300, np.complex128)}, r"reaches 1e\+300; expected 1e-12 to 1e\+15"),
        ({"kspace": np.full((2, 12, 10), 1e-13, np.complex64)}, "reaches 1e-13"),
        ({"kspace": np.zeros((2, 12, 10), np.complex64)}, "zero frequency"),
        ({"kspace": np.array([None, 3], dtype=object)}, "expected complex numbers"),
        ({"mask": np.zeros(10, bool)}, "zero frequency"),
        ({"mask": np.full(10, 2)}, "other than 0 and 1"),
        ({"affine": np.eye(3)}, r"affine has shape \(3, 3\)"),
        ({"affine": np.zeros((4, 4))}, "last row"),
        ({"affine": np.diag([1.0, 0, 1, 1])}, "no usable geometry"),
        ({"affine": np.diag([2.0, 2, 1e5, 1])}, "no usable geometry"),
        ({"affine": np.diag([np.nan, 1, 1, 1])}, "NaN"),
    ],
)
def test_what_does_not_fit_is_one_line_naming_the_file(tmp_path, arrays, change, words):
    with pytest.raises(UserError, match=words) as error:
        load_kspace(written(tmp_path, **(arrays | change)))
    assert str(error.value).startswith(str(tmp_path))
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("voxel", [0.0, -1.0, [1.0, 2.0]])
def test_impossible_voxel_sizes(tmp_path, arrays, voxel):
    del arrays["affine"]
    with pytest.raises(UserError, match="voxel_mm"):
        load_kspace(written(tmp_path, **arrays, voxel_mm=voxel))


def test_missing_file_and_missing_array(tmp_path, arrays):
    with pytest.raises(UserError, match="no such file"):
        load_kspace(tmp_path / "none.npz")
    del arrays["mask"]
    with pytest.raises(UserError, match="no array 'mask'"):
        load_kspace(written(tmp_path, **arrays))
    (tmp_path / "empty.npz").touch()
    with pytest.raises(UserError, match="not a readable"):
        load_kspace(tmp_path / "empty.npz")


@pytest.mark.parametrize("kind", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_a_header_that_promises_more_than_the_file_holds_allocates_nothing(tmp_path, kind):
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(header, {"descr": "<c8", "fortran_order": False, "shape": (10**6, 10**4, 10**4)})
    path = tmp_path / "bomb.npz"
    with zipfile.ZipFile(path, "w", kind) as archive:
        archive.writestr("kspace.npy", header.getvalue() + bytes(1000))
    with pytest.raises(UserError, match="more than the file holds"):
        load_kspace(path)


def test_negative_sizes_and_surplus_are_refused_before_anything_is_read(tmp_path, arrays):
    for shape, data, words in (
        ((-1, 8, 8), 10**6, r"kspace has shape \(-1, 8, 8\); expected sizes of at least 0"),
        ((1, 8, 8), 10**6, "kspace holds more than the 512 bytes that its header says"),
    ):
        header = io.BytesIO()
        np.lib.format.write_array_header_1_0(header, {"descr": "<c8", "fortran_order": False, "shape": shape})
        path = tmp_path / "bomb.npz"
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr("kspace.npy", header.getvalue() + bytes(data))
        with pytest.raises(UserError, match=words):
            load_kspace(path)


def test_columns_that_are_zero_in_every_slice_are_not_measured(tmp_path, arrays):
    arrays["kspace"][..., 1] = 0
    item = load_kspace(written(tmp_path, **arrays))
    assert np.flatnonzero(item.mask).tolist() == [4, 5, 6]
    assert item.notes == (
        "1 of 4 columns that the mask says are measured are 0 in every slice (from column 1 to 1): taken as not measured",
    )
    arrays["kspace"][..., 5] = 0
    with pytest.raises(UserError, match="column 5, the zero frequency, is left out by the mask or 0 in every slice"):
        load_kspace(written(tmp_path, **arrays))


def test_damaged_files_end_in_user_errors(tmp_path, arrays):
    path = tmp_path / "m.npz"
    good = {}
    for name, save in (("stored", np.savez), ("deflated", np.savez_compressed)):
        save(path, **arrays)
        good[name] = path.read_bytes()
    rng = np.random.default_rng(1)
    refused = 0
    for number in range(600):
        data = bytearray(good["stored" if number % 2 else "deflated"])
        if number % 5 == 0:
            data = data[: rng.integers(len(data))]
        else:
            for _ in range(rng.integers(1, 4)):
                data[rng.integers(len(data))] ^= 1 << rng.integers(8)
        path.write_bytes(bytes(data))
        try:
            load_kspace(path)
        except UserError:
            refused += 1
    assert refused > 300


NO_TYPE = b"{'descr': (), 'fortran_order': False, 'shape': (1,)}"


@pytest.mark.parametrize(
    "header", [b"{'descr': '<c8', (", b"{'descr': '<c8', [1]: 2}", b"\x00" * 20, b"{'descr': '<c8'", NO_TYPE]
)
def test_an_array_header_that_cannot_be_parsed_is_refused(tmp_path, header):
    for name in ("kspace.npz", "other.npz"):
        path = tmp_path / name
        with zipfile.ZipFile(path, "w") as archive:
            padded = header.ljust(117) + b"\n"
            archive.writestr(f"{path.stem}.npy", b"\x93NUMPY\x01\x00" + len(padded).to_bytes(2, "little") + padded)
        with pytest.raises(UserError, match=rf"{name}: not a readable .npz archive"):
            inspect(path)
    with pytest.raises(UserError, match=r"kspace\.npz: not a readable .npz archive"):
        load_kspace(tmp_path / "kspace.npz")
