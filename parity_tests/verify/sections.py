"""The parts of the report, each an HTML section."""

from collections.abc import Iterable, Iterator

from parity_tests.verify.facts import reproduce
from parity_tests.verify.heat import jpeg, plain, under
from parity_tests.verify.markup import code, data, folded, image, section, table, text
from parity_tests.verify.measure import Errors, Exact, Rounded
from parity_tests.verify.own_class import OriginalFailed
from parity_tests.verify.plot import DARK, LIGHT, draw_layers
from parity_tests.verify.prove import Measured, Proof
from parity_tests.verify.table import bound, measured
from parity_tests.verify.tensors import Mapped, Tensor
from parity_tests.verify.verdict import Check, worst_of

WIDE, NARROW = 10.8, 4.0  # inches of the plot, 96 pixels each: as wide as the page and as a telephone's
NARROW_PAGE = "(max-width: 640px)"
DARK_PAGE = "(prefers-color-scheme: dark)"


def checks(found: tuple[Check, ...]) -> str:
    rows = [
        (
            text(check.dtype),
            _agreement(check),
            text(check.what),
            measured(check),
            bound(check),
            code(check.where) if check.where else "",
        )
        for check in found
    ]
    partings = [f"<li>{text(check.parting)}</li>" for check in found if check.parting]
    said = f"<p>Where they part:</p><ul>{''.join(partings)}</ul>" if partings else ""
    head = ("dtype", "", "what", "measured", "bound", "the worst")
    return section("checks", "What was compared", said, table(head, rows, "checks"))


def _agreement(check: Check) -> str:
    return '<span class="good">agrees</span>' if check.agrees else '<span class="bad">disagrees</span>'


def layers(proof: Proof) -> str:
    """The plot, in four drawings of which the browser takes one; and its numbers."""
    drawings = {
        f"{NARROW_PAGE} and {DARK_PAGE}": (DARK, NARROW),
        NARROW_PAGE: (LIGHT, NARROW),
        DARK_PAGE: (DARK, WIDE),
    }
    sources = "".join(
        f'<source media="{media}" srcset="{data("svg+xml", draw_layers(proof, *drawing))}">'
        for media, drawing in drawings.items()
    )
    alt = "The error of every layer, in the order in which they are computed; the table below has the numbers"
    picture = f"<picture>{sources}{image('svg+xml', draw_layers(proof, LIGHT, WIDE), alt)}</picture>"
    words = (
        "<p>Lines go through the tokens after each block; the small dots between them are attention weights. In "
        "float64 the truth is PyTorch itself, so one line is left: how far Flax is from it.</p>"
    )
    tables = [folded(*of_dtype) for dtype, of in proof.dtypes.items() for of_dtype in _in_numbers(text(dtype), of)]
    return section("layers", "Layer by layer", words, picture, *tables)


def _in_numbers(dtype: str, of: Measured) -> Iterator[tuple[str, str]]:
    """The tables of a dtype, each with its title; none of gradients where none were taken."""
    yield f"{dtype}: every layer, in numbers", _layer_table(of)
    exact = isinstance(of.distances, Exact)
    if of.distances.gradients:
        title = "every gradient" if exact else "the gradients of all blocks together"  # as they are judged
        yield f"{dtype}: {title}, in numbers", _gradient_table(of.distances)


def _layer_table(of: Measured) -> str:
    """Each intermediate, and where in it the two differ the most."""
    found = of.distances.gaps if isinstance(of.distances, Exact) else of.distances.layers
    places = [of.places[name] for name in found]
    ends = [(text(place.where), code(repr(place.torch)), code(repr(place.flax))) for place in places]
    rows = [(code(name), *_number(error), *end) for (name, error), end in zip(found.items(), ends, strict=True)]
    head = ("intermediate", *_number_heads(of.distances), "the largest difference in it", "PyTorch", "Flax")
    return table(head, rows, "nowrap")


def _gradient_table(distances: Exact | Rounded) -> str:
    rows = [(code(name), *_number(error)) for name, error in distances.gradients.items()]
    return table(("gradient of", *_number_heads(distances)), rows, "nowrap")


