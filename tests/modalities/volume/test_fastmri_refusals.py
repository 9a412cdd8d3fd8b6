"""Files of fastMRI that are damaged, hostile or something else: one line that names the file, and nothing read."""

import os

import h5py
import numpy as np
import pytest
from fastmri_toys import header, images, transformed, written
from mri_toys import head, prepared, simulated_kspace

from cmmulti.errors import UserError
from cmmulti.inspection import inspect
from modalities.volume.mri import hdf5
from modalities.volume.mri.fastmri import load_fastmri
from modalities.volume.mri.kspace import save_kspace


@pytest.fixture
def kspace():
    return transformed(images(2, 40, 18)).astype(np.complex64)


def refused(path, words):
    with pytest.raises(UserError, match=words) as error:
        load_fastmri(path)
    assert str(error.value).startswith(str(path))
    assert "\n" not in str(error.value)


def filled(value, dtype=np.complex64, shape=(2, 40, 18)):
    return np.full(shape, value, dtype)


def one_bad(value):
    kspace = np.ones((3, 40, 18), np.complex64)
    kspace[1, 3, 4] = value
    return kspace


@pytest.mark.parametrize(
    ("bad", "words"),
    [
        (filled(1, shape=(40, 18)), r"shape \(40, 18\); expected \(slices, ky, kx\)"),
        (filled(1, shape=(1, 1, 1, 40, 18)), r"expected \(slices, ky, kx\)"),
        (filled(1, shape=(0, 40, 18)), r"expected \(slices, ky, kx\)"),
        (filled(1, shape=(1, 40, 4)), "at least 8"),
        (filled(1, np.float32), "kspace holds float32; expected complex numbers"),
        (np.array([b"text"]), "expected complex numbers"),
        (np.zeros(3, [("a", "<f4"), ("b", "<f4"), ("c", "<f4")]), "expected complex numbers"),
        (one_bad(np.nan), "NaN or infinity in slice 1"),
        (one_bad(1j * np.inf), "NaN or infinity in slice 1"),
        (filled(1e300, np.complex128), r"reaches 1e\+300; expected 1e-12 to 1e\+15"),
        (filled(1e-13), "reaches 1.41e-13"),
        (filled(0), "column 9, the zero frequency, is 0 in every slice"),
        (h5py.Empty("c8"), "kspace is empty"),
    ],
)
def test_kspace_that_is_none(tmp_path, bad, words):
    with h5py.File(tmp_path / "k.h5", "w") as file:
        file.create_dataset("kspace", data=bad)
        file["ismrmrd_header"] = header(40, 18, 20)
    refused(tmp_path / "k.h5", words)


@pytest.mark.parametrize(
    ("mask", "words"),
    [
        (np.ones(17, bool), r"mask has shape \(17,\); expected \(18,\)"),
        (np.ones((2, 18), bool), r"mask has shape \(2, 18\)"),
        (np.full(18, 2), "other than 0 and 1"),
        (np.full(18, np.nan), "other than 0 and 1"),
        (np.ones(18, complex), "mask holds complex128; expected bool"),
        (np.zeros(18, bool), "column 9, the zero frequency, is left out by the mask"),
        ("text", "mask holds object; expected bool"),
    ],
)
def test_a_mask_that_does_not_fit(tmp_path, kspace, mask, words):
    refused(written(tmp_path / "k.h5", kspace, mask, header(40, 18, 20)), words)


def entities(depth=9):
    lines = "".join(f'<!ENTITY a{n} "{f"&a{n - 1};" * 10}">' for n in range(1, depth))
    return f'<?xml version="1.0"?><!DOCTYPE x [<!ENTITY a0 "ha">{lines}]><x>&a{depth - 1};</x>'


GOOD = header(40, 18, 20)


