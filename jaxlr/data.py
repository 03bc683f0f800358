"""Checked input: `Batch.from_rows` and `Batch.from_columns` as functions."""

from jaxlr.model.batch import Batch

from_rows, from_columns = Batch.from_rows, Batch.from_columns

__all__ = ["from_columns", "from_rows"]
