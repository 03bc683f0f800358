"""How sure the coefficients of a fit are: standard errors from the Hessian at the optimum.

With S the sum of the weights and H the Hessian of the objective, penalty included, the
parameters' covariance is estimated by `(S·H)⁻¹`. Without a penalty that is the textbook's, the
inverse of the observed information. With one it is that of the posterior of the parameters, as a
normal distribution around its mode, where the penalty is read as a normal prior of variance
1/(S·l2) (MacKay, Neural Computation 4, 1992): conditional on the penalty, and around coefficients
that the penalty has pulled towards zero.

The softmax has one class too many: a shift common to all classes changes no probability. Its
coefficients are told about their mean over the classes, and so are their errors.
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import numpy as np

from jaxlr.base.pytrees import Array
from jaxlr.model.batch import Batch, Params
from jaxlr.model.features import extremes
from jaxlr.model.objective import hessian
from jaxlr.model.passes import sum_over_tiles, total_weight
from jaxlr.model.penalty import Penalty

MOST_PARAMETERS = 2048  # of which a Hessian is inverted


class StandardErrors(NamedTuple):
    """Standard errors, of the shapes of the parameters; infinite for what is not determined.

    Args:
        w: of the standardised features' coefficients, `(n,)` or `(n, K)`.
        b: of their intercept, `()` or `(K,)`.
        raw_b: of the intercept in the user's units, `b − Σⱼ wⱼ·meanⱼ/scaleⱼ`, of the shape of b.
    """

    w: np.ndarray
    b: np.ndarray
    raw_b: np.ndarray


def standard_errors(
    params: Params,
    batch: Batch,
    penalty: Penalty,
    mean: Array | None = None,
    scale: Array | None = None,
) -> StandardErrors | None:
    """Return the standard errors of a fit's parameters: `√diag (S·H)⁻¹`.

    Args:
        params: the optimum, `(n,)` and `()`, or `(n, K)` and `(K,)`.
        batch: the examples that it was fitted to.
        penalty: `Penalty(l2, factors)` of the fit.
        mean, scale: how the features were standardised, `(n,)`; not at all when None.

    Returns:
        `StandardErrors` of NumPy's float64; None where there are too many parameters.

    >>> import jax.numpy as jnp
    >>> batch = Batch(jnp.array([[1.0, 1.0, -1.0, -1.0]]), jnp.array([0, 1, 1, 0]))
    >>> found = standard_errors(Params(jnp.zeros(1), jnp.array(0.0)), batch, Penalty(l2=0.0))
    >>> found.w.tolist(), found.b.tolist()
    ([1.0], 1.0)
    """
    n, K = batch.n_features, batch.n_classes if batch.n_classes > 2 else 1
    if (n + 1) * K > MOST_PARAMETERS:
        return None
    blocks = hessian(params, batch, penalty)
    whole = np.zeros((n + 1, K, n + 1, K))
    whole[:n, :, :n] = np.reshape(blocks.w.w, (n, K, n, K))
    whole[:n, :, n] = np.reshape(blocks.w.b, (n, K, K))
    whole[n, :, :n] = np.moveaxis(whole[:n, :, n], 2, 0)
    whole[n, :, n] = np.reshape(blocks.b.b, (K, K))
    S = float(total_weight(batch.select(lambda a: a), np.float32))
    centred = np.eye(K) - (np.ones((K, K)) / K if K > 1 else 0)
    to_raw = np.zeros(n + 1)
    to_raw[n] = 1
    # A feature of zeros, as a constant one is when standardised, moves no intercept.
    varies = np.asarray(_varies(batch))
    if mean is not None and scale is not None:
        to_raw[:n] = np.where(varies, -np.asarray(mean) / np.asarray(scale), 0)
    rounding = np.finfo(np.asarray(blocks.b.b).dtype).eps
    values, vectors = np.linalg.eigh(whole.reshape((n + 1) * K, -1))
    # What the data do not determine, beside the common shift, is infinitely unsure.
    flat = values <= len(values) * rounding * values.max()
    root = vectors / np.sqrt(np.where(flat, np.inf, S * values))
    root, lost = root.reshape(n + 1, K, -1), vectors[:, flat].reshape(n + 1, K, -1)

    def errors(root: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        own = np.einsum("kl,jlr->jkr", centred, root)
        raw = np.einsum("j,jkr->kr", to_raw, own)
        return np.sqrt((own**2).sum(axis=-1)), np.sqrt((raw**2).sum(axis=-1))

    (each, raw), (undetermined, raw_undetermined) = errors(root), errors(lost)
    least = rounding**0.5
    each = np.where(undetermined > least, np.inf, each)
    each[:n][~varies] = np.inf  # only the penalty says anything of it
    raw = np.where(raw_undetermined > least * np.abs(to_raw).max(), np.inf, raw)
    classes = () if batch.n_classes == 2 else (K,)
    return StandardErrors(
        each[:n].reshape(n, *classes), each[n].reshape(classes), raw.reshape(classes)
    )


@jax.jit
def _varies(batch: Batch) -> Array:
    """Return which features are not all zeros, `(n,)`; |X| at once is a copy of X."""
    return sum_over_tiles(lambda tile: (extremes(tile.X) != 0).astype(float), batch) > 0