@pytest.mark.parametrize(
    ("xml", "words"),
    [
        ("", "not valid XML"),
        ("no XML", "not valid XML"),
        (GOOD[:-20], "not valid XML"),
        ("<html/>", "no 'encoding'; expected an ISMRMRD header"),
        ("<a>" * 200_000 + "</a>" * 50_000, "not valid XML"),
        ("<a>" * 100_000 + "</a>" * 100_000, "no 'encoding'"),
        (GOOD + " " * 1_000_000, r"ismrmrd_header has 100\d{4} bytes; expected at most 1000000"),
        (np.bytes_(b"x" * 1_100_000), "ismrmrd_header has 1100000 bytes; expected at most 1000000"),
        ([GOOD, GOOD], "holds 2 texts"),
        (entities(), "document type or entities"),
        (np.bytes_(GOOD.encode("utf-16")), "not valid XML"),
        (np.bytes_(entities().encode("utf-16")), "not valid XML"),
        (3.0, "ismrmrd_header holds float64; expected text"),
        (h5py.Empty("S10"), "ismrmrd_header is empty; expected text"),
        (GOOD.replace("cartesian", "radial"), "a radial trajectory; expected Cartesian lines"),
        (GOOD.replace("reconSpace", "otherSpace"), "reconSpace/fieldOfView_mm/z is missing; expected a size"),
        (GOOD.replace("<x>80.0</x>", ""), "encodedSpace/fieldOfView_mm/x is missing"),
        (GOOD.replace("<x>80.0</x>", "<x>wide</x>"), "x is 'wide'; expected a size above 0"),
        (GOOD.replace("<x>80.0</x>", "<x/>"), "x is ''; expected a size above 0"),
        (GOOD.replace("<x>80.0</x>", "<x>-80</x>"), "x is '-80'; expected a size above 0"),
        (GOOD.replace("<x>80.0</x>", "<x>nan</x>"), "x is 'nan'; expected a size above 0"),
        (GOOD.replace("<y>36.0</y>", "<y>inf</y>"), "y is 'inf'; expected a size above 0"),
        (GOOD.replace("<y>36.0</y>", "<y>1e300</y>"), "y is '1e300'; expected a size above 0 and below 1e\\+06"),
        (GOOD.replace("<y>36.0</y>", "<y>36000</y>"), "no usable geometry: .* expected voxels of 0.001 to 1000 mm"),
        (GOOD.replace("<z>5</z>", "<z>0</z>"), "z is '0'; expected a size above 0"),
        (GOOD.replace("<x>40.0</x>", "<x>8</x>"), "keeps 8 of 80 mm along the readout, 4 of 40 rows; expected at least 8"),
        (GOOD.replace("<x>40</x>", "<x>40.5</x>"), "encodedSpace/matrixSize/x is 40.5; expected a whole number"),
        (
            GOOD.replace("<x>40</x>", "<x>80</x>"),
            "kspace has 40 rows, .* encodedSpace/matrixSize/x is 80; expected as many",
        ),
    ],
)
def test_a_header_that_is_none(tmp_path, kspace, xml, words):
    with h5py.File(tmp_path / "k.h5", "w") as file:
        file["kspace"] = kspace
        file["ismrmrd_header"] = xml
    refused(tmp_path / "k.h5", words)


@pytest.mark.parametrize("name", ["kspace", "mask", "ismrmrd_header"])
@pytest.mark.parametrize("kind", ["soft", "external", "dangling"])
def test_links_are_not_followed(tmp_path, kspace, name, kind):
    values = {"kspace": kspace, "mask": np.ones(18, bool), "ismrmrd_header": header(40, 18, 20)}
    with h5py.File(tmp_path / "other.h5", "w") as other:
        other["x"] = values[name]
    with h5py.File(tmp_path / "k.h5", "w") as file:
        file["x"] = values[name]
        file.update({other: value for other, value in values.items() if other != name})
        where = {"soft": h5py.SoftLink("/x"), "external": h5py.ExternalLink("other.h5", "x")}
        file[name] = where.get(kind, h5py.SoftLink("/nowhere"))
    refused(tmp_path / "k.h5", rf"{name} is a link \((Soft|External)Link\); expected a dataset in the file itself")


