"""The geometry in an ISMRMRD header (MRD), the XML that goes with raw MR data."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree

from cmmulti.errors import UserError

LARGEST = 1_000_000
"""Most bytes of a header."""

LARGEST_SIZE = 1e6
"""Above any size in it, mm or samples."""

CURVED = ("radial", "goldenangle", "spiral")
"""Trajectories that are no lines of a Cartesian grid."""


@dataclass(frozen=True)
class Encoding:
    """What was measured and what the scanner makes of it.

    Args:
        rows: samples of a readout. encoded_mm: field of view that k-space covers, along the readout and the columns.
        readout_mm: field of view of the image along the readout, without oversampling.
        slice_mm: thickness of a slice.
    """

    rows: int
    encoded_mm: tuple[float, float]
    readout_mm: float
    slice_mm: float


def parsed(path: Path, header: bytes) -> Encoding:
    """The first encoding in a header.

    Args:
        path: the file that it comes from, for messages. header: of at most ``LARGEST`` bytes.

    Raises:
        UserError: no XML, XML that defines entities, no Cartesian one, or a size that is missing, not above 0 or
            not finite.
    """
    # Only the numbers count; names in the header may be in any character set.
    text = header.decode("utf-8-sig", "replace").strip("\0 \t\r\n")
    if "<!DOCTYPE" in text or "<!ENTITY" in text:
        raise UserError(f"{path}: ismrmrd_header defines a document type or entities; expected plain XML")
    try:
        root = ElementTree.fromstring(text)
    except (ElementTree.ParseError, ValueError) as error:
        raise UserError(f"{path}: ismrmrd_header is not valid XML ({error})") from error
    encoding = root.find("{*}encoding")
    if encoding is None:
        raise UserError(f"{path}: ismrmrd_header has no 'encoding'; expected an ISMRMRD header")
    trajectory = encoding.findtext("{*}trajectory", "").strip().lower()
    if trajectory in CURVED:
        raise UserError(f"{path}: k-space along a {trajectory} trajectory; expected Cartesian lines")

    def size(*names: str) -> float:
        return _size(path, encoding, names)

    rows = size("encodedSpace", "matrixSize", "x")
    if rows % 1:
        raise UserError(f"{path}: ismrmrd_header: encodedSpace/matrixSize/x is {rows:g}; expected a whole number")
    view = "fieldOfView_mm"
    # The encoded thickness counts oversampling across the slices, that of the image does not.
    thickness = size("reconSpace", view, "z") / size("reconSpace", "matrixSize", "z")
    encoded = size("encodedSpace", view, "x"), size("encodedSpace", view, "y")
    return Encoding(int(rows), encoded, size("reconSpace", view, "x"), thickness)


def _size(path: Path, encoding: ElementTree.Element, names: tuple[str, ...]) -> float:
    found = encoding.findtext("/".join("{*}" + name for name in names))
    told = f"{path}: ismrmrd_header: {'/'.join(names)}"
    if found is None:
        raise UserError(f"{told} is missing; expected a size")
    try:
        value = float(found)
    except ValueError:
        value = 0.0
    if not 0 < value < LARGEST_SIZE:
        raise UserError(f"{told} is {found.strip()[:40]!r}; expected a size above 0 and below {LARGEST_SIZE:g}")
    return value
