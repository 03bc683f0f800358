"""From columns to features: against pandas and scikit-learn; what is refused, and where."""

import json
import re

import numpy as np
import pandas as pd
import pytest
from sklearn.impute import SimpleImputer

import jaxlr.cli.data as reading
from jaxlr.cli.data import Reading, read
from jaxlr.door.design import as_json, encode, from_json, labels
from jaxlr.tables import TableError, open_table


@pytest.fixture
def frame():
    rng = np.random.default_rng(0)
    m = 60
    return pd.DataFrame(
        {
            "age": np.where(rng.random(m) < 0.2, np.nan, rng.normal(40, 12, m)),
            "city": pd.Series(rng.choice(["Bern", "Graz", "Ulm"], m)).mask(rng.random(m) < 0.1),
            "plan": rng.integers(1, 4, m),
            "count": rng.integers(0, 3, m),
            "sick": np.where(rng.random(m) < 0.4, "yes", "no"),
        }
    )


def written(tmp_path, frame, name="a.csv"):
    path = tmp_path / name
    if name.endswith(".csv"):
        frame.to_csv(path, index=False)
    elif name.endswith(".parquet"):
        frame.to_parquet(path)
    else:
        frame.to_feather(path)
    return path


def expected(frame, impute, base):
    """Return the features by pandas and scikit-learn, columns standardised by what is there."""
    city = frame["city"].fillna(frame["city"].mode()[0])
    age = SimpleImputer(strategy=impute).fit_transform(frame[["age"]])[:, 0]
    columns = {"age": (age - frame["age"].mean()) / frame["age"].std(ddof=0)}
    for name, column in (("city", city), ("plan", frame["plan"].astype(str))):
        for level in sorted(set(column) - {base[name]}):
            x = (column == level).astype(float)
            columns[f"{name}={level}"] = (x - x.mean()) / x.std(ddof=0)
    return pd.DataFrame(columns)


@pytest.mark.parametrize("name", ["a.csv", "a.parquet", "a.feather"])
@pytest.mark.parametrize("impute", ["mean", "median"])
def test_features_are_those_of_pandas_and_scikit_learn(tmp_path, frame, name, impute):
    options = Reading("sick", exclude=("count",), categorical=("plan",), impute=impute)
    data = read(written(tmp_path, frame, name), options)
    base = {column: str(frame[column].mode()[0]) for column in ("city", "plan")}
    due = expected(frame, impute, base)
    assert data.feature_names == list(due)
    np.testing.assert_allclose(data.batch.X, due.T, rtol=2e-5, atol=2e-6)
    assert data.class_names == ["no", "yes"]
    np.testing.assert_array_equal(data.batch.y, frame["sick"] == "yes")
    assert data.design is not None
    fill = getattr(frame["age"], impute)()
    assert data.design.columns[0].fill == pytest.approx(fill, rel=1e-6)
    assert data.source["missing"] == {
        name: int(count) for name, count in frame[["age", "city"]].isna().sum().items()
    }
    assert from_json(json.loads(json.dumps(as_json(data.design)))) == data.design


def test_weights_count_in_means_as_repeated_rows(tmp_path, frame):
    frame = frame.dropna()
    options = {"target": "sick", "features": ("age", "city")}
    data = read(written(tmp_path, frame), Reading(**options, weights="count"))
    repeated = frame.loc[frame.index.repeat(frame["count"])]
    twin = read(written(tmp_path, repeated, "b.csv"), Reading(**options))
    assert data.feature_names == twin.feature_names
    np.testing.assert_allclose(data.mean, twin.mean, rtol=1e-12)
    np.testing.assert_allclose(data.scale, twin.scale, rtol=1e-12)
    np.testing.assert_array_equal(data.batch.weights, frame["count"])


def test_large_and_constant_numbers_keep_their_digits(tmp_path):
    seconds = 1.7e9 + np.arange(40.0)
    frame = pd.DataFrame({"t": seconds, "c": np.full(40, 0.1), "y": np.arange(40) % 2})
    data = read(written(tmp_path, frame), Reading("y"))
    due = (seconds - seconds.mean()) / seconds.std()
    np.testing.assert_allclose(data.batch.X[0], due, rtol=1e-5, atol=1e-6)
    assert data.scale[1] == 1
    np.testing.assert_array_equal(data.batch.X[1], 0)
    assert "Constant, and so of no effect: c." in data.notes


