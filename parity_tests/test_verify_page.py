"""The report is one page: the verdict on top, every section there, and nothing that it would fetch or run."""

import json
import re
from dataclasses import replace
from html import unescape
from html.parser import HTMLParser
from pathlib import Path

import jax
import pytest
from matplotlib.figure import Figure

from parity_tests.browser import chromium
from parity_tests.test_planted_mistakes import tanh_gelu
from parity_tests.test_verify import save
from parity_tests.verify.asked import Asked
from parity_tests.verify.command import main
from parity_tests.verify.facts import facts
from parity_tests.verify.markup import table
from parity_tests.verify.measure import Errors, Exact, Rounded
from parity_tests.verify.own_class import IMAGE_GRADIENT, OriginalFailed, OriginalGaps
from parity_tests.verify.page import page, write_page
from parity_tests.verify.plot import LIGHT, _decades, draw_layers
from parity_tests.verify.prove import Measured, Proof, prove
from parity_tests.verify.sections import NARROW, largest, layers
from parity_tests.verify.source import open_source
from parity_tests.verify.verdict import check_all
from vit_flax.mlp import Mlp

SECTIONS = ["checks", "layers", "largest", "original", "predictions", "attention", "tensors", "config", "reproduce"]
VOID = {"meta", "img", "source", "br"}


class Parsed(HTMLParser):
    """What a page holds; every tag has to be closed in order."""

    def __init__(self, text: str):
        super().__init__()
        self.open: list[str] = []
        self.sections: list[str] = []
        self.fetched: list[str] = []
        self.tags: list[str] = []
        self.words = ""
        self.feed(text)
        self.close()
        assert not self.open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.fetched += [value or "" for name, value in attrs if name in ("src", "srcset", "href", "poster", "data")]
        self.sections += [value or "" for name, value in attrs if name == "id"]
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.words += data


@pytest.fixture(scope="module")
def proof(tmp_path_factory: pytest.TempPathFactory) -> Proof:
    path = save(tmp_path_factory.mktemp("<b>&odd") / "native")
    return prove(open_source(str(path)), Asked(dtypes=("float64", "float32"), images=4))


@pytest.fixture(scope="module")
def text(proof: Proof) -> str:
    return page(proof, check_all(proof), f"vit-verify {proof.source.given}")


@pytest.fixture(scope="module")
def parsed(text: str) -> Parsed:
    return Parsed(text)


@pytest.mark.slow
@pytest.mark.parametrize("width", [390, 1280])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_in_a_browser_it_fits_its_width_in_light_and_dark(text: str, tmp_path: Path, width: int, scheme: str) -> None:
    """The verdict is on the first screen, nothing is cut off, every picture is drawn, and nothing is asked for."""
    (tmp_path / "report.html").write_text(text, encoding="utf-8")
    asked: list[str] = []
    with chromium() as browser:
        tab = browser.new_page(viewport={"width": width, "height": 800}, color_scheme=scheme)
        tab.on("request", lambda request: asked.append(request.url))
        tab.goto((tmp_path / "report.html").as_uri())
        assert tab.evaluate("document.documentElement.scrollWidth") <= width
        assert tab.locator(".verdict").bounding_box()["y"] < 400
        back = tab.evaluate("getComputedStyle(document.body).backgroundColor")
        assert (sum(map(int, re.findall(r"\d+", back)[:3])) > 3 * 128) == (scheme == "light")
        sizes = tab.evaluate("[...document.images].map(image => image.complete ? image.naturalWidth : 0)")
        assert len(sizes) > 3
        assert min(sizes) > 0
    assert [url for url in asked if not url.startswith("data:")] == [(tmp_path / "report.html").as_uri()]


@pytest.mark.slow
def test_it_needs_nothing_beside_it(text: str, parsed: Parsed) -> None:
    assert parsed.fetched
    assert all(address.startswith("data:image/") for address in parsed.fetched)
    assert {"script", "link", "iframe", "object", "embed"}.isdisjoint(parsed.tags)
    assert not [word for word in ("http:", "https:", "@import", "url(", "javascript:") if word in text]


@pytest.mark.slow
def test_every_section_is_there_behind_the_verdict(text: str, parsed: Parsed) -> None:
    assert parsed.sections == SECTIONS
    assert text.index('class="verdict good"') < text.index('id="checks"')
    assert (
        "On this checkpoint PyTorch and Flax are one function; Flax's error against float64 is at most " in parsed.words
    )


@pytest.mark.slow
def test_a_narrow_page_has_each_verdict_in_sight_and_the_plot_at_its_own_size(proof: Proof, text: str) -> None:
    """Tables scroll: what matters stands first. A telephone is about 400 pixels wide."""
    section = text.split('id="checks"')[1].split("</section>")[0]
    rows = section.split("<tr>")[2:]
    assert len(rows) == len(check_all(proof))
    for row, check in zip(rows, check_all(proof), strict=True):
        assert row.startswith(f'<td>{check.dtype}</td><td><span class="good">agrees</span></td><td>')
    narrow = draw_layers(proof, LIGHT, NARROW).decode()
    found = re.search(r'<svg [^>]*width="([\d.]+)pt"', narrow)
    assert found
    assert 340 < float(found[1]) * 96 / 72 < 400


