"""Tables in files: what is read against pandas and scikit-learn; what is refused."""

import bz2
import gzip

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.feather
import pytest
from sklearn.datasets import dump_svmlight_file

from jaxlr.tables import TableError, open_table
from jaxlr.tables.values import levels, numbers


def whole(table, names=None, rows=7):
    """Return the columns of a table, and check that its chunks are of one size."""
    chunks = list(table.chunks(names or [name for name in table.names if name], rows))
    assert all(chunk.rows == rows for chunk in chunks[:-1])
    assert [chunk.start for chunk in chunks] == list(range(0, sum(c.rows for c in chunks), rows))
    assert chunks[-1].done == 1.0
    return {
        name: [value for chunk in chunks for value in chunk.columns[name].to_pylist()]
        for name in chunks[0].columns
    }


def csv(tmp_path, text, name="a.csv"):
    path = tmp_path / name
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return path


@pytest.fixture
def frame():
    rng = np.random.default_rng(0)
    return pd.DataFrame(
        {
            "x": np.where(rng.random(50) < 0.2, np.nan, rng.normal(size=50)),
            "n": rng.integers(-5, 5, 50),
            "city": rng.choice(["Bern", "a, \"quoted\"\nname", "Ülm"], 50),
            "on": rng.random(50) < 0.5,
        }
    )  # fmt: skip


def test_a_csv_is_what_pandas_wrote(tmp_path, frame):
    path = tmp_path / "a.csv"
    for name, settings in (("a.csv", {}), ("a.tsv", {"sep": "\t"}), ("a.csv.gz", {})):
        path = tmp_path / name
        frame.to_csv(path, index=False, **settings)
        found = whole(open_table(path))
        assert found["city"] == frame["city"].tolist()
        values = [np.nan if text is None else float(text) for text in found["x"]]
        np.testing.assert_array_equal(values, frame["x"])
        assert list(map(int, found["n"])) == frame["n"].tolist()


def test_parquet_and_feather_are_what_pandas_wrote(tmp_path, frame):
    frame["category"] = frame["city"].astype("category")
    frame["when"] = pd.Timestamp("2020-01-01")
    frame.to_parquet(tmp_path / "a.parquet")
    frame.to_feather(tmp_path / "a.feather")
    for name in ("a.parquet", "a.feather"):
        table = open_table(tmp_path / name)
        assert table.names == tuple(frame.columns)
        assert set(table.others) == {"when"}
        found = {
            key: pa.array(value, pa.string() if key in ("city", "category") else None)
            for key, value in whole(table, ["city", "x", "n", "on", "category"]).items()
        }
        np.testing.assert_array_equal(numbers(found["x"]), frame["x"])
        np.testing.assert_array_equal(numbers(found["n"]), frame["n"])
        for key in ("city", "category", "on"):
            places, texts = levels(found[key])
            expected = frame[key].astype(str).str.strip()  # booleans: True, False
            assert [texts[i] for i in places] == expected.tolist()


def test_libsvm_text_is_what_scikit_learn_wrote(tmp_path):
    rng = np.random.default_rng(1)
    X = rng.normal(size=(20, 5)) * (rng.random((20, 5)) < 0.5)
    y = rng.integers(0, 2, 20)
    dump_svmlight_file(X, y, str(tmp_path / "a.svm"), zero_based=False)
    table = open_table(tmp_path / "a.svm")
    assert table.names == ("label", "1", "2", "3", "4", "5")
    found = whole(table, ["label", "1", "2", "3", "4", "5", "9"])
    np.testing.assert_array_equal(found["label"], y)
    np.testing.assert_allclose(np.array([found[str(j)] for j in range(1, 6)]).T, X, rtol=1e-12)
    assert set(found["9"]) == {0.0}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a,b\n1,2\n\n3,\"x\ny\"\n4,5,6\n5,6\n", "line 6 of .* has 3 values where its head has 2"),
        ("a,b\n1,2\n\n3,\"x\ny\"\n4\n", "line 6 of .* has 1 value where its head has 2 columns"),
        ("a,b\n1,\"2\n2,4\n", "line 2 of .* opens a quote that is not closed"),
        (b"a,b\n1,2\n3,\xff\n", "line 3 of .* is not UTF-8"),
        (b"a,b\xff\n1,2\n", "line 1 of .* is not UTF-8: convert it, as by iconv"),
        ("naïve,b\n1,2\n".encode("latin-1"), "line 1 of .* is not UTF-8"),
        ("a;b\n1;2\n", "one column only, 'a;b': .*--delimiter ';'"),
        ("0.1,2\n1,2\n", "holds numbers, 0.1, 2, where the names"),
        ("a,b, a\n1,2,3\n", "two columns named 'a'"),
        ("", "is empty"),
    ],
)  # fmt: skip
def test_a_bad_csv_is_refused_and_the_line_named(tmp_path, text, message):
    with pytest.raises(TableError, match=message) as error:
        whole(open_table(csv(tmp_path, text)))
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("text", [b"a,b\n1,2\n3,\xff\n", b"a,b\n1,2\n3,4,5\n", b"a,b\n1,2\n"])
def test_no_file_is_left_open(tmp_path, monkeypatch, text):
    files, made = [], pa.OSFile
    monkeypatch.setattr(pa, "OSFile", lambda *args: files.append(made(*args)) or files[-1])
    error = None
    try:
        whole(open_table(csv(tmp_path, text)))
    except TableError as raised:
        error = raised  # with its traceback, and all that this holds
    assert (error is None) == (text == b"a,b\n1,2\n")
    assert files
    assert all(file.closed for file in files)