def test_numbers_that_keep_their_scale(tmp_path, frame):
    frame = frame.dropna()
    data = read(written(tmp_path, frame), Reading("sick", ("age",), standardize=False))
    np.testing.assert_allclose(data.batch.X[0], frame["age"] - frame["age"].mean(), rtol=2e-5)
    np.testing.assert_array_equal(data.scale, 1)
    assert not data.standardised


@pytest.mark.parametrize(
    ("labels", "classes"),
    [
        (["1.0", "0", "1"], ["0", "1"]),
        (["10", "9", "10"], ["9", "10"]),
        (["b", "a", "c"], ["a", "b", "c"]),
        (["1", "a", "1"], ["1", "a"]),
        (["true", "false", "true"], ["false", "true"]),
        (["9007199254740993", "9007199254740992"] * 2, ["9007199254740992", "9007199254740993"]),
    ],
)
def test_classes_are_in_order(tmp_path, labels, classes):
    data = read(
        written(tmp_path, pd.DataFrame({"x": range(len(labels)), "y": labels})), Reading("y")
    )
    assert data.class_names == classes
    assert data.batch.n_classes == len(classes)
    names = [f"{float(s):g}" if s not in classes else s for s in labels]
    np.testing.assert_array_equal(data.batch.y, [classes.index(name) for name in names])


IDS = "id,x,y\n" + "".join(f"p{i},{i % 7},{i % 2}\n" for i in range(200))


@pytest.mark.parametrize(
    ("text", "options", "message"),
    [
        ("x,y\n1,a\n2,b\n", {}, "--target is not given: say which column.* It has x, y"),
        ("x,y\n1,a\n2,b\n", {"target": "Y"}, "--target Y: .* no such column. Is y meant"),
        ("x,y\n1,a\n2,b\n", {"exclude": ("z",)}, "--exclude z: "),
        ("x,y\n1,a\n2,a\n", {}, "all rows of .* are 'a'"),
        ("x,y\n1,a\n2,\n3,b\n", {}, "--target y: it is missing in 1 row of .*: drop such"),
        ("x,y\n" + "".join(f"{i},{i / 7}\n" for i in range(50)), {}, "50 different .* not classes"),
        ("x,z,y\n1,,a\n,2,b\n,3,b\n", {}, "missing values, of 3 rows: x 2, z 1. .*--impute mean"),
        (IDS, {}, "id has more than 100 different values, such as 'p0'.*--exclude id"),
        ("x,y\n1,a\n2,b\noops,a\n", {}, "x holds numbers and text, as 'oops' in line 4"),
        (
            'x,y\n"51,5",a\n"3,0",b\n',
            {},
            "x holds numbers with a comma, as '51,5' in line 2",
        ),
        (
            'x,y\n7,a\n"-,5",b\n',
            {},
            "holds numbers with a comma, as '-,5' in line 3, where",
        ),
        ('x,y\n1,"0,5"\n2,"1,5"\n', {}, "--target y: it holds numbers with a comma, as '0,5' in"),
        ("x,y\n1,a\n2,b\n", {"features": ("x,y",)}, "--features y: that is the target"),
        ("x,w,y\n1,1,a\n", {"features": ("w",), "weights": "w"}, "--features w: .* of weights"),
        ("x,z,w,y\n1,,,a\n2,,,b\n", {}, "no values; w has no values. .*--exclude z,w.$"),
        ("x,y\n1,a\ninf,b\n", {}, "x is infinite in line 3"),
        ("x,z,y\n1,,a\n2,,b\n", {}, "z has no values. .*--exclude z.$"),
        ("x,z,y\n1,,a\n2,,b\nc,,b\n", {}, "z has no values. .*--exclude x,z; or say --categor"),
        (
            'x,y\n"1,001",a\n"2,500",b\n',
            {},
            "a comma, as '1,001' in line 2, where digits are written without commas, and with a",
        ),
        ("x,w,y\n1,1,a\n2,-1,b\n", {"weights": "w"}, "--weights w: in line 3 of .* it is -1"),
        ("x,w,y\n1,1,a\n2,b,b\n", {"weights": "w"}, "--weights w: in line 3 of .* it is 'b'"),
        ("x,y\n", {}, "has no rows"),
        ("y\na\nb\n", {}, "has no column besides y"),
    ],
)
def test_refused_in_a_sentence(tmp_path, text, options, message):
    path = tmp_path / "a.csv"
    path.write_text(text)
    target = {} if "--target is not" in message else {"target": "y"}
    with pytest.raises(Exception, match=message) as error:
        read(path, Reading(**(target | options)))
    assert "\n" not in str(error.value)
    assert type(error.value).__name__ in ("TableError", "Refusal")


