"""What items come with besides a class: columns of a table or arrays, read, brought to one scale, told to a network."""

from cmmulti.contexts.scale import ContextScale
from cmmulti.contexts.table import ContextTable, read_contexts

__all__ = ["ContextScale", "ContextTable", "read_contexts"]
