"""Pieces of HTML: every text from outside is escaped, every picture is in the page itself."""

from base64 import b64encode
from collections.abc import Iterable, Sequence
from html import escape


def text(value: object) -> str:
    return escape(str(value))


def table(head: Sequence[str], rows: Iterable[Sequence[str]], kind: str = "") -> str:
    """Cells are HTML already. Wider than the page, it scrolls by itself."""
    heads = "".join(f"<th scope=col>{cell}</th>" for cell in head)
    top = f"<thead><tr>{heads}</tr></thead>" if any(head) else ""
    body = "\n".join(f"<tr>{''.join(f'<td>{cell}</td>' for cell in row)}</tr>" for row in rows)
    return f'<div class="scroll" tabindex="0"><table class="{kind}">{top}<tbody>\n{body}\n</tbody></table></div>'


def code(value: object) -> str:
    return f"<code>{text(value)}</code>"


def folded(summary: str, body: str) -> str:
    return f"<details><summary>{summary}</summary>{body}</details>"


def section(name: str, title: str, *parts: str) -> str:
    return f'<section id="{name}"><h2>{title}</h2>\n' + "\n".join(parts) + "</section>"


def data(kind: str, content: bytes) -> str:
    """The address of a picture that is in the page."""
    return f"data:image/{kind};base64,{b64encode(content).decode()}"


def image(kind: str, content: bytes, alt: str) -> str:
    return f'<img src="{data(kind, content)}" alt="{text(alt)}">'
