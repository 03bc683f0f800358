"""Planted bugs that hide: beside a jump, one among many entries, or outside of the gradient."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np

from experiments.gradient_catalogue.cases import Case, by_hand, newton, ruled

_rng = np.random.default_rng(2)


def _normal(*shape):
    return jnp.asarray(_rng.normal(size=shape), jnp.float32)


x = jnp.array([0.8, -1.3, 0.4, -0.2, 1.7, -0.9])
_many = _normal(5_000)
_more = _normal(20_000).at[11].set(0.03)


def _tree(x):
    return (x**2).sum(), jnp.sin(x)


def _two_outputs():
    rule = jax.custom_vjp(_tree)
    rule.defvjp(lambda x: (_tree(x), x), lambda x, u: (2 * u[0] * x,))
    return rule


def _other_value():
    rule = jax.custom_vjp(lambda x: (x**2).sum())
    rule.defvjp(lambda x: (2 * (x**2).sum(), x), lambda x, u: (2 * u * x,))
    return rule


HIDDEN = (
    Case(
        "factor 1.5 beside another leaf's jump",
        by_hand(lambda a, b: (a**2).sum() + jnp.sign(b).sum(), lambda a, b: (3 * a, 0 * b)),
        (x, jnp.array([0.0, 1.0])),
        ("rev",),
    ),
    Case(
        "all wrong, one entry at a jump",
        by_hand(lambda x: (x > 0).sum() + (x**2).sum(), lambda x: (3 - 5 * x,)),
        (jnp.array([0.0, 1.0]),),
        ("rev",),
    ),
    Case(
        "one entry of 5,000 off by 0.2 %",
        by_hand(
            lambda w: jnp.log1p(w**2).sum(),
            lambda w: ((2 * w / (1 + w**2)).at[3210].multiply(1.002),),
        ),
        (_many,),
        ("rev",),
    ),
    Case(
        "one small entry of 20,000 forgotten",
        by_hand(lambda w: (w**2).sum(), lambda w: ((2 * w).at[11].set(0.0),)),
        (_more,),
        ("rev",),
    ),
    Case("the second output's cotangent dropped", _two_outputs(), (x,), ("rev",)),
    Case(
        "outer product: one factor's part",
        ruled(lambda x: jnp.outer(x, x), lambda x, u: u @ x),
        (x,),
        ("rev",),
    ),
    Case("another value under grad", _other_value(), (x,), ("rev",)),
    Case(
        "vmapped Newton: off by 0.2 %",
        newton(1.002),
        (x,),
    ),
)
