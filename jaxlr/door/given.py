"""What the caller gave, as arrays of numbers, and words for places in it.

Inside examples lie along the last axis; `Side` turns shapes and places back into what the caller
wrote.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer

from jaxlr.base import frames
from jaxlr.door import narrowing

FLOATS = ("bfloat16", "float16", "float32", "float64")
NUMBER_THE_CLASSES = "number the classes 0…K−1, as in y = np.unique(y, return_inverse=True)[1]"

_TURNED = 512  # examples at a time
_ALIGNED = 64  # bytes


class Side(NamedTuple):
    """Which way the caller's examples lie; features: the names of X's columns, if it has them."""

    rows: bool
    features: tuple[Any, ...] = ()

    def seen(self, shape: tuple) -> tuple:
        """A shape or an index of this room as the caller has it."""
        return shape[::-1] if self.rows else shape

    def axes(self, *names: Any) -> str:
        """`(m, n)` for the names of axes, in this room's order."""
        return f"({', '.join(map(str, self.seen(names)))})"

    def entry(self, name: str, index: tuple[int, ...], value: Any) -> str:
        """`X[17, 3] is nan (example 17, feature 3 'age')` for an index of this room."""
        where = f"{name}[{', '.join(map(str, self.seen(index)))}]" if index else name
        said = f"{where} is {value!s:.40}"
        if name != "X" or len(index) != 2:
            return said
        feature, example = index
        called = self.features[feature] if feature < len(self.features) else None
        called = f" {called!r}" if isinstance(called, str) else ""
        return f"{said} (example {example}, feature {feature}{called})"

    def first(self, name: str, array: np.ndarray, mask: np.ndarray) -> str:
        """The first entry that the mask marks, in words."""
        index = tuple(map(int, np.unravel_index(mask.argmax(), mask.shape)))
        return self.entry(name, index, array[index])

    def check_shape(self, name: str, array: np.ndarray, due: tuple[int, ...]) -> None:
        """Refuse another shape than the one that is due."""
        if array.shape != due:
            raise ValueError(
                f"{name} has shape {self.seen(array.shape)} where {self.seen(due)} is due: a "
                f"number for each example{' and class' * (len(due) == 2)}."
            )

    def numbers(self, name: str, given: Any) -> np.ndarray:
        """Return what was given as an array of numbers, its examples on the last axis."""
        if isinstance(given, Tracer):
            raise TypeError(
                f"{name} is traced by jit or vmap, where values cannot be checked: build the batch "
                f"outside, or unchecked with Batch(X, y, ...) and X of shape (n, m)."
            )
        if hasattr(type(given), "nnz") or hasattr(type(given), "nse"):  # SciPy's, JAX's
            dense = "toarray" if hasattr(given, "toarray") else "todense"
            raise TypeError(f"{name} is sparse: give it dense, as {name}.{dense}().")
        if np.ma.is_masked(given):
            raise ValueError(
                f"{name} is masked in {np.ma.count_masked(given)} of its {given.size} entries: "
                f"impute them, as in {name}.filled(0), or drop such examples."
            )
        array = self._array(name, given)
        array = array.T if self.rows else array
        if array.dtype == bool:
            return array.astype(np.int8)
        if array.dtype.kind == "c":
            fix = "give real and imaginary parts as two features"
            raise TypeError(f"{name} has dtype {array.dtype}: no complex numbers are taken; {fix}.")
        if array.dtype.kind not in "iuf" and not is_floating(array.dtype):
            raise TypeError(self._no_number(name, array))
        return array if array.dtype.isnative else array.astype(array.dtype.newbyteorder("="))

    def _array(self, name: str, given: Any) -> np.ndarray:
        """Return what was given as an array, its axes as given: a table column by column."""
        if frames.is_lazy(given):
            raise TypeError(f"{name} is a query that has not run: give {name}.collect().")
        if frames.is_column(given):
            return self._column(name, frames.read(given))
        if not frames.is_table(given):
            try:
                return np.asarray(given)
            except ValueError as error:  # rows that differ in length
                said = f"{name} is not a rectangular array of numbers: {error}"
                raise ValueError(said) from error
        if frames.is_one_array(given):
            array = np.asarray(given)
        else:
            names = frames.column_names(given)
            columns = [frames.read(column) for column in frames.columns_of(given)]
            numbers = [self._column(name, c, j, names[j]) for j, c in enumerate(columns)]
            array = frames.joined(numbers, len(given))
            self._check_joined(name, numbers, array.T)
        return array[:, 0] if name != "X" and array.shape[1:] == (1,) else array

    def _check_joined(self, name: str, columns: list[np.ndarray], joined: np.ndarray) -> None:
        """Refuse integers that are not told apart as floats, in the dtype of a table."""
        for j, column in enumerate(columns):
            if joined.dtype.kind == "f" and narrowing.is_narrower(joined.dtype, column.dtype):
                cast = joined[j : j + 1]
                self.check_rounding(name, column[None], cast, narrowing.extent(cast))

    def _column(
        self, name: str, cells: frames.Cells, place: int | None = None, called: Any = None
    ) -> np.ndarray:
        """Return the numbers of a column; place: of the column in its table, if it has one."""
        missing = cells.missing
        if cells.is_numeric and not missing.any():
            return cells.values
        i = int(missing.argmax() if cells.is_numeric else cells.first_other)
        index = (i,) if place is None else (place, i) if self.rows else (i, place)
        if cells.is_numeric:
            said = self.entry(name, index, "missing")
            count = f"{missing.sum()} values" if missing.sum() > 1 else "1 value"
            count = count if place is None else f"{count} of column {called!r}"
            fix = "Impute them, or drop" if name == "X" else "Drop"
            verb = "are" if missing.sum() > 1 else "is"
            raise ValueError(f"{said}: {count} {verb} missing. {fix} such examples.")
        value = cells.values[i]
        said = self.entry(name, index, repr(str(value)) if isinstance(value, str) else value)
        what = name if place is None else f"column {called!r}"
        raise TypeError(
            f"{said}, and {what} has dtype {cells.dtype} where numbers are due: "
            f"{_remedy(name, value, cells)}."
        )

    def _no_number(self, name: str, array: np.ndarray) -> str:
        for index, value in np.ndenumerate(array):
            if not isinstance(value, (int, float, np.number, np.bool_)):
                fix = NUMBER_THE_CLASSES if name == "y" else "encode it as a number, or drop it"
                fix = fix if array.ndim else "give an array"
                value = repr(str(value)) if isinstance(value, str) else value
                said = self.entry(name, index, value)
                return f"{said}, and {name} has dtype {array.dtype} where numbers are due: {fix}."
        return f"{name} has dtype {array.dtype}: give numbers, as in np.asarray({name}, float)."

    def finite(self, name: str, array: np.ndarray, dtype: Any) -> np.ndarray:
        """Return the array in C order and in the dtype, all of it finite and told apart there."""
        with np.errstate(all="ignore"):  # what overflows is said below
            cast = _in_c_order(array, np.dtype(dtype))
            seen = narrowing.extent(cast if cast.ndim > 1 else cast[None])
        if not np.isfinite(seen.largest).all():
            raise ValueError(self._not_finite(name, array, cast))
        if name in ("X", "offset"):
            self.check_rounding(name, array, cast, seen)
        if name == "X":
            self.check_scale(cast, seen)
        return cast

    def _not_finite(self, name: str, array: np.ndarray, cast: np.ndarray) -> str:
        bad = ~np.isfinite(cast)
        said = self.first(name, array, bad)
        if np.isfinite(array.flat[bad.argmax()]):
            return (
                f"{said}: too large for {cast.dtype}, whose largest number is "
                f"{float(jnp.finfo(cast.dtype).max):.3g}. Rescale it, or ask for a wider dtype."
            )
        where = f"in {bad.any(axis=1).sum()} of the features " if name == "X" else ""
        values = f"{bad.sum()} values {where}are" if bad.sum() > 1 else "1 value is"
        fix = "Impute them, or drop" if name == "X" else "Drop"
        return f"{said}: {values} NaN or infinite. {fix} such examples."

    def check_scale(self, X: np.ndarray, seen: narrowing.Extent) -> None:
        """Refuse a feature whose squares overflow or vanish in the dtype of X."""
        found = narrowing.out_of_scale(X, seen)
        if found is not None:
            feature, is_large = found
            raise ValueError(self._scale(X, feature, is_large, X.dtype))

    def _scale(self, X: np.ndarray, feature: int, is_large: bool, dtype: np.dtype) -> str:
        """Say that the squares of a feature overflow or vanish, by its largest value."""
        example = int(np.abs(X[feature]).argmax())
        said = self.entry("X", (feature, example), X[feature, example])
        verb, axis = "overflow" if is_large else "vanish", "0" if self.rows else "1, keepdims=True"
        return (
            f"{said}: sums of the squares of this feature {verb} in {dtype}. Rescale it, as in "
            f"X / abs(X).max({axis})."
        )

    def check_rounding(
        self, name: str, array: np.ndarray, cast: np.ndarray, seen: narrowing.Extent
    ) -> None:
        """Refuse a feature, or an offset, whose values are not told apart in a narrower dtype."""
        if not narrowing.is_narrower(cast.dtype, array.dtype):
            return
        shape = (-1, array.shape[-1])
        found = narrowing.hidden(array.reshape(shape), cast.reshape(shape), seen)
        if found is None:
            return
        index = (found.feature, 0) if array.ndim > 1 else (0,)
        if name == "X" and seen.largest[found.feature] < float(jnp.finfo(cast.dtype).tiny):
            raise ValueError(self._scale(array, found.feature, False, cast.dtype))
        others = (
            f"{found.count - 1} other features are" if found.count > 2 else "1 other feature is"
        )
        more = f", and {others} hidden so" * (found.count > 1)
        raise ValueError(
            f"{self.entry(name, index, array[index])}: {cast.dtype} rounds such values by "
            f"{found.rounding:.2g}, but their standard deviation is {found.spread:.2g}{more}. "
            f"{self._centre(name, array, cast.dtype)}."
        )

    def _centre(self, name: str, array: np.ndarray, dtype: np.dtype) -> str:
        """Return what to do about values that are large beside their spread."""
        axis = "" if name != "X" else "0" if self.rows else "1, keepdims=True"
        if dtype == np.float64:  # in which the mean of integers is rounded too
            return f"Subtract the least of them first, as in {name} - {name}.min({axis})"
        wider = "ask for a wider dtype"
        if dtype == np.float32 and not jax.config.read("jax_enable_x64"):
            wider = "turn x64 on with jax.config.update('jax_enable_x64', True)"
        return f"Subtract the mean in float64 first, as in {name} - {name}.mean({axis}), or {wider}"


