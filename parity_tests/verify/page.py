"""The report: one page that needs nothing beside it, neither a script nor a network."""

from importlib.resources import files
from pathlib import Path

from parity_tests.verify import sections
from parity_tests.verify.markup import text
from parity_tests.verify.prove import Proof
from parity_tests.verify.table import title
from parity_tests.verify.verdict import Check, agrees, summary
from vit_convert.beside import beside


def write_page(path: Path, proof: Proof, checks: tuple[Check, ...], command: str) -> None:
    """Writes beside the path, then renames.

    Raises:
        OSError: it can't be written.
    """
    with beside(path) as temporary:
        # A name that is not UTF-8 is in the page by its escapes.
        temporary.write_text(page(proof, checks, command), encoding="utf-8", errors="backslashreplace")


def page(proof: Proof, checks: tuple[Check, ...], command: str) -> str:
    """The whole page, its verdict on top."""
    good = agrees(checks)
    style = files("parity_tests.verify").joinpath("page.css").read_text(encoding="utf-8")
    notes = "".join(f"<li>{text(note)}</li>" for note in proof.said)
    body = (
        f"<h1>{text(title(proof))}</h1>",
        f'<div class="verdict {"good" if good else "bad"}"><strong>{"Agree" if good else "Disagree"}</strong>'
        f"{text(summary(proof, checks))}</div>",
        f'<ul class="quiet">{notes}</ul>' if notes else "",
        sections.checks(checks),
        sections.layers(proof),
        sections.largest(proof, checks),
        sections.original(proof),
        sections.predictions(proof),
        sections.attention(proof),
        sections.tensors(proof),
        sections.config(proof),
        sections.again(proof, command),
    )
    return "\n".join(
        (
            "<!doctype html>",
            '<html lang="en"><head><meta charset="utf-8">',
            '<meta name="viewport" content="width=device-width, initial-scale=1">',
            f"<title>{text(proof.source.given)}: {'agree' if good else 'disagree'}</title>",
            f"<style>{style}</style></head><body>",
            *body,
            "</body></html>",
            "",
        )
    )