def test_data_in_other_files_are_not_read(tmp_path, kspace):
    (tmp_path / "raw.bin").write_bytes(kspace.tobytes())
    with h5py.File(tmp_path / "k.h5", "w") as file:
        file.create_dataset("kspace", kspace.shape, "<c8", external=[(str(tmp_path / "raw.bin"), 0, kspace.nbytes)])
    refused(tmp_path / "k.h5", "the data of kspace lie in other files")
    written(tmp_path / "other.h5", kspace)
    layout = h5py.VirtualLayout(kspace.shape, "<c8")
    layout[:] = h5py.VirtualSource(str(tmp_path / "other.h5"), "kspace", kspace.shape)
    with h5py.File(tmp_path / "k.h5", "w") as file:
        file.create_virtual_dataset("kspace", layout)
    refused(tmp_path / "k.h5", "the data of kspace lie in other files")


def test_what_promises_more_than_the_file_holds_is_not_read(tmp_path):
    sizes = [
        {"shape": (10**5, 640, 320)},
        {"shape": (10**5, 640, 320), "chunks": (1, 640, 320), "compression": "gzip"},
        {"shape": (10**5, 640, 320), "chunks": (1, 640, 320)},
    ]
    for size in sizes:
        with h5py.File(tmp_path / "k.h5", "w") as file:
            kspace = file.create_dataset("kspace", dtype="<c8", **size)
            if "chunks" in size:
                kspace[0] = 1
        assert os.path.getsize(tmp_path / "k.h5") < 10**7
        refused(tmp_path / "k.h5", r"kspace promises \(100000, 640, 320\) values of complex64, more than the file holds")


def test_what_the_memory_does_not_hold_is_not_read(tmp_path, kspace, monkeypatch):
    path = written(tmp_path / "k.h5", kspace, xml=header(40, 18, 20), chunks=(2, 40, 18), compression="gzip")
    assert kspace.nbytes == 11520
    for memory, words in (
        (4 * 11519, "a chunk of kspace needs 0 MiB, more than a quarter of the memory"),
        (4 * 11520, None),
    ):
        monkeypatch.setattr("cmmulti.archives.physical_memory", lambda memory=memory: memory)
        if words:
            refused(path, words)
        else:
            load_fastmri(path)
    # Slice by slice only what is kept has to fit.
    path = written(tmp_path / "k.h5", kspace, xml=header(40, 18, 20))
    monkeypatch.setattr("cmmulti.archives.physical_memory", lambda: 4 * 5760)
    load_fastmri(path)
    monkeypatch.setattr("cmmulti.archives.physical_memory", lambda: 4 * 5759)
    refused(path, r"kspace of shape \(2, 1, 20, 18\) needs 0 MiB, more than a quarter of the memory")
    monkeypatch.setattr("cmmulti.archives.physical_memory", lambda: 4 * 1000)
    refused(path, "memory")


def test_groups_missing_names_and_other_files(tmp_path, kspace):
    path = tmp_path / "k.h5"
    with h5py.File(path, "w") as file:
        file["dataset/xml"] = b"<x/>"
    refused(path, r"no dataset 'kspace'; expected fastMRI's form, found \['dataset'\]")
    with pytest.raises(UserError, match="not a file or folder that cmmulti reads"):
        inspect(path)
    with h5py.File(path, "w") as file:
        file["kspace/x"] = kspace
    refused(path, "kspace is a group; expected a dataset")
    with h5py.File(path, "w") as file:
        file["kspace"] = kspace.dtype
    refused(path, "kspace is a datatype; expected a dataset")
    refused(tmp_path / "none.h5", "no such file; expected an HDF5 file")
    (tmp_path / "folder.h5").mkdir()
    refused(tmp_path / "folder.h5", "a folder; expected an HDF5 file")
    os.mkfifo(tmp_path / "pipe.h5")
    refused(tmp_path / "pipe.h5", "a named pipe; expected an HDF5 file")


