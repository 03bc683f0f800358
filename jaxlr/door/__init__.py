"""Checked input: arrays, columns of tables, and the design of a table."""