def spread(write, count=80):
    """Return a column of texts, each of its own."""
    return [write(i) for i in range(count)]


DAYS = pd.date_range("2024-01-05", periods=80, freq="17h")
DISGUISES = {
    "percent": (spread("{}%".format), "x holds numbers with a percent sign, as '0%' in line 2"),
    "half": (spread(lambda i: f"{i / 2} %" if i % 3 else f"{i}"), "percent sign, as '0.5 %'"),
    "money": (spread(lambda i: f"${3 + i / 10}"), "amounts of money, as '$3.0' in"),
    "euro": (spread(lambda i: f"-{i},50 €"), "amounts of money"),
    "thousands": (spread(lambda i: f"{i + 1}\u00a0234"), "gaps between thousands, as '1 234'"),
    "narrow": (spread(lambda i: f"{i + 1}\u202f234,5"), "gaps between thousands"),
    "some": (spread(lambda i: f"{i + 1} 234" if i % 2 else str(i)), "gaps between thousands"),
    "apostrophe": (spread(lambda i: f"{i + 1}'234"), "gaps between thousands"),
    "points": (spread(lambda i: f"{i + 1}.234.000"), "gaps between thousands"),
    "both": (spread(lambda i: f"{i + 1},234.5"), "numbers with a comma"),
    "hex": (spread("0x{:x}".format), "hexadecimal numbers, as '0x0'"),
    "minus": (spread(lambda i: f"\u2212{i}" if i % 2 else str(i)), "a minus sign that is not -"),
    "unit": (spread("{} kg".format), "numbers with a unit, kg, as '0 kg'"),
    "mixture": (spread(lambda i: f"{i}%" if i % 2 else f"{i},5"), "numbers with a comma"),
    "iso": (list(DAYS.strftime("%Y-%m-%d")), "looks like dates, as '2024-01-05' in line 2"),
    "stamp": (list(map(str, DAYS.tz_localize("UTC"))), "looks like dates"),
    "milliseconds": (list(DAYS.strftime("%Y-%m-%dT%H:%M:%S.125Z")), "looks like dates"),
    "american": (list(DAYS.strftime("%m/%d/%Y")), "looks like dates"),
    "german": (list(DAYS.strftime("%d.%m.%Y %H:%M")), "looks like dates"),
    "words": (list(DAYS.strftime("%d-%b-%Y")), "looks like dates"),
    "clock": (list(DAYS.strftime("%H:%M:%S")), "looks like times of day"),
}  # fmt: skip


@pytest.mark.parametrize("name", DISGUISES)
@pytest.mark.parametrize("ending", ["csv", "parquet"])
def test_numbers_and_dates_in_another_writing_are_refused(tmp_path, name, ending):
    texts, message = DISGUISES[name]
    if ending == "parquet":
        message = message.replace("in line 2", "in row 1")
    frame = pd.DataFrame({"x": texts, "y": np.arange(80) % 2})
    path = written(tmp_path, frame, f"a.{ending}")
    with pytest.raises(TableError, match=re.escape(message)) as error:
        read(path, Reading("y"))
    assert "--exclude x; or say --categorical" in str(error.value)
    assert read(path, Reading("y", categorical=("x",))).batch.n_features == len(set(texts)) - 1
    many = pd.DataFrame({"x": texts * 2, "y": np.arange(160) % 2})
    with pytest.raises(TableError, match="--target x: it "):
        read(written(tmp_path, many, f"a.{ending}"), Reading("x"))