def _number_heads(distances: Exact | Rounded) -> tuple[str, ...]:
    exact = isinstance(distances, Exact)
    return ("largest difference / largest value",) if exact else ("PyTorch's error", "Flax's error", "times")


def _number(error: float | Errors) -> tuple[str, ...]:
    if isinstance(error, Errors):
        return f"{error.torch:.2e}", f"{error.flax:.2e}", f"{error.ratio:.2f}"
    return (f"{error:.2e}",)


def largest(proof: Proof, found: tuple[Check, ...]) -> str:
    """Of each dtype what is worst beside its bound, of all that was compared, and where in it."""
    dtypes = dict.fromkeys(check.dtype for check in found)
    rows = [_largest_row(proof, worst_of(check for check in found if check.dtype == dtype)) for dtype in dtypes]
    said = (
        "<p>Of intermediates, gradients, tensors and its own class, what comes nearest to its bound, or goes furthest "
        "beyond it.</p>"
    )
    head = ("dtype", "", "the worst", "of", "how much", "bound", "the largest difference in it", "PyTorch", "Flax")
    return section("largest", "The largest disagreement", said, table(head, rows, "nowrap"))


def _largest_row(proof: Proof, check: Check) -> tuple[str, ...]:
    """Its name stands first: a telephone shows so much. Where in it the two differ the most is known of intermediates
    alone."""
    kinds = {"below": "of its largest value", "times": "PyTorch's error", "all": ""}
    size = f"{measured(check)} {kinds[check.kind]}".rstrip()
    place = proof.dtypes[check.dtype].places[check.where] if check.promise == "intermediates" else None
    end = (text(place.where), code(repr(place.torch)), code(repr(place.flax))) if place else ("", "", "")
    name = code(check.where) if check.where else ""
    return text(check.dtype), _agreement(check), name, text(check.what), size, bound(check), *end


def original(proof: Proof) -> str:
    found = proof.original
    if isinstance(found, str):
        return section("original", "Its own class", f"<p>Not compared: {text(found)}.</p>")
    if isinstance(found, OriginalFailed):
        return section("original", "Its own class", f'<p class="bad">It disagrees: {text(found.reason)}.</p>')
    names = list(found.torch)
    rows = [
        (code(name), f"{found.torch[name]:.1e}", f"{found.flax[name]:.1e}" if found.flax else "not asked for")
        for name in names
    ]
    said = (
        f"<p>{text(found.name)}, version {text(found.version)}, in float64, with the file's own tensors. What it casts "
        "to float32 on the way (rotary tables, norms) is kept in float64 here: as it comes it is off by that.</p>"
    )
    body = table(("of its class", "PyTorch", "Flax"), rows, "narrow")
    return section("original", "Its own class", said, folded(f"{len(rows)} compared", body))


def predictions(proof: Proof) -> str:
    labels = proof.source.checkpoint.labels
    if not proof.source.checkpoint.config.num_classes:
        return section("predictions", "Predictions", "<p>The model has no head: it gives features.</p>")

    def named(index: int) -> str:
        return text(labels[index] if labels else f"class {index}")

    rows = []
    for dtype, of in proof.dtypes.items():
        if of.predictions is None:
            continue
        found = of.predictions
        pairs = zip(proof.images.names, found.torch, found.flax, found.close, strict=True)
        rows += [(text(dtype), text(name), named(a), named(b), _sameness(a == b, close)) for name, a, b, close in pairs]
    head = ("dtype", "image", "PyTorch", "Flax", "")
    return section("predictions", "Predictions", table(head, rows, "narrow"))


def _sameness(same: bool, close: bool) -> str:
    word = "same" if same else "differ"
    if close:
        return f"{word}, too close to call"
    return word if same else f'<span class="bad">{word}</span>'


