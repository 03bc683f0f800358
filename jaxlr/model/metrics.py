"""How good logits are: log loss, accuracy, ROC AUC, Brier score, calibration error.

Pure functions of the logits of one lane: `(m,)` for two classes, `(K, m)` for K > 2. Labels may
be soft: an example with the probability y of class 1 counts as y of a positive and 1 − y of a
negative, so that accuracy and AUC are those of the examples with each repeated as often as its
label says. Weight 0 removes an example, whatever its logits are; any other example whose logits
are NaN makes the result NaN, as does a total weight of zero. Nothing is raised for values, so
that every function works inside jit and vmap.
"""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
from jax import lax

from jaxlr.base.arguments import takes_arrays
from jaxlr.base.pytrees import Array, LazyWeights, common_dtype, logit_shape
from jaxlr.model.losses import (
    PointwiseLoss,
    label_probabilities,
    pointwise_loss,
    softmax_log_probability,
)
from jaxlr.model.shapes import check_numbers


@takes_arrays
@jax.jit
def log_loss(Z: Array, y: Array, weights: Array | LazyWeights | None = None) -> Array:
    """Return the mean of the loss, `Σ cᵢℓᵢ / Σ cᵢ`.

    Args:
        Z: logits, `(m,)`; or `(K, m)` for K > 2 classes.
        y: labels as in `Batch`: `(m,)`, or probabilities `(K, m)`.
        weights: None, `(m,)`, or `LazyWeights`: the c above.

    Returns:
        `()`, in the dtype of Z but at least float32.

    Raises:
        ValueError: when shapes do not fit each other.

    >>> f"{log_loss(jnp.zeros(4), jnp.array([0, 1, 1, 0])):.6f}"
    '0.693147'
    """
    Z, y, weights, pointwise = prepare(Z, y, weights)
    return _mean(pointwise.value_and_residual(Z, y)[0], weights)


@takes_arrays
@jax.jit
def accuracy(Z: Array, y: Array, weights: Array | LazyWeights | None = None) -> Array:
    """Return the share of examples whose most likely class is right.

    `Σ cᵢ y[k̂ᵢ, i] / Σ cᵢ` with `k̂ = argmax Z`, the first of equals: the label's probability
    of the predicted class, for hard labels 0 or 1.

    Args:
        Z, y, weights: as for `log_loss`.

    Returns:
        `()`; raises as `log_loss` does.

    >>> float(accuracy(jnp.array([2.0, -1.0, 3.0, -4.0]), jnp.array([1, 1, 1, 0])))
    0.75
    """
    Z, y, weights, _ = prepare(Z, y, weights)
    right = jnp.where(Z > 0, y, 1 - y) if Z.ndim == 1 else _of_predicted(Z, y)
    unknown = jnp.isnan(Z) if Z.ndim == 1 else jnp.isnan(Z).any(axis=0)
    return _mean(jnp.where(unknown, jnp.nan, right), weights)


@takes_arrays
@jax.jit
def roc_auc(Z: Array, y: Array, weights: Array | LazyWeights | None = None) -> Array:
    """Return the area under the ROC curve: how often a positive is ranked above a negative.

    `Σᵢⱼ pᵢ qⱼ ([zᵢ > zⱼ] + ½[zᵢ = zⱼ]) / (Σp Σq)` with the weights `p = c·y` of positives and
    `q = c·(1−y)` of negatives, exact, in O(m log m). K classes: the plain mean over the classes
    of one against the rest, ranked by its softmax probability (by its logarithm, which does
    not round to a tie near one), as scikit-learn's `multi_class="ovr", average="macro"`.

    Args:
        Z, y, weights: as for `log_loss`.

    Returns:
        `()`; NaN where a class has no examples, or all of them. Raises as `log_loss` does.

    >>> float(roc_auc(jnp.array([0.1, 0.4, 0.35, 0.8]), jnp.array([0, 0, 1, 1])))
    0.75
    """
    Z, y, weights, _ = prepare(Z, y, weights)
    if Z.ndim == 1:
        return _auc(Z, y, weights)
    one_against_rest = jax.vmap(_auc, in_axes=(0, 0, None))
    return one_against_rest(softmax_log_probability(Z), y, weights).mean()


@takes_arrays
@jax.jit
def brier_score(Z: Array, y: Array, weights: Array | LazyWeights | None = None) -> Array:
    """Return the mean squared residual, `Σ cᵢ‖aᵢ − yᵢ‖² / Σ cᵢ`.

    Two classes: of the probability of class 1, from 0 to 1. K classes: summed over the classes,
    from 0 to 2, as Brier has it (Monthly Weather Review 78, 1950) and as scikit-learn does.

    Args:
        Z, y, weights: as for `log_loss`.

    Returns:
        `()`; raises as `log_loss` does.

    >>> float(brier_score(jnp.zeros(4), jnp.array([0, 1, 1, 0])))
    0.25
    """
    Z, y, weights, pointwise = prepare(Z, y, weights)
    squares = pointwise.value_and_residual(Z, y)[1] ** 2
    return _mean(squares if Z.ndim == 1 else squares.sum(axis=0), weights)