@pytest.mark.parametrize(
    "levels",
    [
        ["3-room", "2-room"],
        ["1A", "2A", "3A"],
        ["5%", "5%+"],
        ["1st", "2nd", "3rd"],
        ["1.2.20", "1.3.1", "2.0.0"],
        ["12:30", "late"],
        ["<5", "5-10", ">10"],
        ["2019-20", "2020-21"],
        ["120/80", "130/90"],
        [f"{i}{'AB'[i % 2]}" for i in range(30)],
        ["2024-13-01", "2024-01-01"],
        ["$", "%", "0x", ","],
    ],
)
def test_levels_that_look_a_little_like_numbers_are_levels(tmp_path, levels):
    frame = pd.DataFrame({"x": levels * 4, "y": [0, 1] * 2 * len(levels)})
    data = read(written(tmp_path, frame), Reading("y"))
    assert data.batch.n_features == len(levels) - 1


def test_a_word_in_a_later_chunk_makes_levels(tmp_path, monkeypatch):
    monkeypatch.setattr(reading, "rows_of_chunk", lambda _: 40)
    frame = pd.DataFrame({"x": ["5%", "10%"] * 25 + ["high"] * 10, "y": [0, 1] * 30})
    assert read(written(tmp_path, frame), Reading("y")).feature_names == ["x=5%", "x=high"]
    for last in ("7", "1,5"):
        frame.loc[50:, "x"] = last
        with pytest.raises(TableError, match=r"x holds numbers with a percent .* '5%' in line 2, "):
            read(written(tmp_path, frame), Reading("y"))
    frame["x"] = ["7"] * 50 + ["5%"] * 10
    with pytest.raises(TableError, match="x holds numbers with a percent sign, as '5%' in line 52"):
        read(written(tmp_path, frame), Reading("y"))


def test_few_classes_may_be_dates_or_percentages(tmp_path):
    frame = pd.DataFrame(
        {"x": range(8), "y": ["5%", "10%"] * 4, "day": ["2024-01-05", "2024-02-05"] * 4}
    )
    for target in ("y", "day"):
        data = read(written(tmp_path, frame), Reading(target, ("x",)))
        assert data.class_names == sorted(set(frame[target]))


@pytest.mark.parametrize("ending", ["csv", "parquet"])
def test_spellings_of_one_value_are_one_level(tmp_path, monkeypatch, ending):
    """The first spelling is the one that is shown; in chunks, and through predict."""
    monkeypatch.setattr(reading, "rows_of_chunk", lambda _: 4)
    on = ["True", "False", "True", "False", "TRUE", "false", "true", "FALSE", "TRUE", "TRUE"]
    code = ["1.0", "2", "1", "02", "1", "2.00", "1", "2", "1.0", "1e0"]
    word = ["a", "A", "b", "B", "a", "A", "b", "B", "a", "a"]
    frame = pd.DataFrame({"on": on, "code": code, "word": word, "y": on})
    path = written(tmp_path, frame, f"a.{ending}")
    data = read(path, Reading("y", categorical=("code",)))
    assert data.class_names == ["False", "True"]
    assert data.feature_names == ["on=False", "code=2", "word=A", "word=B", "word=b"]
    truth = np.array([s.lower() == "true" for s in on])
    np.testing.assert_array_equal(data.batch.y, truth)
    assert data.design is not None
    assert data.design.columns[1].levels == ("1.0", "2")
    shares = [0.4, np.mean([float(c) == 2 for c in code])]
    np.testing.assert_allclose(data.mean[:2], shares)
    table = open_table(path)
    X = np.hstack(
        [encode(data.design, chunk, table).X for chunk in table.chunks(["on", "code", "word"], 4)]
    )
    np.testing.assert_array_equal(X[:2], [~truth, [float(c) == 2 for c in code]])
    (note,) = (note for note in data.notes if note.startswith("Of one value"))
    assert "on TRUE as True" in note
    assert "code 1 as 1.0" in note