@pytest.mark.parametrize("name", ["a.csv", "a.tsv", "a.csv.gz", "a.csv.bz2", "a.svm"])
@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-16-be", "utf-32", "utf-32-be"])
def test_wide_encodings_are_named_with_the_remedy(tmp_path, name, encoding):
    text = "1 1:2\n" if name == "a.svm" else "age,city\n31,Ülm\n"
    packing = {"gz": gzip.compress, "bz2": bz2.compress}.get(name.rpartition(".")[2], bytes)
    path = csv(tmp_path, packing(text.encode(encoding)), name)
    told = encoding.upper().removesuffix("-LE").removesuffix("-BE")
    told += encoding[-2:].upper() if encoding.endswith("e") else ""
    with pytest.raises(TableError, match=f"a.* is {told}, where UTF-8 is due: convert") as error:
        open_table(path)
    assert f"iconv -f {told} -t UTF-8" in str(error.value)
    assert ("-dc" in str(error.value)) == (packing is not bytes)


def test_a_replacement_sign_in_the_head_is_a_sign_as_any(tmp_path):
    assert open_table(csv(tmp_path, "a\ufffd,b\n1,2\n")).names == ("a\ufffd", "b")


def test_marks_of_utf_8_are_skipped(tmp_path):
    assert open_table(csv(tmp_path, "\ufeffa,b\n1,2\n")).names == ("a", "b")
    assert whole(open_table(csv(tmp_path, "\ufeff1 1:2\n", "a.svm"))) == {"label": [1], "1": [2]}


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.svm", b"1 1:2 3:4\nx 2:1\n", "line 2 of .* is no LIBSVM text.*'x 2:1'"),
        ("a.svm", b"1 1:2\n1 3:1 2:1\n", "line 2 of .* with rising indices"),
        ("a.svm", b"1 1:a\n", "line 1 of "),
        ("a.svm", b"1 1:2\n0 3000000000:1\n", "line 2 of .* has the index 3000000000, and 2147483"),
        ("a.svm", b"1 1:2\n0 99999999999999999999:1\n", "line 2 of .* has the index 9999999999999"),
        ("a.parquet", b"abc", "is no Parquet file, or is damaged"),
        ("a.feather", b"abcdefghijkl", "is no Feather file, or is damaged"),
        ("a.xlsx", b"", "ends in none of .csv"),
        ("a.csv.gz", b"a,b\n1,2\n", "cannot be read as a CSV"),
    ],
)
def test_other_bad_files_are_refused(tmp_path, name, content, message):
    with pytest.raises(TableError, match=message) as error:
        whole(open_table(csv(tmp_path, content, name)))
    assert "\n" not in str(error.value)


def test_hashed_indices_are_the_features_that_are_there(tmp_path):
    path = csv(tmp_path, "1 7:1 30000000:2\n0 8:3 2147483646:4\n1 7:5\n", "a.svm")
    table = open_table(path)
    assert table.names == ("label", "7", "8", "30000000", "2147483646")
    assert table.rows == 3
    found = whole(table, ["30000000", "label", "7", "5"], rows=2)
    assert found == {"30000000": [2, 0, 0], "label": [1, 0, 1], "7": [1, 0, 5], "5": [0, 0, 0]}


def test_a_missing_file_is_refused(tmp_path):
    with pytest.raises(TableError, match="there is no such file"):
        open_table(tmp_path / "none.csv")


def test_rows_are_placed_on_their_lines(tmp_path):
    table = open_table(csv(tmp_path, 'a,b\n1,2\n\n"x\ny",3\n4,5\n'))
    assert [table.place(row) for row in range(3)] == ["line 2", "line 4", "line 6"]


def test_words_for_missing_values(tmp_path):
    path = csv(tmp_path, "a,b\n1, NA\n?,x\n,?\n -, \n")
    table = open_table(path, missing=["?", "-"])
    (chunk,) = table.chunks(["a", "b"], 10)
    values = numbers(chunk.columns["a"], table.missing)
    np.testing.assert_array_equal(values, [1, np.nan, np.nan, np.nan])
    places, texts = levels(chunk.columns["b"], table.missing)
    assert texts == ["x"]
    assert places.tolist() == [-1, 0, -1, -1]


def test_a_packed_csv_that_ends_early_is_refused(tmp_path):
    packed = gzip.compress(b"a,b\n" + b"1,2\n" * 10_000)
    with pytest.raises(TableError, match="cannot be read"):
        whole(open_table(csv(tmp_path, packed[:-20], "a.csv.gz")), rows=2**14)