def test_an_axis_of_few_decades_has_labels_within_them() -> None:
    axes = Figure().subplots()
    axes.set_yscale("log")
    for limits, expected in (((4e-7, 3e-6), ["5e-07", "1e-06", "2e-06"]), ((1e-15, 1e-12), ["1e-15", "1e-14"])):
        axes.set_ylim(*limits)
        _decades(axes)
        labels = [f"{value:.0e}" for value in axes.yaxis.get_majorticklocs()]
        assert set(expected) <= set(labels)
        assert axes.yaxis.get_major_formatter()(2e-6, 0) == "2e-06"


def test_a_table_without_a_head_has_no_empty_row_for_one() -> None:
    assert "<thead>" not in table(("", ""), [("a", "b")])
    assert table(("x", ""), [("a", "b")]).count("<th scope=col>") == 2


@pytest.mark.slow
def test_it_follows_light_and_dark(text: str, parsed: Parsed) -> None:
    assert "color-scheme: light dark" in text
    assert text.count("prefers-color-scheme: dark") == 3  # the style, and two drawings of the plot
    assert parsed.tags.count("source") == 3


@pytest.mark.slow
def test_what_comes_from_outside_is_escaped(proof: Proof, text: str, parsed: Parsed) -> None:
    assert "<b>" in proof.source.given
    assert "<b>" not in text
    assert proof.source.given in parsed.words


@pytest.mark.slow
def test_every_number_of_the_verdict_and_every_tensor_is_in_it(proof: Proof, parsed: Parsed) -> None:
    for mapped in proof.tensors:
        for tensor in (*mapped.source, *mapped.hub, *mapped.flax):
            assert tensor.name in parsed.words
        for tensor in (*mapped.source, *mapped.hub):  # Flax's are checked against the hub's
            assert len(tensor.sha256) == 64
            assert tensor.sha256 in parsed.words
    found = facts(proof, check_all(proof), "vit-verify")
    worst = max(found["dtypes"]["float64"]["intermediates"].items(), key=lambda pair: pair[1])[0]
    place = found["dtypes"]["float64"]["largest_difference"][worst]
    assert place["where"] in parsed.words
    assert repr(place["torch"]) in parsed.words
    for name, number in found["reproduce"]["versions"].items():
        assert f"{name}" in parsed.words
        assert number in parsed.words
    assert "gelu" in parsed.words
    assert "Not compared: vit_torch.ViT is itself the class of layout native." in parsed.words


@pytest.mark.slow
def test_every_gradient_is_in_a_table_beside_that_of_layers(proof: Proof, text: str) -> None:
    """As --json has them: float64's by leaf, others' by kind."""
    tables = text.split('id="layers"')[1].split("</section>")[0].split("<details>")[1:]
    titles = [found.split("</summary>")[0].removeprefix("<summary>").removesuffix(", in numbers") for found in tables]
    assert titles == [
        "float64: every layer",
        "float64: every gradient",
        "float32: every layer",
        "float32: the gradients of all blocks together",
    ]
    found = facts(proof, check_all(proof), "")["dtypes"]
    for name, gap in found["float64"]["gradients"].items():
        assert f"<tr><td><code>{name}</code></td><td>{gap:.2e}</td></tr>" in tables[1]
    for name, error in found["float32"]["gradients"].items():
        numbers = f"<td>{error['torch']:.2e}</td><td>{error['flax']:.2e}</td><td>{error['ratio']:.2f}</td>"
        assert f"<tr><td><code>{name}</code></td>{numbers}</tr>" in tables[3]
    measured = proof.dtypes["float32"]
    assert isinstance(measured.distances, Rounded)
    without = replace(measured, distances=replace(measured.distances, gradients={}), graded=0)
    assert layers(replace(proof, dtypes={"float32": without})).count("<details>") == 1


def largest_rows(text: str) -> list[list[str]]:
    """The cells of the section of the largest disagreement, without their tags."""
    rows = text.split('id="largest"')[1].split("</section>")[0].split("<tr>")[2:]
    return [[unescape(re.sub("<[^>]*>", "", cell)).strip() for cell in row.split("<td>")[1:]] for row in rows]


