"""What vit-predict does with a loaded model, one function a thing that can be asked for."""

import argparse
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np

from vit_convert import streams
from vit_convert.errors import CheckpointError
from vit_convert.preprocess import Preprocess, Size
from vit_tools.attention.maps import Attention, attention, wanted
from vit_tools.attention.on_image import on_image
from vit_tools.attention.picture import Seen, caption, draw, reduced, seen
from vit_tools.features import Batch, answered, features, run, token_source, unit
from vit_tools.images import Corrupt, Opened, as_seen, batches, find_images, open_images, read
from vit_tools.labelled import Labelled
from vit_tools.model import Model
from vit_tools.nearest import draw_nearest, knn_predictions, nearest
from vit_tools.npz import Spool, write_npz
from vit_tools.predict.answers import CSV_HEADER, Answer, answer, as_csv, as_json, as_table

Tell = Callable[[Corrupt], None]


@dataclass(frozen=True)
class Asked:
    """What is to be made of the images."""

    top: int
    batch_size: int
    form: Callable[[Answer], str]
    json: bool
    header: str | None
    attention: Path | None
    attention_npz: Path | None
    features: Path | None
    source: str  # the intermediate that has the tokens
    nearest: str | None
    nearest_png: Path | None
    neighbours: int

    @property
    def answers_alone(self) -> bool:
        """Nothing but labels."""
        return not (self.attention or self.attention_npz or self.features or self.nearest)


def asked_of(model: Model, args: argparse.Namespace) -> Asked:
    """
    Raises:
        CheckpointError: the model has no labels and nothing else is asked for, or no such layer.
    """
    form = as_json if args.json else as_csv if args.csv else as_table
    asked = Asked(
        args.top,
        args.batch_size,
        form,
        args.json,
        CSV_HEADER if args.csv else None,
        args.attention,
        args.attention_npz,
        args.features,
        token_source(model.config, args.layer),
        args.nearest,
        args.nearest_png,
        args.neighbours,
    )
    if not model.has_labels and asked.answers_alone:
        why = "a head that projects, not one of classes" if model.answers == "embedding" else "no head"
        raise CheckpointError(
            f"{model.path} has {why}, so there are no labels: ask for --features, --nearest or --attention"
        )
    return asked


def answer_all(model: Model, paths: Sequence[str], asked: Asked, tell: Tell) -> None:
    """Labels as they come, and at the end what needs all images: pictures, arrays, neighbours."""
    looks = asked.attention or asked.attention_npz
    names = [*(wanted(model.config) if looks else ()), *(["pooled"] if asked.features or asked.nearest else [])]
    names += [asked.source] * (asked.features is not None)
    gallery = Gallery.of(model, asked.nearest, asked.batch_size, tell) if asked.nearest else None
    if asked.header and model.has_labels:
        streams.answer(asked.header)
    given = batches(open_images(paths, model.preprocess), asked.batch_size, tell)
    with closing(Kept()) as kept:
        for batch in answered(run(model, given, tuple(dict.fromkeys(names))), tell):
            answers = answers_of(model, batch, asked.top)
            for one in answers if not (asked.json and asked.nearest) else ():  # one line an image: with its neighbours
                streams.answer(asked.form(one))
            kept.add(model, batch, answers, asked)
        if kept.paths:
            write_all(model, kept, gallery, asked)


def write_all(model: Model, kept: "Kept", gallery: "Gallery | None", asked: Asked) -> None:
    """What is made of all images together."""
    if asked.attention:
        draw(kept.seen, kept.attention, model.preprocess, asked.attention)
    if asked.attention_npz:
        write_npz(asked.attention_npz, attention_arrays(kept, model.preprocess))
    if asked.features:
        write_npz(asked.features, [("paths", np.array(kept.paths)), *kept.features.items()])
    if gallery:
        say_nearest(kept, gallery, asked, model.preprocess)


def answers_of(model: Model, batch: Batch, top: int) -> list[Answer]:
    """None for a model without labels."""
    if not model.has_labels:
        return []
    return [
        answer(image.path, logits, model.label_names, top)
        for image, logits in zip(batch.images, batch.output, strict=True)
    ]


class Kept:
    """What is needed of the images after the last of them; to be closed."""

    def __init__(self) -> None:
        self.paths: list[str] = []
        self.answers: list[Answer] = []  # without labels where the model has none
        self.seen: list[Seen] = []  # small, whatever the photos are
        self.sizes: list[Size] = []  # (height, width) of each
        self.pooled: list[np.ndarray] = []
        self._attention: list[Attention] = []
        self.features: dict[str, Spool] = {}  # every token of every image: more than memory holds

    def add(self, model: Model, batch: Batch, answers: Sequence[Answer], asked: Asked) -> None:
        self.paths += [image.path for image in batch.images]
        self.answers += answers or [Answer(image.path, (), ()) for image in batch.images]
        if asked.attention or asked.attention_npz:
            self._attention.append(attention(batch.found, model.config, model.preprocess.crop))
        self.sizes += [(image.picture.height, image.picture.width) for image in batch.images]
        if asked.attention or asked.nearest_png:
            titles = [caption(a.labels[0], f" {a.probabilities[0]:.0%}") for a in answers]
            titles = titles or [caption(Path(image.path).name) for image in batch.images]
            images = (as_seen(image.picture, model.preprocess) for image in batch.images)
            self.seen += map(seen, images, titles)
        if asked.features:
            found = features(batch, model.config, asked.source)
            if model.answers == "embedding":
                found["output"] = np.asarray(batch.output, np.float32)
            for name, rows in found.items():
                if name not in self.features:
                    self.features[name] = Spool(asked.features)
                self.features[name].append(rows)
        if asked.nearest:
            self.pooled.append(compared(model, batch))

    @property
    def attention(self) -> Attention:
        """Of all images."""
        parts = {f.name: [getattr(part, f.name) for part in self._attention] for f in fields(Attention)}
        return Attention(**{name: np.concatenate(arrays) for name, arrays in parts.items()})

    def close(self) -> None:
        for spool in self.features.values():
            spool.close()


