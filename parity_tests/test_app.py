"""The local page: what it shows is what the models say, by its functions here and in a real browser."""

import asyncio
import gc
import io
import sys
import time
import tracemalloc
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest.mock import MagicMock

import numpy as np
import pytest
from PIL import Image

from parity_tests.browser import chromium
from parity_tests.compare import gap
from parity_tests.datasets import encoded, picture
from parity_tests.predicting import CONFIG, LABELS, PREPROCESS, by_hand, make
from parity_tests.tolerances import FLOAT32_CHAIN
from vit_tools.app.command import main, make_parser, serve
from vit_tools.app.local_only import LocalOnly
from vit_tools.app.looking import NotFinite, difference, heat, labels_of, look, num_layers
from vit_tools.attention.on_image import on_image
from vit_tools.attention.picture import blend
from vit_tools.images import read
from vit_tools.model import FRAMEWORKS, Framework, Model, load

# What the browser says of a request to another host.
REFUSED = """() => new Promise(done => {
    document.addEventListener("securitypolicyviolation", event => done(event.effectiveDirective));
    setTimeout(() => done("nothing was refused"), 10000);
    fetch("http://localhost:1/").catch(() => 0);
})"""
LEVELS = 6  # of 255, in the mean, that WebP loses; another head or layer is tens away


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("app") / "checkpoint"
    make(path)
    return path


@pytest.fixture(scope="module")
def models(checkpoint: Path) -> dict[Framework, Model]:
    return {framework: load(str(checkpoint), framework) for framework in ("torch", "flax")}


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    (tmp_path / "photo.jpg").write_bytes(encoded(picture(1, (90, 50))))
    return tmp_path / "photo.jpg"


def test_both_frameworks_labels_are_the_models(models, checkpoint: Path, photo: Path):
    with Image.open(photo) as opened:
        looked = look(opened, models)
    expected: dict[str, float] = dict(zip(LABELS, by_hand(str(photo), checkpoint), strict=True))
    for framework, model in models.items():
        found = labels_of(looked, framework, model)
        assert len(found) == 5
        assert gap(list(found.values()), [expected[label] for label in found]) < FLOAT32_CHAIN
    assert "the same label" in difference(looked, True)


def test_classes_of_one_name_are_told_apart_and_none_is_lost(models, photo: Path):
    """As ImageNet's two cranes: each has its number, whoever has a name alone keeps it as it is."""
    cranes = ("crane", "dog", "crane", "a", "a", "bird", "a")
    with Image.open(photo) as opened:
        looked = look(opened, models)
    for framework, model in models.items():
        apart = ["crane (0)", "dog", "crane (2)", "a (3)", "a (4)", "bird", "a (6)"]
        expected = {apart[LABELS.index(name)]: p for name, p in labels_of(looked, framework, model).items()}
        assert labels_of(looked, framework, replace(model, labels=cranes)) == expected


def test_heat_is_the_layers_and_the_heads_on_the_photo(models, photo: Path):
    with Image.open(photo) as opened:
        looked = look(opened, models)
    assert looked.maps.shape == (CONFIG.depth, CONFIG.num_heads, 2, 3)
    pictures = [heat(looked, PREPROCESS, layer, head) for layer in range(2) for head in (None, 0, 1, 2)]
    assert {p.shape for p in pictures} == {(50, 90, 3)}
    assert len({p.tobytes() for p in pictures}) == len(pictures)
    brightest = np.nanargmax(on_image(looked.maps[1, 2], PREPROCESS, (50, 90)))
    dimmest = np.nanargmin(on_image(looked.maps[1, 2], PREPROCESS, (50, 90)))
    shown = pictures[-1].reshape(-1, 3).astype(int).sum(1)
    assert shown[brightest] > shown[dimmest]


def test_the_layer_after_the_blocks_is_attention_pooling(photo: Path, tmp_path: Path):
    config = CONFIG.replace(pool="map", class_token=False, num_registers=0, final_norm="tokens")
    make(tmp_path / "map", config)
    model = load(str(tmp_path / "map"), "torch")
    with Image.open(photo) as opened:
        looked, x = look(opened, {"torch": model}), model.preprocess(opened)[None]
    _, found = model(x, ("attn_pool.weights",))
    assert looked.maps.shape == (num_layers(config), CONFIG.num_heads, 2, 3)
    assert len(looked.maps) == CONFIG.depth + 1
    assert gap(looked.maps[-1].reshape(CONFIG.num_heads, -1), found["attn_pool.weights"][0]) < FLOAT32_CHAIN


