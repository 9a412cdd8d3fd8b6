"""What a command leaves behind: ``results.json`` for scripts and one self-contained page for people."""

from cmmulti.report.folder import ResultFolder, check_free
from cmmulti.report.page import gather, write_page
from cmmulti.report.results import Output, Part, Results, Table, read_results, write_results
from cmmulti.report.sections import Section

__all__ = [
    "Output",
    "Part",
    "ResultFolder",
    "Results",
    "Section",
    "Table",
    "check_free",
    "gather",
    "read_results",
    "write_page",
    "write_results",
]
