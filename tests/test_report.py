"""The report: what it says, that names in it are only names, and how a browser shows it."""

import base64
import html
import json
import os
import shutil
import subprocess
import sys
from html.parser import HTMLParser
from xml.etree import ElementTree

import jax
import numpy as np
import pytest
from matplotlib.image import imread
from scipy.stats import entropy
from typer.testing import CliRunner

import jaxlr
from jaxlr import Batch, CrossValidation, Params, Penalty, Scores, Solution, Status, report
from jaxlr.cli import sweep
from jaxlr.report import contents
from jaxlr_command import app

NASTY = ["<script>alert(1)</script>", "a & b", "\"quoted' $x$", "_plain", "x" * 90]
COMMAND = "jaxlr sweep --report 'a <b> & c.html'"


def found(K=2, n=5, m=60, P=4, F=3, seed=0):
    """Return what a sweep might find: parameters at random, and the scores they have."""
    rng = np.random.default_rng(seed)
    classes = () if K == 2 else (K,)
    raw = rng.normal(size=(m, n)) * 10.0 ** rng.integers(-2, 3, n) + rng.normal(size=n)
    y = np.arange(m) % K
    y[: m // 2] = 0
    mean, scale = raw.mean(axis=0), raw.std(axis=0)
    batch = Batch(((raw - mean) / scale).T, y.astype(float) if K == 2 else y, n_classes=K)
    l2 = np.geomspace(1e-3, 1, P)

    def lanes(*shape):
        params = Params(*(rng.normal(size=(*shape, *a, *classes)) for a in ((n,), ())))
        loss, gradient_norm, gap = (rng.uniform(0.1, 1, shape) * 10.0**-k for k in (0, 6, 8))
        passes, status = rng.integers(3, 30, shape), np.zeros(shape, int)
        return Solution(params, loss, gradient_norm, gap, passes, status, gap / 100)

    losses = 0.3 + rng.uniform(0, 0.1, (P, F)) + 0.1 * (np.arange(P)[:, None] - 1) ** 2
    result = CrossValidation(
        Penalty(l2), lanes(P, F), Scores(losses, 1 - losses), np.array(1), np.array(2)
    )
    names = [*NASTY, *(f"feature {j}" for j in range(n))][:n]
    kinds = [f"<i>class {k}</i>" for k in range(K)]
    data = sweep.Data("<b>data</b>", batch, mean, scale, names, kinds)
    return sweep.Sweep(data, 7, rng.permutation(np.arange(m) % F), result, lanes(P), 1.25)


class Page(HTMLParser):
    """The elements of a page, the texts of its table rows, and all of its text."""

    def __init__(self, page):
        super().__init__()
        self.open, self.elements, self.rows, self.text = [], [], [], ""
        self.feed(page)
        assert not self.open

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))
        if tag not in ("meta", "img"):
            self.open.append(tag)
        if tag == "tr":
            self.rows.append((dict(attrs).get("class"), []))
        if tag in ("td", "th"):
            self.rows[-1][1].append("")

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text += data
        if self.open and self.open[-1] in ("td", "th"):
            self.rows[-1][1][-1] += data

    def of(self, tag):
        return [attrs for name, attrs in self.elements if name == tag]

    def row(self, first):
        return next(cells for _, cells in self.rows if cells[0] == first)


@pytest.fixture(scope="module")
def binary():
    return found()


@pytest.fixture(scope="module")
def page(binary):
    return Page(report.page(binary, COMMAND, "2026-01-01"))


def test_names_are_only_names_and_nothing_else_is_loaded(page):
    tags = {tag for tag, _ in page.elements}
    assert not tags & {"script", "link", "iframe", "object", "embed", "b" * 2, "i"}
    for name in NASTY:
        assert name in {cells[0] for _, cells in page.rows}
    assert "<b>data</b>: a sweep of penalties" in page.text
    for _, attrs in page.elements:
        assert not {"href", "srcset", "onload", "onerror", "background"} & set(attrs)
        assert "url(" not in (attrs.get("style") or "")
    policy = next(a for a in page.of("meta") if a.get("http-equiv") == "Content-Security-Policy")
    assert policy["content"] == "default-src 'none'; style-src 'unsafe-inline'; img-src data:"


