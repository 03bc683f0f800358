"""A data set with the names of its columns."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np

from jaxlr.door.design import Design
from jaxlr.model.batch import Batch


class Data(NamedTuple):
    """A data set, its columns standardised by mean and scale.

    Args:
        name: of the data set, or of the file.
        batch: the examples.
        mean, scale: of the features, `(n,)`; the scale is 1 where they kept theirs.
        feature_names, class_names: n and K of them.
        design: how the features were made of a file's columns; None for scikit-learn's.
        source: what is kept of the file with a model: its fingerprint and the options.
        notes: sentences about what was done to the columns.
    """

    name: str
    batch: Batch
    mean: np.ndarray
    scale: np.ndarray
    feature_names: list[str]
    class_names: list[str]
    design: Design | None = None
    source: Mapping[str, Any] = MappingProxyType({})
    notes: tuple[str, ...] = ()

    @property
    def standardised(self) -> bool:
        """Whether the features were standardised."""
        return bool((self.scale != 1).any())