@pytest.mark.parametrize(
    ("texts", "categorical"), [(["1,5", "a", "b"], ()), (["1,5", "2,5", "3"], ("x",))]
)
def test_commas_among_words_or_where_levels_are_asked_for(tmp_path, texts, categorical):
    path = written(tmp_path, pd.DataFrame({"x": texts, "y": [0, 1, 1]}))
    data = read(path, Reading("y", categorical=categorical))
    assert data.feature_names == [f"x={level}" for level in texts[1:]]


def test_a_column_that_counts_the_rows_is_noted(tmp_path):
    m = 70_000  # more than a chunk has
    frame = pd.DataFrame({"id": np.arange(m) + 5, "near": np.arange(m), "y": np.arange(m) % 2})
    frame.loc[m - 1, "near"] = 0
    data = read(written(tmp_path, frame), Reading("y"))
    assert data.notes[0].startswith("Counting the rows, and so perhaps no feature but a name: id;")
    features = frame[["id", "near"]]
    np.testing.assert_allclose(data.mean, features.mean(), rtol=1e-12)
    np.testing.assert_allclose(data.scale, features.std(ddof=0), rtol=1e-12)


def test_an_index_without_a_name_and_rare_classes_are_noted(tmp_path):
    frame = pd.DataFrame({"x": np.arange(40.0), "y": ["rare"] * 2 + ["often"] * 38})
    frame.to_csv(tmp_path / "a.csv")
    data = read(tmp_path / "a.csv", Reading("y"))
    assert data.feature_names == ["x"]
    assert "has no name" in data.notes[0]
    assert data.notes[1].startswith("Counting the rows")
    assert (
        "5 % of the examples are rare, and to always say often is right for 95 %"
        in (data.notes[-1])
    )


def test_levels_are_matched_by_value(tmp_path):
    """What pandas writes as 1.0 and True where a value is missing, others write as 1 and TRUE."""
    frame = pd.DataFrame({"g": [1.0, 2.0, 1.0], "on": [True, False, True], "y": [1.0, 0.0, 0.0]})
    data = read(written(tmp_path, frame), Reading("y", categorical=("g",)))
    assert data.design is not None
    others = pd.DataFrame(
        {"g": ["1", "02", "2.00"], "on": ["TRUE", "true", "false"], "y": ["1e0", "-0", "2"]}
    )
    others.to_csv(tmp_path / "b.csv", index=False)
    pd.DataFrame({"g": [1, 2, 2], "on": [True, True, False], "y": [1, 0, 2]}).to_parquet(
        tmp_path / "b.parquet"
    )
    for name in ("b.csv", "b.parquet"):
        table = open_table(tmp_path / name)
        (chunk,) = table.chunks(["g", "on", "y"], 10)
        found = encode(data.design, chunk, table)
        np.testing.assert_array_equal(found.X, [[0, 1, 1], [0, 0, 1]])
        assert (found.imputed, found.unseen) == ({}, {})
        assert labels(data.design, chunk, table).tolist() == [1, 0, -1]


def test_new_values_are_refused_with_their_line_or_counted_as_the_base(tmp_path, frame):
    frame = frame.dropna()
    data = read(written(tmp_path, frame), Reading("sick", ("age", "city")))
    design = data.design
    assert design is not None
    path = tmp_path / "new.csv"

    def features(text, unseen="refuse"):
        path.write_text(f"city,age\n{text}\n")
        table = open_table(path)
        (chunk,) = table.chunks(["age", "city"], 10)
        return encode(design, chunk, table, unseen).X

    base = frame["city"].mode()[0]
    np.testing.assert_array_equal(features(f"{base},30"), [[30], [0], [0]])
    np.testing.assert_array_equal(features("Wien,30", "base"), [[30], [0], [0]])
    for text, message in (
        ("Ulm,30\nWien,31", "city is 'Wien' in line 3 .* not seen"),
        ("Ulm,30\nUlm,old", "age is 'old' in line 3 "),
        (",30", "city is missing in line 2"),
    ):
        with pytest.raises(TableError, match=message):
            features(text)
