"""Extrapolated differences, their error estimates, kinks, and Taylor orders."""

import numpy as np
import pytest

from jaxlr.audit.differences import abscissae, ladder, slopes
from jaxlr.audit.taylor import remainder_test

EPS = 2.2e-16
STEPS = ladder(1 / 16, 8.0)


def differentiate(f, x, steps=STEPS, sigma=EPS):
    with np.errstate(invalid="ignore"):
        values = f(x + abscissae(steps))
    return slopes(values, steps, np.array(sigma), EPS, 1e-3)


@pytest.mark.parametrize(
    ("f", "x", "truth"),
    [
        (np.exp, 0.3, np.exp(0.3)),
        (np.sin, 1e3, np.cos(1e3)),
        (lambda t: np.sin(1e3 * t), 0.2, 1e3 * np.cos(200.0)),
        (lambda t: 1e6 + t**3, 0.5, 0.75),
        (lambda t: np.abs(t), 1e-4, 1.0),
        (np.log, 1e-3, 1e3),
        (lambda t: 0 * t, 1.0, 0.0),
    ],
)
def test_the_error_is_within_its_estimate(f, x, truth):
    s = differentiate(f, x, sigma=EPS * max(1.0, abs(f(x))))
    assert abs(s.value - truth) <= 8 * s.error + 1e-14
    assert s.error <= 1e-3 * max(1.0, abs(truth))
    assert s.jump == 0


def test_a_kink_shows_both_sides():
    s = differentiate(lambda t: np.where(t > 0, 3 * t, -t), 0.0)
    assert abs(s.value - 1.0) < 1e-3
    assert abs(s.jump - 4.0) < 1e-3


def test_the_end_of_a_domain():
    s = differentiate(lambda t: np.where(t < 0, np.nan, np.exp(t)), 0.0)
    assert s.one_sided
    assert abs(s.value - 1.0) <= 8 * s.error
    assert s.error < 1e-4


def test_no_coarse_step_speaks_against_a_finer_one():
    """sin(10⁶·t): coarse differences are small and agree with each other, and are wrong."""
    s = differentiate(lambda t: np.sin(1e6 * t), 0.0)
    assert abs(s.value - 1e6) <= 8 * s.error


@pytest.mark.parametrize(("slip", "order"), [(0.0, 2), (1e-3, 1), (0.5, 1)])
def test_the_order_of_the_remainder(slip, order):
    h = 4.0 ** -np.arange(1, 13)
    f = np.exp(np.concatenate([[0.0], h]))
    assert round(remainder_test(f, h, 1.0 + slip, EPS).order) == order


def test_no_order_below_the_noise():
    h = 4.0 ** -np.arange(1, 13)
    f = 2 * np.concatenate([[0.0], h])
    assert np.isnan(remainder_test(f, h, 2.0, EPS).order)


@pytest.mark.parametrize(
    ("f", "x", "jumps"),
    [
        (np.sign, 0.0, True),
        (lambda t: np.where(t > 0, 1.0, 0.0) + t**2, 0.0, True),
        (lambda t: np.where(t > 0, 1.0, 0.0), 1e-3, False),
        (lambda t: np.sqrt(np.abs(t)), 0.0, False),
        (np.abs, 0.0, False),
        (lambda t: np.where(t < 0, np.nan, np.sqrt(t)), 0.0, False),
        (lambda t: 1e6 + np.sin(t), 0.3, False),
    ],
)
def test_a_jump_at_the_point_is_told_from_all_else(f, x, jumps):
    s = differentiate(f, x, sigma=EPS * max(1.0, abs(f(x))))
    assert s.discontinuous == jumps
    assert np.isinf(s.error) or not jumps
