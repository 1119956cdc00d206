"""From logits to answers, and answers as a table, JSON or CSV."""

import csv
import io
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from vit_convert.streams import one_line, prints


@dataclass(frozen=True)
class Answer:
    """The most probable classes of one image, the best first."""

    path: str
    labels: tuple[str, ...]
    probabilities: tuple[float, ...]


Neighbour = tuple[str, float]  # the path of an image, and its cosine


def answer(path: str, logits: npt.NDArray[Any], labels: Sequence[str], top: int) -> Answer:
    """The `top` classes of logits (K,) by their softmax; of equal ones the first."""
    wide = logits.astype(np.float64)
    exp = np.exp(wide - wide.max())
    probabilities = exp / exp.sum()
    order = np.argsort(-probabilities, kind="stable")[:top]
    return Answer(path, tuple(str(labels[i]) for i in order), tuple(float(probabilities[i]) for i in order))


def as_table(answer: Answer) -> str:
    """For people: the image's name, and a line a class."""
    lines = [f"{p:7.2%}  {one_line(label)}" for label, p in zip(answer.labels, answer.probabilities, strict=True)]
    return "\n".join([one_line(answer.path), *(f"  {line}" for line in lines)])


def as_json(answer: Answer, nearest: Sequence[Neighbour] | None = None) -> str:
    """One line of JSON; without classes where there are no labels, with the nearest images where they were sought."""
    classes = [{"label": label, "probability": p} for label, p in zip(answer.labels, answer.probabilities, strict=True)]
    found: dict[str, Any] = {"image": answer.path} | ({"classes": classes} if classes else {})
    if nearest is not None:
        found["nearest"] = [{"path": path, "cosine": cosine} for path, cosine in nearest]
    text = json.dumps(found, ensure_ascii=False, allow_nan=False)  # NaN is no JSON
    return text if prints(text) else json.dumps(found, allow_nan=False)  # nor a name's other bytes


def as_csv(answer: Answer) -> str:
    """A line a class: image, rank, label, probability."""
    return csv_lines(
        (answer.path, rank, label, repr(p))
        for rank, (label, p) in enumerate(zip(answer.labels, answer.probabilities, strict=True), start=1)
    )


CSV_HEADER = "image,rank,label,probability"


def csv_lines(rows: Any) -> str:
    """Rows as CSV (RFC 4180, but for its line ends), without the last line's end."""
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(rows)
    return text.getvalue().removesuffix("\n")
