"""What is said of fits that end as before, and of those that do not."""

import numpy as np

from experiments.unchanged import compare


def ends(**other):
    """Return what a kind of two lanes ends with."""
    one = {
        "passes": np.array([3, 5], np.int32),
        "status": np.array([0, 1], np.int32),
        "loss": np.array([0.5, 0.25], np.float32),
        "w": np.array([[1.0], [-4.0]], np.float32),
        "b": np.zeros(2, np.float32),
        "compiled": np.array(2),
    }
    return {f"float32/a kind/{what}": value for what, value in (one | other).items()}


def test_what_is_the_same_and_what_is_not():
    (row,) = compare(ends(), ends())
    assert row == {
        "kind": "float32/a kind", "same": "yes", "passes": "8 → 8", "programs": "2 → 2",
        "loss": "0e+00", "w": "0e+00", "b": "0e+00",
    }  # fmt: skip
    (row,) = compare(ends(passes=np.array([3, 6]), w=np.array([[1.0], [-4.5]])), ends())
    assert (row["same"], row["passes"], row["w"]) == ("no", "8 → 9", "1e-01")
    assert compare(ends(status=np.array([1, 0])), ends())[0]["same"] == "no"
    # A kind that is new, or that has other lanes.
    assert compare(ends(), {})[0]["same"] == "no"
    assert compare(ends(passes=np.array([3])), ends())[0]["same"] == "no"