@takes_arrays
@functools.partial(jax.jit, static_argnames=("num_bins",))
def calibration_error(
    Z: Array, y: Array, weights: Array | LazyWeights | None = None, num_bins: int = 15
) -> Array:
    """Return the expected calibration error: how far probabilities are from frequencies.

    `Σ_B |Σ_{i∈B} cᵢ(pᵢ − oᵢ)| / Σ cᵢ` over bins B of equal width, `(b/num_bins, (b+1)/num_bins]`,
    the first with 0. Two classes: p is the probability of class 1, o the label (Naeini et al.,
    AAAI 2015). K classes: p is the probability of the most likely class, o whether it is right
    (Guo et al., ICML 2017); with two classes that would fold p at ½ and let errors of the two
    sides cancel. It depends on the bins: compare values of equal `num_bins` only.

    Args:
        Z, y, weights: as for `log_loss`.
        num_bins: how many bins; static.

    Returns:
        `()`; raises as `log_loss` does.

    >>> float(calibration_error(jnp.zeros(4), jnp.array([0, 1, 1, 1])))
    0.25
    """
    Z, y, weights, pointwise = prepare(Z, y, weights)
    p, gap = pointwise.probability(Z), pointwise.value_and_residual(Z, y)[1]
    if Z.ndim == 2:
        p, gap = _of_predicted(Z, p), _of_predicted(Z, gap)
    bins = jnp.clip(jnp.ceil(p * num_bins).astype(jnp.int32) - 1, 0, num_bins - 1)
    # A pass for each bin, since one that scatters adds up one by one: float32 would lose digits.
    numbers = jnp.arange(num_bins, dtype=jnp.int32)
    by_bin = lax.map(lambda b: _mean(jnp.where(bins == b, gap, 0), weights), numbers)
    return jnp.abs(by_bin).sum()


# --- What they share ----------------------------------------------------------------------------


def prepare(Z, y, weights) -> tuple[Array, Array, Array | None, PointwiseLoss]:
    """Return logits, labels as probabilities, weights, in one dtype; and the pointwise loss."""
    check_numbers("Z", Z, "jaxlr.logits(params, batch.X)")
    check_numbers("y", y, "batch.y")
    Z, y = jnp.asarray(Z), jnp.asarray(y)
    if isinstance(weights, LazyWeights):
        weights = weights.select(lambda a: a)
    if Z.ndim not in (1, 2) or (Z.ndim == 2 and Z.shape[0] < 3) or Z.shape[-1] == 0:
        raise ValueError(f"Z has shape {Z.shape} where (m,), or (K, m) for K > 2 classes, is due.")
    n_classes, m = (2 if Z.ndim == 1 else Z.shape[0]), Z.shape[-1]
    labels = [(m,), (*logit_shape(n_classes), m)]
    if y.shape not in labels:
        due = " or ".join(map(str, dict.fromkeys(labels)))
        raise ValueError(f"y has shape {y.shape} where {due} is due: Z has shape {Z.shape}.")
    dtype = common_dtype(Z, jnp.float32)
    Z, y = Z.astype(dtype), label_probabilities(y, n_classes, dtype)
    if weights is not None:
        weights = jnp.asarray(weights, dtype)
        if weights.shape != (m,):
            raise ValueError(
                f"weights has shape {weights.shape} where {(m,)} is due: Z has shape {Z.shape}."
            )
        # Zero times NaN is NaN. Finite logits are kept: the derivative by the weight needs them.
        removed = weights == 0 if Z.ndim == 1 else (weights == 0)[None]
        Z = jnp.where(removed & ~jnp.isfinite(Z), 0, Z)
    return Z, y, weights, pointwise_loss(n_classes)


def _mean(values: Array, weights: Array | None) -> Array:
    """Return the mean over the examples, `Σ cᵢvᵢ / Σ cᵢ`."""
    return values.mean() if weights is None else (weights * values).sum() / weights.sum()


def _of_predicted(Z: Array, a: Array) -> Array:
    """Return the row of a that belongs to the most likely class: `(K, m)` to `(m,)`."""
    return jnp.take_along_axis(a, Z.argmax(axis=0)[None], axis=0)[0]


def _auc(z: Array, y: Array, weights: Array | None) -> Array:
    """Return the area under the ROC curve of scores `(m,)`, by one sort."""
    p, q = (y, 1 - y) if weights is None else (weights * y, weights * (1 - y))
    z, p, q = lax.sort((z, p, q), num_keys=1)
    # The mass of negatives up to each example; then before, and through, its group of equals.
    mass = jnp.cumsum(q)
    new = z[1:] != z[:-1]
    before = jnp.where(jnp.pad(new, (1, 0), constant_values=True), mass - q, 0)
    through = jnp.where(jnp.pad(new, (0, 1), constant_values=True), mass, jnp.inf)
    beaten = (lax.cummax(before) + lax.cummin(through, reverse=True)) / (2 * mass[-1])
    area = (p * beaten).sum() / p.sum()  # 0/0 is NaN: nothing to rank
    return jnp.where(jnp.isnan(z).any(), jnp.nan, area)