def test_pictures_are_drawings_that_load_nothing(page):
    images = page.of("img")
    assert len(images) == 5
    for image in images:
        assert image["alt"]
        kind, _, source = image["src"].partition(";base64,")
        assert kind == "data:image/svg+xml"
        for element in ElementTree.fromstring(base64.b64decode(source)).iter():
            assert not str(element.tag).endswith(("script", "foreignObject"))
            links = [value for key, value in element.attrib.items() if key.endswith("href")]
            assert all(link.startswith(("#", "data:")) for link in links)


def test_the_same_sweep_makes_the_same_page(binary):
    assert report.page(binary, COMMAND) == report.page(binary, COMMAND)


def test_data_are_summed_up(page, binary):
    y = np.asarray(binary.data.batch.y)
    share = np.array([1 - y.mean(), y.mean()])
    assert "60 examples × 5 features, 2 classes" in page.text
    for name, count, part in zip(binary.data.class_names, share * 60, share, strict=True):
        assert page.row(name)[1:3] == [f"{count:.0f}", f"{part:.1%}"]
    assert f"always says '<i>class 0</i>' is right {share[0]:.1%} of the time" in page.text
    assert f"have a log loss of {entropy(share):.4f}" in page.text
    assert "unbalanced" not in page.text
    assert "unbalanced, '<i>class 1</i>' has 11.7%" in Page(report.page(found(4), "")).text


def test_weights_and_soft_labels_count(binary):
    batch = binary.data.batch
    weights = np.where(np.asarray(batch.y) == 1, 3.0, 1.0)
    soft = np.where(np.asarray(batch.y) == 1, 0.9, 0.2)
    data = binary.data._replace(batch=Batch(batch.X, soft, weights))
    told = Page(report.page(binary._replace(data=data), ""))
    share = (weights * soft).sum() / weights.sum()
    assert told.row("<i>class 1</i>")[1:3] == [f"{soft.sum():.0f}", f"{share:.1%}"]
    assert "have weights" in told.text


def test_the_table_marks_the_chosen_rows(page, binary):
    penalties, fits, scores, *_ = binary.result
    for i, l2 in enumerate(penalties.l2):
        mean, error = scores.log_loss[i].mean(), scores.log_loss[i].std(ddof=1) / 3**0.5
        kind, cells = next((kind, cells) for kind, cells in page.rows if cells[0] == f"{l2:.3g}")
        assert kind == {1: "best", 2: "one-se"}.get(i)
        assert cells[1:3] == [{1: "best", 2: "1 SE"}.get(i, ""), f"{mean:.4f} ± {error:.4f}"]
        assert cells[5] == f"{fits.suboptimality[i].max():.1e}"
        assert cells[6] == "converged"
    assert "The best of 4 penalties is l2 = 0.01" in page.text
    assert "may be better still" not in page.text
    edge = binary._replace(result=binary.result._replace(best=np.array(0)))
    assert "the weakest: a weaker one may be better still" in report.page(edge, "")


@pytest.mark.parametrize("K", [2, 3])
def test_predictions_are_those_of_the_fit_that_did_not_see_the_example(K):
    one = found(K)
    Z = contents._out_of_fold(one)
    w, b = one.result.solutions.params
    for i, fold in enumerate(one.fold_of):
        expected = np.asarray(one.data.batch.X)[:, i] @ w[1, fold] + b[1, fold]
        np.testing.assert_allclose(Z[..., i], expected, rtol=1e-5)


@pytest.mark.parametrize("K", [2, 3])
def test_coefficients_per_unit_predict_what_those_per_deviation_do(K):
    one = found(K)
    rows = [cells for _, cells in Page(report.page(one, "")).rows]
    start = next(i for i, cells in enumerate(rows) if "per unit" in cells) + 1
    rows = rows[start : start + K + 5 * K if K > 2 else start + 6]
    kinds = one.data.class_names if K > 2 else [""]
    w, b = np.zeros((5, len(kinds))), np.zeros(len(kinds))
    for name, *kind, _, per_unit in rows:
        k = kinds.index(kind[0]) if kind else 0
        if name == "(intercept)":
            b[k] = float(per_unit)
        else:
            w[one.data.feature_names.index(name), k] = float(per_unit)
    X = np.asarray(one.data.batch.X)
    raw = X.T * one.data.scale + one.data.mean
    expected = X.T @ one.path.params.w[1].reshape(5, -1) + one.path.params.b[1]
    np.testing.assert_allclose(raw @ w + b, expected, rtol=0, atol=2e-3)
    sizes = [abs(float(row[-2])) for row in rows[len(kinds) :]]
    assert sizes == sorted(sizes, reverse=True)


