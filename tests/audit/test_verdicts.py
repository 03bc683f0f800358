"""Each situation of a gradient has a defined outcome."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from jaxlr.audit import Verdict, audit_gradient

x = jnp.array([0.8, -1.3, 0.4], jnp.float32)  # whether x64 is on or not


def verdict(fun, grad=None, *args, order=1, **options):
    return audit_gradient(fun, grad, *args, order=order, **options).verdict


def rows(report, check):
    return [row for row in report.rows if row.check == check]


def test_a_right_gradient_agrees_and_a_wrong_one_does_not():
    assert verdict(lambda x: jnp.sin(x).sum(), jnp.cos, x) == Verdict.AGREES
    assert verdict(lambda x: jnp.sin(x).sum(), lambda x: 1.002 * jnp.cos(x), x) == Verdict.DISAGREES


def test_the_same_call_gives_the_same_report():
    first, second = (str(audit_gradient(jnp.sum, None, x)) for _ in range(2))
    assert first == second
    assert verdict(jnp.sum, None, x, key=jax.random.key(7)) == Verdict.AGREES


@pytest.mark.parametrize("raises", [False, True])
def test_x64_is_not_left_on(raises):
    before = jnp.asarray(1.0).dtype

    def fun(x):
        if raises and x.dtype == jnp.float64:
            raise RuntimeError("in float64")
        return (x**2).sum()

    def grad(x):
        if raises:
            raise RuntimeError("mine")
        return 2 * x

    if raises:
        with pytest.raises(RuntimeError, match="mine"):
            audit_gradient(fun, grad, x)
    else:
        assert audit_gradient(fun, grad, x).ok
    assert jnp.asarray(1.0).dtype == before


@pytest.mark.parametrize("dtype", [jnp.float16, jnp.bfloat16])
def test_low_precision_is_judged_as_sharply_as_float32(dtype):
    low = x.astype(dtype)
    assert verdict(lambda x: jnp.sin(x).sum(), None, low) == Verdict.AGREES
    report = audit_gradient(lambda x: (x**2).sum(), lambda x: 2 * x * dtype(1.02), low)
    assert report.verdict == Verdict.DISAGREES


def test_a_cast_inside_does_not_blunt_the_evidence():
    report = audit_gradient(lambda x: (jnp.sin(x.astype(jnp.bfloat16)) ** 2).sum(), None, x)
    assert report.verdict == Verdict.AGREES
    assert rows(report, "differences")[0].relative < 1e-6


def test_at_a_kink_nothing_can_be_told_but_outside_of_the_interval_it_is_wrong():
    at_kink = jnp.array([0.0, 1.0])
    report = audit_gradient(lambda x: jnp.abs(x).sum(), None, at_kink)
    assert report.verdict == Verdict.CANNOT_TELL
    assert "kink at [0]" in report.hints[0]
    outside = verdict(lambda x: jnp.abs(x).sum(), lambda x: jnp.array([1.5, 1.0]), at_kink)
    assert outside == Verdict.DISAGREES
    # Wrong away from the kink: the kink is no excuse.
    elsewhere = verdict(lambda x: jnp.abs(x).sum(), lambda x: jnp.array([0.0, 1.1]), at_kink)
    assert elsewhere == Verdict.DISAGREES


@pytest.mark.parametrize("distance", [1e-2, 1e-5])
def test_a_kink_beside_the_point_does_not_matter(distance):
    near = jnp.array([distance, -distance, 1.0])
    assert verdict(lambda x: jnp.abs(x).sum(), None, near) == Verdict.AGREES


def test_kinks_in_several_leaves_and_the_value_that_jax_has_there():
    def fun(a, b):
        return jnp.abs(a).sum() + jax.nn.relu(b).sum() + (a * b).sum()

    at = jnp.array([0.0, 1.0]), jnp.array([1.0, 0.0])
    report = audit_gradient(fun, jax.grad(fun, (0, 1)), *at, argnums=(0, 1))
    assert report.verdict == Verdict.CANNOT_TELL
    assert [hint.split(": ")[0] for hint in report.hints] == ["a", "b"]
    assert "at [0]" in report.hints[0]
    assert "at [1]" in report.hints[1]
    many = audit_gradient(lambda x: jnp.abs(x).sum(), None, jnp.zeros(5), order=1)
    assert "5 entries, the first of them [0]" in many.hints[0]


def step(x):
    return jnp.where(x > 0, 1.0, 0.0).sum() + (x**2).sum()


def test_where_fun_jumps_nothing_can_be_told():
    at_jump = jnp.array([0.0, 1.0])
    report = audit_gradient(step, None, at_jump, order=1)
    assert report.verdict == Verdict.CANNOT_TELL
    assert "fun jumps at [0]" in report.hints[0]
    assert audit_gradient(step, None, at_jump + 1e-3, order=1).ok
    # f(0) lies between the two sides of the sign, and the differences to both are equal.
    assert verdict(lambda x: jnp.sign(x).sum(), None, at_jump) == Verdict.CANNOT_TELL


def test_a_jump_is_no_excuse_for_the_other_entries():
    at_jump = jnp.array([0.0, 1.0])
    assert verdict(step, lambda x: -5 * x + 3, at_jump) == Verdict.DISAGREES

    def fun(a, b):
        return (a**2).sum() + jnp.sign(b).sum()

    report = audit_gradient(fun, lambda a, b: (3 * a, 0 * b), x, at_jump, argnums=(0, 1))
    assert report.verdict == Verdict.DISAGREES
    assert "a: it is 1.5 times the right one" in report.hints[0]


def test_a_wrong_sign_at_the_jump_of_every_entry_does_not_agree():
    X = jnp.asarray(np.random.default_rng(0).normal(size=(3, 50)), jnp.float32)
    y = jnp.sign(X[0])

    def fun(w):  # at w = 0 the examples on the wrong side are counted
        z = y * (w @ X)
        return jnp.log1p(jnp.exp(-z)).mean() + 0.01 * (z <= 0).mean()

    wrong = verdict(fun, lambda w: X @ (y * jax.nn.sigmoid(-y * (w @ X))) / 50, jnp.zeros(3))
    assert wrong == Verdict.CANNOT_TELL


@pytest.mark.parametrize("size", [1e15, 1e17])
def test_beside_a_large_constant_only_what_is_resolved_agrees(size):
    def fun(x):
        return size + jnp.sin(x).sum()

    assert verdict(fun, jnp.cos, x) == Verdict.AGREES  # by the complex step
    assert verdict(fun, lambda x: -jnp.cos(x), x) == Verdict.CANNOT_TELL


def test_noise_of_unknown_origin_makes_no_wrong_gradient_right():
    rng = np.random.default_rng(0)

    def noisy(x):
        return np.sin(np.asarray(x, np.float64)).sum() + 0.1 * rng.normal()

    assert verdict(noisy, lambda x: -jnp.cos(x), x) != Verdict.AGREES
    assert verdict(noisy, jnp.cos, x) == Verdict.CANNOT_TELL


def test_a_slip_too_small_to_be_wrong_is_noted():
    report = audit_gradient(lambda x: (x**2).sum(), lambda x: 2.0002 * x, x)
    assert report.ok
    assert any("off by 1e-04" in note for note in report.notes)
    exact = audit_gradient(lambda x: (x**2).sum(), lambda x: 2 * x, x)
    assert not any("off by" in note for note in exact.notes)


def test_a_branch_switch_is_no_obstacle():
    def fun(x):
        return jnp.where(x > 0, x**2, 3 * x).sum() + jnp.maximum(x, 0.5).sum()

    assert verdict(fun, None, x) == Verdict.AGREES


def test_zero_gradients_agree_with_zero():
    assert verdict(lambda x: ((x - 1) ** 2).sum(), None, jnp.ones(3)) == Verdict.AGREES
    assert verdict(lambda x: 0.0 * x.sum() + 3, None, x) == Verdict.AGREES
    assert verdict(lambda x: jax.nn.sigmoid(x).sum(), None, 40 * x) == Verdict.AGREES
    wrong = verdict(lambda x: ((x - 1) ** 2).sum(), lambda x: 1e-3 * x, jnp.ones(3))
    assert wrong == Verdict.DISAGREES


def test_integer_and_boolean_leaves_are_skipped_and_named():
    tree = {"w": x, "n": jnp.arange(3, dtype=jnp.int32), "on": jnp.array([True, False, True])}
    report = audit_gradient(lambda p: (p["w"] * p["n"] * p["on"]).sum(), None, tree)
    assert report.verdict == Verdict.AGREES
    assert "p['n'] (int32), p['on'] (bool)" in report.notes[0]


def test_without_a_float_there_is_nothing_to_judge():
    with pytest.raises(ValueError, match="No floating-point leaf"):
        audit_gradient(lambda n: n.sum(), None, jnp.arange(3))


def test_fun_not_finite():
    report = audit_gradient(lambda x: jnp.log(x).sum(), None, x)
    assert report.verdict == Verdict.CANNOT_TELL
    assert "not finite" in report.hints[0]


def test_nan_in_the_gradient_where_fun_is_smooth_is_wrong():
    def fun(x):
        return jnp.where(x > 0, jnp.sqrt(x), 0.0).sum()  # 0·∞ where x < 0

    report = audit_gradient(fun, None, x)
    assert report.verdict == Verdict.DISAGREES
    assert "NaN at [1]" in report.hints[0]
    infinite = verdict(jnp.sum, lambda x: jnp.full(3, jnp.inf), x)
    assert infinite == Verdict.DISAGREES


def test_an_infinite_slope_cannot_be_told():
    at_zero = jnp.array([0.0, 1.0])
    assert verdict(lambda x: jnp.sqrt(x).sum(), None, at_zero) == Verdict.CANNOT_TELL


def test_at_the_end_of_the_domain_one_side_is_enough():
    report = audit_gradient(lambda x: (x**1.5).sum(), None, jnp.array([0.0, 1.0]))
    assert report.verdict == Verdict.AGREES
    assert any("one side" in note for note in report.notes)


def test_stop_gradient_is_named():
    report = audit_gradient(lambda x: (lax.stop_gradient(x) * x).sum(), None, x)
    assert report.verdict == Verdict.DISAGREES
    assert any("stop_gradient" in hint for hint in report.hints)


def test_noise_is_not_mistaken_for_an_error():
    @jax.custom_jvp
    def noisy(x):  # a black box in float16
        shape = jax.ShapeDtypeStruct(x.shape, jnp.float16)
        out = jax.pure_callback(np.sin, shape, x.astype(jnp.float16), vmap_method="sequential")
        return out.astype(jnp.float32)

    noisy.defjvp(lambda p, t: (noisy(*p), jnp.cos(p[0]) * t[0]))
    report = audit_gradient(lambda x: noisy(x).sum(), None, x)
    assert report.verdict == Verdict.CANNOT_TELL
    assert "noisy" in report.hints[0]
    settled = verdict(lambda x: noisy(x).sum(), None, x, reference=lambda x: jnp.sin(x).sum())
    assert settled == Verdict.AGREES


def test_auxiliary_output_and_side_inputs():
    def fun(x, scale, name):
        return scale * (x**2).sum(), {"name": name}

    right = verdict(fun, lambda x, s, name: 2 * s * x, x, 0.5, "a name", has_aux=True)
    assert right == Verdict.AGREES
    assert verdict(fun, None, x, 0.5, "a name", has_aux=True) == Verdict.AGREES
    wrong = verdict(fun, lambda x, s, name: s * x, x, 0.5, "a name", has_aux=True)
    assert wrong == Verdict.DISAGREES


def test_a_python_number_may_decide_a_branch():
    def fun(x, l2):
        return (x**3).sum() + (l2 * (x**2).sum() if l2 else 0.0)

    def grad(x, l2):
        return 3 * x**2 + 2 * l2 * x

    assert verdict(fun, grad, x, 0.5) == Verdict.AGREES


def test_argnums_as_in_jax():
    def fun(a, b):
        return (a * jnp.sin(b)).sum()

    assert verdict(fun, lambda a, b: a * jnp.cos(b), x, x, argnums=1) == Verdict.AGREES
    both = verdict(fun, lambda a, b: (jnp.sin(b), a * jnp.cos(b)), x, x, argnums=(0, 1))
    assert both == Verdict.AGREES
    assert verdict(fun, lambda a, b: a * jnp.cos(b), x, x, argnums=0) == Verdict.DISAGREES


def test_array_valued_functions_are_judged_by_cotangents():
    def fun(x):
        return {"outer": jnp.outer(x, x), "sum": x.sum()}

    def pulled(x, u):
        return (u["outer"] + u["outer"].T) @ x + u["sum"]

    assert verdict(fun, pulled, x) == Verdict.AGREES
    assert verdict(fun, lambda x, u: u["outer"] @ x + u["sum"], x) == Verdict.DISAGREES
    assert verdict(fun, None, x) == Verdict.AGREES


def test_complex_arguments_and_values():
    z = x + 1j * x[::-1]
    assert verdict(lambda z: (jnp.abs(z) ** 2).sum(), None, z) == Verdict.AGREES
    assert verdict(lambda z: z**2, None, z) == Verdict.AGREES
    conjugated = verdict(lambda z: (jnp.abs(z) ** 2).sum(), lambda z: 2 * z, z)
    assert conjugated == Verdict.DISAGREES  # JAX's convention is 2·conj(z)


def test_functions_that_cannot_be_traced():
    report = audit_gradient(lambda x: (x**2).sum() if x[0] > 0 else x.sum(), lambda x: 2 * x, x)
    assert report.verdict == Verdict.AGREES
    by_numpy = audit_gradient(lambda x: np.sin(np.asarray(x)).sum(), lambda x: np.cos(x), x)
    assert by_numpy.verdict == Verdict.AGREES


def test_a_python_float_is_one_of_float64_and_what_is_missing_is_said_once():
    at = np.array([0.8, -1.3])
    report = audit_gradient(lambda x: float(np.sin(np.asarray(x)).sum()), np.cos, at)
    assert report.ok
    assert rows(report, "differences")[0].noise < 1e-10
    assert len([note for note in report.notes if "trace" in note]) == len(report.notes) <= 2


def test_a_reference_is_evidence():
    def fun(x):
        return jnp.log1p(jnp.exp(x)).sum()

    right = audit_gradient(fun, jax.nn.sigmoid, x, reference=lambda x: jax.nn.softplus(x).sum())
    assert right.verdict == Verdict.AGREES
    assert rows(right, "reference")[0].verdict == Verdict.AGREES
    other = audit_gradient(fun, jax.nn.sigmoid, x, reference=lambda x: jax.nn.relu(x).sum())
    assert rows(other, "reference")[0].verdict == Verdict.DISAGREES


def test_exceptions_of_the_function_are_its_own():
    def fun(x):
        raise RuntimeError("mine")

    with pytest.raises(RuntimeError, match="mine"):
        audit_gradient(fun, None, x)


def test_a_gradient_of_another_structure_is_refused():
    with pytest.raises(
        ValueError, match="where a dict is due, the structure of the judged argument"
    ):
        audit_gradient(lambda p: p["w"].sum(), lambda p: p["w"], {"w": x, "b": x})
    with pytest.raises(ValueError, match=r"a dict is due.*'b'"):
        audit_gradient(lambda p: p["w"].sum(), lambda p: {"w": p["w"]}, {"w": x, "b": x})


def test_scales_do_not_matter():
    def fun(p, q):
        return jnp.sin(p * 1e8).sum() + jnp.cos(q * 1e-8).sum()

    def grad(p, q):
        return 1e8 * jnp.cos(p * 1e8), -1e-8 * jnp.sin(q * 1e-8)

    point = (x * 1e-8, x * 1e8)
    assert verdict(fun, grad, *point, argnums=(0, 1)) == Verdict.AGREES
    wrong = verdict(fun, lambda p, q: (grad(p, q)[0], -grad(p, q)[1]), *point, argnums=(0, 1))
    assert wrong == Verdict.DISAGREES
