"""What is known of a recognised file apart from its names and shapes: its family's code, and the config beside it."""

from collections.abc import Mapping
from dataclasses import replace

from vit_convert.errors import CheckpointError
from vit_convert.layouts.base import Bare, Beside, Described
from vit_convert.layouts.native import read as read_ours
from vit_convert.recognise import Recognised
from vit_convert.rules import Shape


def describe_file(found: Recognised, hub: Mapping[str, Shape], beside: Beside) -> Described:
    """What the family's code, the tensors themselves and the config beside them say; the config wins, ours alone.

    Args:
        hub: the names and shapes of the table's right side, as far as it understands the file.

    Raises:
        CheckpointError: a config that is not as its layout writes it, or that says what ViTConfig can't.
    """
    if found.ours:
        return _read(found, beside)
    bare = found.layout.bare(Bare(hub, found.file.shapes, found.file.read, found.file.path.stem))
    if found.config is None or not found.layout.owns(found.config):
        return replace(bare, hint="; ".join(filter(None, (bare.hint, _foreign(found)))))
    said = _read(found, beside)
    if found.spelled is None and said.hint:
        raise CheckpointError(
            f"{found.file.path}: {said.hint}, nor are its tensors' names those of {found.layout.name}"
        )
    return replace(
        said,
        hint=said.hint or bare.hint,
        fields={**bare.fields, **said.fields},
        sources={**bare.sources, **dict.fromkeys(said.fields, found.layout.config_file), **said.sources},
        evaluation=bare.evaluation,
    )


def _foreign(found: Recognised) -> str:
    return "" if found.config is None else f"{found.layout.config_file} beside it is of no layout that is read"


def _read(found: Recognised, beside: Beside) -> Described:
    assert found.config is not None
    folder, layout = found.file.path.parent, found.layout
    try:
        return read_ours(found.config, beside) if found.ours else layout.read(found.config, beside)
    except CheckpointError as error:
        raise CheckpointError(f"{folder}: {error}") from None
    except (LookupError, TypeError, ValueError, AttributeError, ArithmeticError) as error:
        name = "config.json" if found.ours else layout.config_file
        raise CheckpointError(f"{folder / name}: not as {layout.name} writes it ({error})") from None
