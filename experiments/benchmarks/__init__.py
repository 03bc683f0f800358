"""Timings side by side: peers in the same run, on the same data, checked to agree."""