def test_the_certificate_and_how_to_reproduce_are_told(page, binary):
    fit = jax.tree.map(lambda leaf: leaf[1], binary.path)
    assert f"proven to be at most {fit.suboptimality:.1e} above its optimum" in page.text
    assert "The fit ended because the tolerance was met." in page.text
    assert "scikit-learn's C = 1.67)" in page.text  # 1/(0.01·60)
    assert COMMAND in page.text
    told = {cells[0]: cells[-1] for _, cells in page.rows}
    assert told["jaxlr"] == jaxlr.__version__
    assert told["JAX"].startswith(jax.__version__)
    assert told["seed of the folds"] == "7"
    assert told["time"].startswith("1.2 s") or told["time"].startswith("1.3 s")
    assert told["written"] == "2026-01-01"
    endless = binary.path._replace(suboptimality=np.full(4, np.inf))
    assert "No bound on its distance" in report.page(binary._replace(path=endless), "")


def test_columns_that_were_left_as_they_are_have_one_unit(binary):
    data = binary.data._replace(mean=np.zeros(5), scale=np.ones(5))
    told = Page(report.page(binary._replace(data=data), ""))
    assert "standard" not in told.text.partition("Data")[2].partition("How to")[0].replace(
        "standard error", ""
    )
    w = {cells[0]: cells[1:] for _, cells in told.rows if len(cells) == 2}
    for j, name in enumerate(data.feature_names):
        assert w[name] == [f"{binary.path.params.w[1, j]:.6g}"]


def test_many_coefficients_are_cut_and_it_is_said():
    one = found(3, n=60)
    told = Page(report.page(one, ""))
    size = np.sort(np.abs(one.path.params.w[1]), axis=None)[::-1]
    assert "These are the 100 largest of 180 coefficients" in told.text
    assert f"within ±{size[100]:.2g} per" in told.text
    assert sum(cells[0] in one.data.feature_names for _, cells in told.rows) == 100


def test_what_failed_is_told(binary):
    fits = binary.result.solutions
    status = fits.status.copy()
    status[0, 1] = Status.OUT_OF_PASSES
    bad = binary.result._replace(solutions=fits._replace(status=status))
    told = Page(report.page(binary._replace(result=bad), ""))
    assert f"1 of 16 fits failed: {Status.OUT_OF_PASSES.message}." in told.text
    assert "2 converged, 1 out of passes" in told.text
    params = Params(np.full_like(fits.params.w, np.nan), fits.params.b)
    bad = binary.result._replace(solutions=fits._replace(params=params))
    told = Page(report.page(binary._replace(result=bad), ""))
    assert len(told.of("img")) == 2
    assert "there are no pictures of predictions" in told.text


def test_where_nothing_can_be_chosen_nothing_is():
    one = found()
    nothing = one.result._replace(
        scores=Scores(*np.full((2, 4, 3), np.nan)), best=np.array(-1), best_one_se=np.array(-1)
    )
    told = Page(report.page(one._replace(result=nothing), ""))
    assert "None was chosen" in told.text
    assert not [kind for kind, _ in told.rows if kind == "best"]


# --- On the command line ------------------------------------------------------------------------


def run(*args):
    return CliRunner().invoke(app.make_app(), ["sweep", *map(str, args)])


def test_the_command_writes_it(binary, tmp_path, monkeypatch):
    monkeypatch.setattr(sweep, "run", lambda *_: binary)
    monkeypatch.setattr("sys.argv", ["/bin/jaxlr", "sweep", "--report", "my report.html"])
    path = tmp_path / "sweep.html"
    path.write_text("old")
    result = run("--report", path)
    assert result.exit_code == 0
    assert "jaxlr sweep --report 'my report.html'" in Page(path.read_text()).text
    assert os.listdir(tmp_path) == ["sweep.html"]