@pytest.mark.parametrize("content", [b"", b"what is this", bytes(4000), b"\x89HDF\r\n\x1a\n", b"PK\x03\x04"])
def test_what_is_no_hdf5(tmp_path, content):
    (tmp_path / "k.h5").write_bytes(content)
    refused(tmp_path / "k.h5", "not a readable HDF5 file")
    with pytest.raises(UserError, match=r"k\.h5: not a readable HDF5 file"):
        inspect(tmp_path / "k.h5")


def test_truncated_files(tmp_path, kspace):
    path = written(tmp_path / "k.h5", kspace, np.ones(18, bool), header(40, 18, 20))
    content = path.read_bytes()
    for length in range(1, len(content), len(content) // 40):
        path.write_bytes(content[:length])
        refused(path, "not a readable HDF5 file|more than the file holds")


@pytest.mark.parametrize("storage", [{}, {"chunks": (1, 40, 18), "compression": "gzip", "fletcher32": True}])
def test_damaged_files_end_in_user_errors(tmp_path, kspace, storage):
    path = written(tmp_path / "k.h5", kspace, np.ones(18, bool), header(40, 18, 20), **storage)
    good = path.read_bytes()
    # What is no number of k-space: there every flip is another measurement.
    at = good.find(kspace.tobytes())
    places = [i for i in range(len(good)) if not 0 <= at <= i < at + kspace.nbytes]
    rng = np.random.default_rng(1)
    refusals = 0
    for _ in range(200):
        data = bytearray(good)
        for _ in range(rng.integers(1, 4)):
            data[places[rng.integers(len(places))]] ^= 1 << rng.integers(8)
        path.write_bytes(bytes(data))
        try:
            load_fastmri(path)
        except UserError:
            refusals += 1
    assert refusals > 25


def test_texts_stored_together_are_searched_to_their_end_only(tmp_path, kspace):
    path = written(tmp_path / "k.h5", kspace, xml=header(40, 18, 20))
    good = path.read_bytes()
    heap = good.index(b"GCOL")
    # The first text has another number, and no size.
    path.write_bytes(good[: heap + 16] + bytes([7, 0]) + bytes(14) + good[heap + 32 :])
    refused(path, "ismrmrd_header is not where it should be")
    path.write_bytes(good[: heap + 8] + b"\xff" * 8 + good[heap + 16 :])
    refused(path, "ismrmrd_header is not where it should be")
    with h5py.File(path, "w") as file:
        file["kspace"] = kspace
        file.create_dataset("ismrmrd_header", data=[header(40, 18, 20)], chunks=(1,))
    refused(path, "ismrmrd_header is packed or of a rare form")


def test_the_task_says_what_it_reads(modality, model, tmp_path):
    with pytest.raises(UserError, match=r"expected measured k-space \(\.npz, \.h5, \.hdf5\); a magnitude volume"):
        prepared(modality, model, head())
    path = written(tmp_path / "k.h5", transformed(images(2, 40, 18)), xml=header(40, 18, 20))
    with pytest.raises(UserError, match=r"k\.h5: is measured k-space already; leave out --simulate"):
        prepared(modality, model, path, simulate=True)
    with pytest.raises(UserError, match=r"k\.npz: not a readable HDF5 file"):
        load_fastmri(save_kspace(simulated_kspace(), tmp_path / "k.npz"))


def test_a_name_is_looked_up_without_following_it(tmp_path):
    with h5py.File(tmp_path / "k.h5", "w") as file:
        file["kspace"] = h5py.ExternalLink("nowhere.h5", "x")
    assert hdf5.holds(tmp_path / "k.h5", "kspace")
    assert not hdf5.holds(tmp_path / "k.h5", "mask")