def attention_arrays(kept: Kept, preprocess: Preprocess) -> Iterator[tuple[str, np.ndarray]]:
    """heads (N, H, rows, columns), mean, rollout and norms (N, rows, columns), prefix (N,); and image_{i} (height,
    width): the mean on the original image's pixels, NaN where the crop left them out. One at a time, for those of many
    photos fill the memory."""
    found = kept.attention
    yield from ((f.name, getattr(found, f.name)) for f in fields(Attention))
    yield "paths", np.array(kept.paths)
    for i, size in enumerate(kept.sizes):
        yield f"image_{i}", on_image(found.mean[i], preprocess, size)


@dataclass(frozen=True)
class Gallery:
    """The images to choose from: (N, D) features of length 1."""

    paths: list[str]
    pooled: np.ndarray

    @classmethod
    def of(cls, model: Model, folder: str, batch_size: int, tell: Tell) -> "Gallery":
        """
        Raises:
            NoImages: there is none in the folder, or none that can be read.
        """
        return cls(*pooled_of(model, open_images(find_images([folder]), model.preprocess), batch_size, tell))


def compared(model: Model, batch: Batch) -> np.ndarray:
    """What images are alike in: the embedding of a model that projects, as it was trained to be compared; else the
    pooled features."""
    return np.asarray(batch.output if model.answers == "embedding" else batch.found["pooled"], np.float32)


def pooled_of(
    model: Model, images: Iterable[Opened | Corrupt], batch_size: int, tell: Tell
) -> tuple[list[str], np.ndarray]:
    """(paths of those that can be read and answered, their `compared` (N, D), of length 1).

    Raises:
        CheckpointError: there are none.
    """
    found: list[str] = []
    rows: list[np.ndarray] = []
    for batch in answered(run(model, batches(images, batch_size, tell), ("pooled",)), tell):
        found += [image.path for image in batch.images]
        rows.append(compared(model, batch))
    if not found:
        raise CheckpointError("none of the images to compare with can be read and answered")
    return found, unit(np.concatenate(rows))


def say_nearest(kept: Kept, gallery: Gallery, asked: Asked, preprocess: Preprocess) -> None:
    """The neighbours of each image, as lines and as a picture."""
    order, cosines = nearest(unit(np.concatenate(kept.pooled)), gallery.pooled, asked.neighbours)
    for one, chosen, how in zip(kept.answers, order, cosines, strict=True):
        found = [(gallery.paths[i], float(c)) for i, c in zip(chosen, how, strict=True)]
        if asked.json:
            streams.answer(as_json(one, found))
        else:
            lines = [
                streams.one_line(one.path),
                *(f"  {cosine:.4f}  {streams.one_line(path)}" for path, cosine in found),
            ]
            streams.answer("\n".join(lines))
    if asked.nearest_png:
        rows = []
        for query, chosen, how in zip(kept.seen, order, cosines, strict=True):
            shown = [
                (reduced(as_seen(read(gallery.paths[i]), preprocess)), f"{c:.3f}")
                for i, c in zip(chosen, how, strict=True)
            ]
            rows.append((query.pixels, shown))
        draw_nearest(rows, asked.nearest_png)


def knn(model: Model, train: Labelled, test: Labelled, k: int, batch_size: int, tell: Tell, as_json: bool) -> str:
    """The accuracy of a vote of the k nearest training images, in words or as JSON.

    Raises:
        CheckpointError: a test image is of a class that no training image has, or none can be read.
    """
    known, gallery = pooled_of(model, train.open(model.preprocess), batch_size, tell)
    asked, queries = pooled_of(model, test.open(model.preprocess), batch_size, tell)
    classes, of_asked = [train.class_of(path) for path in known], [test.class_of(path) for path in asked]
    names = sorted(set(classes))
    if strange := sorted(set(of_asked) - set(names)):
        raise CheckpointError(
            f"--knn: TEST has the classes {', '.join(map(streams.one_line, strange[:5]))}, which TRAIN has not"
        )
    labels, truth = (np.array([names.index(name) for name in found], np.int64) for found in (classes, of_asked))
    right = int((knn_predictions(queries, gallery, labels, k) == truth).sum())
    if as_json:
        counts = {"right": right, "of": len(truth), "train": len(labels), "classes": len(names)}
        return json.dumps({"k": k, "accuracy": right / len(truth), **counts})
    of = f"{right:,} of {len(truth):,}, by {len(labels):,} images of {len(names)} classes"
    return f"k-NN, k = {k}: {right / len(truth):.2%} ({of})"


def anatomy(path: str, told: Mapping[str, Any], out: Path) -> None:
    """The picture of a checkpoint's patch filters and positions; no model is made."""
    from vit_convert.checkpoint import open_checkpoint
    from vit_tools.anatomy import draw_anatomy, position_table

    found = open_checkpoint(path, **told)
    found.check_floating()
    needed = ("patch_embed.proj.weight", "pos_embed")
    tensors = {name: np.array(x, np.float32) for name, x in found.tensors("native") if name in needed}
    table = None if found.config.pos_embed == "none" else position_table(tensors, found.config)
    draw_anatomy(tensors["patch_embed.proj.weight"], table, found.config, out)