def test_what_was_there_stays_when_it_cannot_be_made(binary, tmp_path, monkeypatch):
    monkeypatch.setattr(sweep, "run", lambda *_: binary)
    monkeypatch.setattr(contents, "_pictures", lambda _: 1 / 0)
    path = tmp_path / "sweep.html"
    path.write_text("old")
    assert run("--report", path).exit_code != 0
    assert path.read_text() == "old"
    assert os.listdir(tmp_path) == ["sweep.html"]


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("a.htm", "a.htm is a name that does not end in .html."),
        ("none/a.html", "none/a.html cannot be written: there is no folder none."),
    ],
)
def test_refused_before_the_work(tmp_path, monkeypatch, name, message):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sweep, "run", lambda *_: pytest.fail("work was begun"))
    result = run("--report", name)
    assert result.exit_code == 2
    assert message in " ".join(result.stderr.split())


def test_matplotlib_is_needed_before_the_work(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    monkeypatch.setattr(sweep, "run", lambda *_: pytest.fail("work was begun"))
    result = run("--report", tmp_path / "a.html")
    assert result.exit_code == 2
    assert result.stderr.endswith('pip install "jaxlr[plots]"\n')


# --- In a browser -------------------------------------------------------------------------------

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
BROWSER = next(filter(None, map(shutil.which, BROWSERS)), None)
# Written into a frame as wide as a telephone and one as wide as a screen, the page is measured.
MEASURE = """<!DOCTYPE html><meta charset=utf-8><body>FRAMES<script>
onload = () => {
  const found = [...document.querySelectorAll("iframe")].map(frame => {
    const page = frame.contentDocument;
    return {
      room: frame.clientWidth,
      width: page.documentElement.scrollWidth,
      pictures: [...page.images].map(image => image.complete && image.naturalWidth > 0
        && image.getBoundingClientRect().width > 200),
      scripts: page.scripts.length,
      title: page.querySelector("h1").textContent,
      names: [...page.querySelectorAll("td.name")].map(cell => cell.textContent),
      loaded: frame.contentWindow.performance.getEntriesByType("resource")
        .map(entry => entry.name).filter(name => !name.startsWith("data:")),
    };
  });
  document.body.textContent = JSON.stringify(found);
};
</script>"""


def browse(folder, page, *flags):
    command = [BROWSER, "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic"]
    command += ["--no-first-run", "--disable-background-networking", "--disable-component-update"]
    command += ["--disable-sync", "--host-resolver-rules=MAP * ~NOTFOUND", "--hide-scrollbars"]
    command += ["--enable-logging=stderr", f"--user-data-dir={folder / 'profile'}"]
    (folder / "page.html").write_text(page)
    done = subprocess.run(
        [*command, *flags, (folder / "page.html").as_uri()],
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
        env={**os.environ, "HOME": str(folder)},
    )
    assert "CONSOLE" not in done.stderr, done.stderr  # what a page complains of
    return done.stdout


@pytest.mark.slow
@pytest.mark.skipif(BROWSER is None, reason=f"none of {', '.join(BROWSERS)} is installed")
@pytest.mark.parametrize("K", [2, 30])
def test_in_a_browser_it_fits_and_all_of_it_is_there(tmp_path, K):
    one = found(K, m=300)
    page = report.page(one, COMMAND)
    frame = f'<iframe width=WIDTH height=900 srcdoc="{html.escape(page)}"></iframe>'
    frames = "".join(frame.replace("WIDTH", width, 1) for width in ("400", "1200"))
    text = browse(tmp_path, MEASURE.replace("FRAMES", frames), "--dump-dom")
    body = text.partition("<body>")[2].partition("</body>")[0]
    for measured in json.loads(html.unescape(body)):
        assert measured["width"] <= measured["room"]
        assert measured["pictures"] == [True] * 5
        assert measured["scripts"] == 0
        assert measured["loaded"] == []
        assert measured["title"] == "<b>data</b>: a sweep of penalties"
        assert set(NASTY) <= set(measured["names"])
    shot = tmp_path / "shot.png"
    browse(tmp_path, page, f"--screenshot={shot}", "--window-size=1200,3000")
    pixels = (imread(shot)[..., :3] * 255).round().astype(int)
    # The colour of the best penalty's dot is in a picture only.
    assert (pixels == [0xD5, 0x5E, 0x00]).all(axis=-1).sum() > 20
