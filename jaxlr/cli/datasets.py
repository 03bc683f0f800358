"""scikit-learn's small data sets, from its files: to import scikit-learn takes a second."""

import importlib.util
from pathlib import Path
from typing import NamedTuple

import numpy as np

from jaxlr.base.extras import MissingExtra

_MEASURES = (
    "radius",
    "texture",
    "perimeter",
    "area",
    "smoothness",
    "compactness",
    "concavity",
    "concave points",
    "symmetry",
    "fractal dimension",
)
# As scikit-learn's loaders name them: its files have no names of features.
_FEATURES = {
    "breast_cancer": [
        form.format(measure)
        for form in ("mean {}", "{} error", "worst {}")
        for measure in _MEASURES
    ],
    "digits": [f"pixel_{row}_{column}" for row in range(8) for column in range(8)],
    "iris": [f"{part} {side} (cm)" for part in ("sepal", "petal") for side in ("length", "width")],
    "wine": [
        "alcohol",
        "malic_acid",
        "ash",
        "alcalinity_of_ash",
        "magnesium",
        "total_phenols",
        "flavanoids",
        "nonflavanoid_phenols",
        "proanthocyanins",
        "color_intensity",
        "hue",
        "od280/od315_of_diluted_wines",
        "proline",
    ],
}
_FILES = {"digits": "digits.csv.gz", "wine": "wine_data.csv"}


class Dataset(NamedTuple):
    """A data set: rows `(m, n)`, labels `(m,)`, and names."""

    rows: np.ndarray
    labels: np.ndarray
    feature_names: list[str]
    class_names: list[str]


def dataset(name: str) -> Dataset:
    """Return one of scikit-learn's data sets.

    Raises:
        MissingExtra: scikit-learn is not installed.

    >>> iris = dataset("iris")
    >>> iris.rows.shape, iris.rows[0].tolist(), iris.class_names[iris.labels[0]]
    ((150, 4), [5.1, 3.5, 1.4, 0.2], 'setosa')
    """
    package = importlib.util.find_spec("sklearn")
    if package is None or not package.submodule_search_locations:
        raise MissingExtra(
            'This needs sklearn, which is not installed: pip install "jaxlr[cli]"', name="sklearn"
        )
    folder = Path(package.submodule_search_locations[0], "datasets", "data")
    path = folder / _FILES.get(name, f"{name}.csv")
    headed = path.suffix != ".gz"  # the digits' file has no heading: classes are the digits
    table = np.loadtxt(path, delimiter=",", skiprows=int(headed), encoding="utf-8")
    class_names = [str(digit) for digit in range(10)]
    if headed:
        with path.open(encoding="utf-8") as file:
            class_names = file.readline().strip().split(",")[2:]
    return Dataset(table[:, :-1], table[:, -1].astype(int), _FEATURES[name], class_names)
