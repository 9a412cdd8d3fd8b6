"""Files in fastMRI's form, made up."""

import h5py
import numpy as np
import torch

from cmmulti.operators.fourier import Fourier

HEADER = """<?xml version="1.0" encoding="utf-8"?>
<ismrmrdHeader xmlns="http://www.ismrm.org/ISMRMRD" xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance">
  <studyInformation><institution>Zürich</institution></studyInformation>
  <encoding>
    <trajectory>cartesian</trajectory>
    <encodedSpace>
      <matrixSize><x>{rows}</x><y>{columns}</y><z>1</z></matrixSize>
      <fieldOfView_mm><x>{encoded_mm}</x><y>{columns_mm}</y><z>7.5</z></fieldOfView_mm>
    </encodedSpace>
    <reconSpace>
      <matrixSize><x>{kept}</x><y>{kept}</y><z>1</z></matrixSize>
      <fieldOfView_mm><x>{recon_mm}</x><y>{recon_mm}</y><z>5</z></fieldOfView_mm>
    </reconSpace>
    <encodingLimits>
      <kspace_encoding_step_1><minimum>0</minimum><maximum>9</maximum><center>5</center></kspace_encoding_step_1>
    </encodingLimits>
  </encoding>
</ismrmrdHeader>
"""


def header(rows, columns, kept, mm=2.0, columns_mm=None):
    """The XML of pixels of ``mm``, of which ``kept`` along the readout are the image."""
    return HEADER.format(
        rows=rows,
        columns=columns,
        kept=kept,
        encoded_mm=rows * mm,
        recon_mm=kept * mm,
        columns_mm=columns * mm if columns_mm is None else columns_mm,
    )


def images(*shape, seed=0):
    """Complex images, complex64."""
    rng = np.random.default_rng(seed)
    return (rng.standard_normal(shape) + 1j * rng.standard_normal(shape)).astype(np.complex64)


def transformed(image):
    """K-space of images (..., rows, columns), computed in double precision."""
    flat = torch.from_numpy(image.astype(np.complex128)).reshape(1, -1, *image.shape[-2:])
    return Fourier(flat.shape[1:])(flat).numpy().reshape(image.shape)


def back(kspace):
    """Images of k-space (..., rows, columns), in double precision."""
    flat = torch.from_numpy(kspace.astype(np.complex128)).reshape(1, -1, *kspace.shape[-2:])
    return Fourier(flat.shape[1:]).adjoint(flat).numpy().reshape(kspace.shape)


def written(path, kspace, mask=None, xml=None, **storage):
    """A file with what fastMRI's hold; ``storage`` is that of k-space (chunks, compression)."""
    with h5py.File(path, "w") as file:
        file.create_dataset("kspace", data=kspace, **storage)
        if mask is not None:
            file["mask"] = mask
        if xml is not None:
            file["ismrmrd_header"] = xml if isinstance(xml, bytes) else xml.encode()
        file["reconstruction_rss"] = np.zeros((len(kspace), 8, 8), np.float32)
        file.attrs.update({"acquisition": "AXT2", "max": 1.0, "norm": 2.0, "patient_id": "none"})
    return path
