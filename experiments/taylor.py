"""What does a right gradient look like, and a wrong one? `python -m experiments.taylor`.

Draws the Taylor remainder |f(x + h·v) − f(x) − h·g·v| against h for the gradient of the logistic
loss, and for the same with a factor of 2 forgotten: experiments/taylor.png, the README's picture.
"""

from __future__ import annotations

from pathlib import Path

import jax.numpy as jnp
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from jaxlr.audit import audit_gradient


def loss(w, X, y):
    """Return the mean logistic loss of labels −1 and 1."""
    return jnp.log1p(jnp.exp(-y * (w @ X))).mean()


def gradient(w, X, y):
    """Return its gradient by hand."""
    return X @ (-y / (1 + jnp.exp(y * (w @ X)))) / y.size


def main() -> None:
    """Audit both, and draw."""
    X = jnp.array([[0.5, -1.0, 2.0, 0.3], [1.0, 0.2, -0.7, -1.5]])
    point = jnp.array([0.4, -0.3]), X, jnp.array([1.0, -1.0, 1.0, -1.0])
    figure = Figure(figsize=(9, 3.6), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(1, 2, sharey=True)
    ways = {
        "right: the remainder falls as h²": gradient,
        "a factor of 2 forgotten: it falls as h": lambda *at: gradient(*at) / 2,
    }
    for ax, (title, way) in zip(axes, ways.items(), strict=True):
        audit_gradient(loss, way, *point).plot(ax)
        ax.set_title(title)
        ax.set_ylim(1e-17, 1e-1)
    axes[1].set_ylabel("")
    path = Path(__file__).with_name("taylor.png")
    figure.savefig(path, dpi=80)
    print(f"Saved {path.name}.")


if __name__ == "__main__":
    main()