def test_heat_on_a_big_photo_takes_no_memory_of_its_size(models):
    """One map of 3000 x 4000 pixels in float64 is 96 MB, its colours are three: at each move of a slider."""
    big = Image.fromarray(np.random.default_rng(0).integers(0, 256, (3000, 4000, 3), np.uint8))
    looked = look(big, models)
    whole = looked.photo
    assert (whole.size, whole.pixels.shape) == ((3000, 4000), (450, 600, 3))
    tracemalloc.start()
    try:
        shown = heat(looked, PREPROCESS, 1, 2)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert shown.shape == (450, 600, 3)
    assert peak < 96e6 / 2
    spread = on_image(looked.maps[1, 2], PREPROCESS, whole.size, whole.shown)
    assert (shown == np.round(blend(whole.pixels, spread, looked.maps[1, 2].max()) * 255)).all()


def test_nothing_is_said_of_labels_where_a_model_has_none(photo: Path, tmp_path: Path):
    make(tmp_path / "headless", CONFIG.replace(num_classes=0), None)
    models: dict[Framework, Model] = {name: load(str(tmp_path / "headless"), name) for name in FRAMEWORKS}
    with Image.open(photo) as opened:
        looked = look(opened, models)
    for framework, model in models.items():
        assert labels_of(looked, framework, model) == {}
    assert difference(looked, False).startswith("largest difference of an output: ")
    assert "label" not in difference(looked, False)


def page_in(gradio: MagicMock, models: dict[Framework, Model]) -> Any:
    """What the page does with a dropped photo, where Gradio is a stand-in."""
    from vit_tools.app.page import make_page

    make_page(models)
    return gradio.Image.return_value.change.call_args.args[0]


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_an_output_that_is_no_number_is_an_error_in_the_page(models, photo: Path, monkeypatch, value: float):
    """As vit-predict says it; in whichever framework it is."""
    gradio = MagicMock(Error=type("Error", (Exception,), {}))
    monkeypatch.setitem(sys.modules, "gradio", gradio)
    looked, *_, said, shown = page_in(gradio, models)(str(photo), 1, 0)
    assert "the same label" in said
    assert shown.shape == (50, 90, 3)
    assert looked.outputs.keys() == models.keys()
    for ruined in models:

        def call(x: Any, names: Any, model: Model = models[ruined]) -> Any:
            output, found = model(x, names)
            return np.where(np.arange(output.shape[1]) == 2, value, output), found

        some = {**models, ruined: replace(models[ruined], call=call)}
        with Image.open(photo) as opened, pytest.raises(NotFinite):
            look(opened, some)
        with pytest.raises(gradio.Error, match=f"^can't be answered: the output in {ruined} is NaN or infinite$"):
            page_in(gradio, some)(str(photo), 1, 0)


def test_it_listens_on_this_machine_alone_unless_told_otherwise():
    assert make_parser().parse_args(["--checkpoint", "x"]).host == "127.0.0.1"


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.1.5", "fe80::1", "workstation"])
def test_every_address_that_others_reach_is_warned_of(host: str, monkeypatch, capsys):
    monkeypatch.setattr("vit_tools.app.page.make_page", lambda models: None)
    monkeypatch.setattr("vit_tools.app.page.launch", lambda *given: None)
    for own in ("127.0.0.1", "127.0.0.2", "::1", "localhost"):
        assert serve({}, own, 7860) == 0
    assert capsys.readouterr().err == ""
    assert serve({}, host, 7860) == 0
    assert f"--host {host}: every machine that reaches this one can open the page" in capsys.readouterr().err


def test_every_answer_tells_the_browser_to_leave_other_hosts_alone():
    sent: list[Any] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": [(b"x", b"y")]})
        await send({"type": "http.response.body", "body": b"page"})

    async def send(message: Any) -> None:
        sent.append(message)

    asyncio.run(LocalOnly(app)({"type": "http"}, None, send))  # type: ignore[arg-type]
    headers = dict(sent[0]["headers"])
    assert headers[b"x"] == b"y"
    allowed = headers[b"content-security-policy"].decode().split(";")[0].split()
    assert allowed == ["default-src", "'self'", "'unsafe-inline'", "'unsafe-eval'", "data:", "blob:"]
    assert sent[1]["body"] == b"page"