def _remedy(name: str, value: Any, cells: frames.Cells) -> str:
    """Return what to do with a column that holds no numbers."""
    if name == "y":
        return NUMBER_THE_CLASSES
    if isinstance(value, str) or cells.is_categorical:
        return "give 0 or 1 for each of its values as a column of its own, or drop it"
    if cells.values.dtype.kind in "mM" or hasattr(value, "year"):
        return "give it as a number, such as days, or drop it"
    if frames.is_number(type(value)) and cells.values.ndim == 1:
        return "give it as floats"
    return "encode it as numbers, or drop it"


def _in_c_order(array: np.ndarray, dtype: np.dtype) -> np.ndarray:
    """Return the array in C order and in the dtype; itself where it is so already."""
    if array.ndim < 2 or array.flags.c_contiguous:
        return np.asarray(array, dtype, order="C")
    # At an address that JAX can use as it is. Rows are turned a few at a time, which the cache
    # holds: NumPy alone takes them one by one.
    room = np.empty(array.size * dtype.itemsize + _ALIGNED, np.uint8)
    first = -room.ctypes.data % _ALIGNED
    cast = room[first : room.size - _ALIGNED + first].view(dtype).reshape(array.shape)
    for i in range(0, array.shape[-1], _TURNED):
        cast[..., i : i + _TURNED] = array[..., i : i + _TURNED]
    return cast


def is_floating(dtype: Any) -> bool:
    """Whether this is, or names, one of the dtypes that a batch may have."""
    try:
        return np.dtype(dtype).name in FLOATS
    except TypeError:
        return False
