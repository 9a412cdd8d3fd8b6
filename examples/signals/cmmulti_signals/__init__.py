"""Physiological signals as a modality of cmmulti."""
