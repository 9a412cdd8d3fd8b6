"""Write the small real inputs that the package carries, from the test parts of the data sets.

    python benchmarks/packaged_inputs.py --data-root DIR

The head is one test subject of ixi-t1-2mm, the CT slices are of two test patients of ct-hu-256, the clips are official
test takes of fsdd. Each folder's ATTRIBUTION.md names source and licence.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import nibabel as nib
import numpy as np
import soundfile

from cmmulti import registry
from cmmulti.modality import DataSource

PACKAGE = Path(__file__).resolve().parent.parent / "modalities"


def head(root: Path) -> None:
    """One T1-weighted head, 2 mm, stored bytes with the scanner's slope."""
    with np.load(root / "ixi-t1-2mm" / "ixi_t1_2mm_1.npz") as data:
        subject = int(np.flatnonzero(data["split"] == "test")[0])
        image = nib.Nifti1Image(data["volumes"][subject], data["affines"][subject].astype(np.float64))
        image.header.set_slope_inter(float(data["slopes"][subject]), 0.0)
    image.header.set_xyzt_units("mm")
    nib.save(image, PACKAGE / "volume" / "inputs" / "head-t1.nii.gz")


def chest(root: Path) -> None:
    """Two CT slices in HU, each of another patient of the test split, as one-slice volumes."""
    adapter = registry.load("modalities", "volume")
    modality = adapter(adapter.Settings(kind="ct", size=(256, 256)))
    scans = modality.dataset(DataSource(name="ct-hu-256", root=root), "test").scans
    by_patient = {name.split()[0]: scan for name, scan in reversed(scans.items())}
    for number, scan in enumerate(list(by_patient.values())[:2], start=1):
        modality.save(scan, PACKAGE / "volume" / "inputs" / f"chest-ct-{number}.nii.gz")


def digits(root: Path) -> None:
    """Three spoken digits of three speakers, PCM 16 at 8 kHz."""
    with np.load(root / "fsdd" / "fsdd.npz") as data:
        audio, offsets = data["audio"], data["offsets"]
        for digit, speaker in ((3, 1), (7, 0), (9, 4)):
            match = (data["labels"] == digit) & (data["speaker_ids"] == speaker) & (data["take"] == 0)
            clip = int(np.flatnonzero(match)[0])
            name = str(data["speaker_names"][speaker])
            samples = audio[offsets[clip] : offsets[clip + 1]]
            soundfile.write(PACKAGE / "audio" / "inputs" / f"digit-{digit}-{name}.wav", samples, 8000, "PCM_16")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data-root", type=Path, required=True)
    root = parser.parse_args().data_root
    for write in (digits, head, chest):
        write(root)


if __name__ == "__main__":
    main()
