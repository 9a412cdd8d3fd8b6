"""Scans in files: NIfTI and DICOM."""