def test_a_checkpoint_that_is_none_is_one_message(tmp_path: Path, monkeypatch, capsys):
    monkeypatch.setattr("vit_tools.app.command.find_spec", lambda name: object())
    assert main(["--checkpoint", str(tmp_path / "gone")]) == 2
    assert capsys.readouterr().err.startswith("vit-app: error: ")


@pytest.mark.parametrize("package", ["gradio", "matplotlib"])
def test_missing_packages_are_named(tmp_path: Path, monkeypatch, capsys, package: str):
    monkeypatch.setattr("vit_tools.app.command.find_spec", lambda name: None if name == package else object())
    assert main(["--checkpoint", str(tmp_path)]) == 2
    assert f"the page needs {package}: pip install {package}, or the extra app" in capsys.readouterr().err


def special(kind: str) -> Image.Image:
    """What reading it as RGB would change: half of it transparent, or 16 bits."""
    photo = picture(2, (60, 40))
    if kind == "deep":
        return Image.fromarray(np.asarray(photo.convert("L"), np.uint16) * 257)
    photo.putalpha(Image.fromarray(np.repeat(np.array([[0, 255]], np.uint8), 30, 1).repeat(40, 0)))
    return photo


def move(tab: Any, slider: str, value: int) -> None:
    tab.locator(f"#{slider} input[type=number]").fill(str(value))
    tab.keyboard.press("Enter")


def shows(tab: Any, selector: str, expected: np.ndarray, seconds: float = 30) -> bool:
    """Whether the page comes to show these pixels, but for what its image format (WebP) rounds."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        source = tab.locator(selector).get_attribute("src")
        with Image.open(io.BytesIO(tab.request.get(source).body())) as found:
            shown = np.asarray(found.convert("RGB")).astype(float)
        if shown.shape == expected.shape and np.abs(shown - expected).mean() < LEVELS:
            return True
        time.sleep(0.2)
    return False


# Gradio leaves sockets and its event loop to the garbage collector.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning", "ignore::ResourceWarning")
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.slow
def test_in_a_browser_a_dropped_photo_shows_labels_and_the_slider_changes_the_heat(
    models, checkpoint: Path, photo: Path, tmp_path: Path
):
    """Upload, read the labels, move both sliders, look: the page has the pixels of `heat`, of transparent and 16-bit
    files too, as vit-predict reads them. No request goes to another host, and one that would is refused."""
    pytest.importorskip("gradio")
    from vit_tools.app.page import launch, make_page

    white = replace(PREPROCESS, alpha="white")  # of what is transparent
    models = {name: replace(model, preprocess=white) for name, model in models.items()}
    page = make_page(models)
    address = launch(page, "127.0.0.1", None, wait=False)
    asked: list[str] = []
    try:
        with chromium() as browser:
            tab: Any = browser.new_page(viewport={"width": 1200, "height": 900})
            tab.on("requestfinished", lambda request: asked.append(request.url))
            tab.on("requestfailed", lambda request: asked.append(request.url) if request.failure != "csp" else None)
            tab.goto(address)
            tab.set_input_files("#photo input[type=file]", str(photo))
            best = LABELS[int(by_hand(str(photo), checkpoint).argmax())]
            for framework in models:
                tab.locator(f"#labels-{framework}", has_text=best).wait_for(timeout=30_000)
            assert "the same label" in tab.locator("#difference textarea").input_value()
            looked = look(Image.open(photo), models)
            for head, layer in ((2, CONFIG.depth), (2, 1), (0, 1)):
                move(tab, "layer", layer)
                move(tab, "head", head)
                expected = heat(looked, PREPROCESS, layer - 1, head - 1 if head else None)
                assert shows(tab, "#attention img", expected), (layer, head)
            for kind in ("clear", "deep"):
                special(kind).save(other := tmp_path / f"{kind}.png")
                tab.reload()
                tab.set_input_files("#photo input[type=file]", str(other))
                expected = heat(look(read(str(other)), models), white, CONFIG.depth - 1, None)
                assert shows(tab, "#attention img", expected), kind
            tab.screenshot(path=str(tmp_path / "page.png"), full_page=True)
            assert asked
            assert {url for url in asked if not url.startswith((address, "data:", "blob:"))} == set()
            assert tab.evaluate(REFUSED) == "connect-src"
    finally:
        page.close()
        del page
        gc.collect()  # here, where what Gradio left open is known
    with Image.open(tmp_path / "page.png") as drawn:
        assert drawn.width == 1200