@pytest.mark.slow
def test_the_largest_disagreement_is_what_is_worst_beside_its_bound(proof: Proof) -> None:
    """Of all that was compared; a gradient's bound is wider than an intermediate's."""
    exact, rounded = proof.dtypes["float64"], proof.dtypes["float32"]
    assert isinstance(exact.distances, Exact)
    assert isinstance(rounded.distances, Rounded)
    gaps, gradients = dict.fromkeys(exact.distances.gaps, 2e-13), dict.fromkeys(exact.distances.gradients, 1e-12)
    agreeing = replace(exact, distances=Exact(gaps, gradients))
    own = OriginalGaps("timm X", "1", {IMAGE_GRADIENT: 1e-15}, {"blocks.0": 1e-6, IMAGE_GRADIENT: 1e-6})
    noisy = Errors(1e-7, 1e-5)

    def rows(measured: Measured, original: OriginalGaps | OriginalFailed | str = "none", dtype: str = "float64"):
        part = replace(proof, dtypes={dtype: measured}, original=original)
        return [row[:5] for row in largest_rows(largest(part, check_all(part)))]

    first = next(iter(gaps))
    count, leaves = sum(len(mapped.hub) for mapped in proof.tensors), len(gradients)
    assert rows(agreeing) == [
        ["float64", "agrees", first, f"every intermediate ({len(gaps)})", "2.0e-13 of its largest value"]
    ]
    worse = replace(agreeing, distances=Exact(gaps, gradients | {"head.bias": 3e-3}))
    named = ["float64", "disagrees", "head.bias", f"every gradient ({leaves})", "3.0e-03 of its largest value"]
    assert rows(worse) == [named]
    assert rows(worse, replace(own, flax={"blocks.0": 1e-9})) == [named]
    against = ["float64", "disagrees", "blocks.0", "Flax against timm X (2)", "1.0e-06 of its largest value"]
    assert rows(agreeing, own) == [against]
    failed = ["float64", "disagrees", "", "its own class runs it", "0 of 1"]
    assert rows(agreeing, OriginalFailed("it crashes")) == [failed]
    lost = ["float64", "disagrees", "head.bias", "tensors with the same bits", f"{count - 1} of {count}"]
    assert rows(replace(worse, unequal=("head.bias",)), own) == [lost]
    by_kind = replace(rounded, distances=replace(rounded.distances, gradients={"blocks.attn.qkv.weight": noisy}))
    what = "Flax's error over PyTorch's, gradients"
    noisiest = ["float32", "disagrees", "blocks.attn.qkv.weight", what, "100.00 times PyTorch's error"]
    assert rows(by_kind, dtype="float32") == [noisiest]
    alone = rows(by_kind, own, dtype="float32")  # PyTorch's and Flax's gaps to its class are float64's
    assert [(row[0], row[2]) for row in alone] == [("float32", "blocks.attn.qkv.weight"), ("float64", "blocks.0")]


@pytest.mark.slow
def test_a_gradient_alone_that_disagrees_is_the_largest_disagreement(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same outputs: a stopped gradient shows nowhere else."""
    call, report = Mlp.__call__, tmp_path / "report.html"
    monkeypatch.setattr(Mlp, "__call__", lambda self, x, *a, **k: call(self, jax.lax.stop_gradient(x), *a, **k))
    path = save(tmp_path / "model")
    assert main([str(path), "--report", str(report), "--dtypes", "float64", "--images", "2", "--no-original"]) == 1
    found = report.read_text(encoding="utf-8")
    (row,) = largest_rows(found)
    assert row[:2] == ["float64", "disagrees"]
    assert row[3].startswith("every gradient (")
    assert f"<td><code>{row[2]}</code></td><td>" in found.split("float64: every gradient")[1].split("</details>")[0]
    assert float(row[4].split()[0]) > 1e-3


@pytest.mark.slow
def test_attention_of_both_sides_lies_side_by_side(proof: Proof, text: str) -> None:
    assert len(proof.images.shown) == 2
    rows = text.split('<div class="attention">')[1:]
    assert [row.split("</div>")[0].count("<img ") for row in rows] == [3, 3]
    for row, name in zip(rows, ("0: china", "2: flower"), strict=True):
        positions = [row.index(f"<figcaption>{what}</figcaption>") for what in (name, "PyTorch", "Flax")]
        assert positions == sorted(positions)


def test_the_command_leaves_it_and_a_disagreement_shows_on_top(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    path, report = save(tmp_path / "model"), tmp_path / "report.html"
    report.write_text("an older one")
    tanh_gelu(monkeypatch)
    words = [str(path), "--report", str(report), "--json", "--dtypes", "float64", "--images", "2", "--seed", "7"]
    assert main(words) == 1
    printed = json.loads(capsys.readouterr().out)
    assert not printed["agrees"]
    found = report.read_text(encoding="utf-8")
    alone = "gradients are of the photograph alone: the noise would take as long again"
    assert printed["notes"].count(alone) == found.count(f"<li>{alone}</li>") == 1
    assert 'class="verdict bad"' in found
    assert "part at blocks.0 (float64)" in found.split('id="checks"')[0]
    (row,) = largest_rows(found)
    assert (row[0], row[1], row[5]) == ("float64", "disagrees", "1e-12")
    assert row[6].startswith("image ")
    assert f"vit-verify {path} --report {report} --json --dtypes float64 --images 2 --seed 7" in Parsed(found).words
    assert sorted(p.name for p in tmp_path.iterdir()) == ["model", "report.html"]


@pytest.mark.slow
def test_nothing_half_written_is_left(proof: Proof, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*args: object) -> None:
        raise OSError("the disk is full")

    monkeypatch.setattr("os.replace", fail)
    with pytest.raises(OSError, match="the disk is full"):
        write_page(tmp_path / "report.html", proof, check_all(proof), "")
    assert list(tmp_path.iterdir()) == []