def attention(proof: Proof) -> str:
    """The last layer's that reads, of both frameworks, on one scale, in the dtype that users run."""
    dtype = "float32" if "float32" in proof.dtypes else next(iter(proof.dtypes))
    maps = proof.dtypes[dtype].attention
    if not maps.images:
        return section("attention", "Attention", "<p>There are no photographs to lay it over.</p>")
    highest = float(max(maps.torch.max(), maps.flax.max()))
    rows = []
    for i, torch, flax in zip(maps.images, maps.torch, maps.flax, strict=True):
        pixels, name = proof.images.shown[i], proof.images.names[i]
        pictures = {
            name: plain(pixels),
            "PyTorch": under(pixels, torch, highest),
            "Flax": under(pixels, flax, highest),
        }
        figures = "".join(
            f"<figure>{image('jpeg', jpeg(picture), f'{name}: {what}')}<figcaption>{text(what)}</figcaption></figure>"
            for what, picture in pictures.items()
        )
        rows.append(f'<div class="attention">{figures}</div>')
    layer = "attention pooling" if proof.source.checkpoint.config.pool == "map" else "the last block"
    said = f"<p>What {layer} looks at ({text(dtype)}, mean of heads; up to {highest:.2g} on a patch).</p>"
    return section("attention", "Attention, side by side", said, *rows)


def tensors(proof: Proof) -> str:
    """Every tensor: the file's, and what it is in both models."""
    rows = [_tensor_row(mapped) for mapped in proof.tensors]
    head = ("in the file", "shape", "axes", "in PyTorch", "shape", "axes", "in Flax", "shape", "dtype", "sha256")
    body = table(head, rows, "tensors")
    count = sum(len(mapped.hub) for mapped in proof.tensors)
    words = (
        f"<p>{count} tensors of the model. Axes are einops patterns; none means that the array is the same. Sums are "
        "SHA-256 of PyTorch's array, its bytes in C order; where the file's is another, its own stands below.</p>"
    )
    return section("tensors", "Every tensor", words, folded("The mapping", body))


def _tensor_row(mapped: Mapped) -> tuple[str, ...]:
    sums = [tensor.sha256 for tensor in mapped.hub]
    own = [] if [tensor.sha256 for tensor in mapped.source] == sums else [tensor.sha256 for tensor in mapped.source]
    below = [f"file: {each}" for each in own]
    return (
        _names(mapped.source),
        _shape(mapped.source),
        code(mapped.axes) if mapped.axes else "",
        _names(mapped.hub),
        _shape(mapped.hub),
        code(mapped.flax_axes) if mapped.flax_axes else "",
        _names(mapped.flax),
        _shape(mapped.flax),
        text(mapped.hub[0].dtype),
        "<br>".join(f'<code class="sum">{each}</code>' for each in (*sums, *below)),
    )


def _names(found: Iterable[Tensor]) -> str:
    return "<br>".join(code(tensor.name) for tensor in found)


def _shape(found: tuple[Tensor, ...]) -> str:
    """All of one move have one shape."""
    return code(" ".join(map(str, found[0].shape)))


def config(proof: Proof) -> str:
    checkpoint = proof.source.checkpoint
    rows = [
        (code(name), text(value), text(checkpoint.sources[name])) for name, value in checkpoint.config.to_dict().items()
    ]
    prepared = checkpoint.preprocess.to_dict() if checkpoint.preprocess else {}
    rows += [(code(f"preprocess.{name}"), text(value), "") for name, value in prepared.items()]
    body = table(("field", "value", "known from"), rows, "narrow")
    return section("config", "What it is", folded("Every field, and where its value came from", body))


def again(proof: Proof, command: str) -> str:
    """What it takes to measure this again."""
    facts = reproduce(proof, command)
    rows = [("seed", text(facts["seed"])), ("machine", text(facts["machine"]))]
    rows += [(text(name), text(number)) for name, number in facts["versions"].items()]
    rows += [(f"{text(stage)}", f"{seconds:.1f} s") for stage, seconds in proof.seconds.items()]
    return section("reproduce", "To measure it again", f"<pre>{text(command)}</pre>", table(("", ""), rows, "narrow"))
