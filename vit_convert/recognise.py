"""Which layout a file is in: by its names, under whatever prefix they stand, and the config beside it."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

from vit_convert.errors import CheckpointError, some
from vit_convert.files import Tensors
from vit_convert.layouts import LAYOUTS, LIBRARIES, Layout
from vit_convert.layouts.base import Beside, Json, covered_by
from vit_convert.layouts.native import FORMAT
from vit_convert.layouts.refused import refuse
from vit_convert.rules import Spelling


@dataclass(frozen=True)
class Recognised:
    """A file and its layout. `file` has the layout's names alone: without their root, and without what stands aside."""

    layout: Layout
    file: Tensors
    spelled: Mapping[str, Spelling] | None  # None: only the config says that it is this layout
    config: Json | None  # the layout's config beside the file, or ours
    ours: bool = False  # config.json is ours: it says everything, whatever the layout
    root: str = ""  # what stood before every name


def recognise(file: Tensors, beside: Beside) -> Recognised:
    """The layout of a file.

    Raises:
        CheckpointError: no layout has these names; a model that is known but not read; or a config beside the
            file that is another layout's.
    """
    refuse(file.path, file.shapes, beside)
    plain = beside("config.json")
    candidates = [found for layout in LAYOUTS.values() if (found := _try(layout, file))]
    # Who knows what stands aside goes before one to whom it would be unexpected.
    candidates.sort(key=lambda found: len(found.file.specs))
    if plain is not None and plain.get("format") == FORMAT:
        return _by_our_config(plain, candidates, file)
    for found in candidates:
        config = beside(found.layout.config_file)
        if config is not None and found.layout.owns(config):
            return replace(found, config=config)
    owners = [layout for layout in LAYOUTS.values() if (c := beside(layout.config_file)) is not None and layout.owns(c)]
    if not owners and plain is not None and "model_type" in plain:
        read = ", ".join(layout.name for layout in LIBRARIES["transformers"])
        raise CheckpointError(
            f"{file.path}: config.json: transformers' model_type {plain['model_type']!r} is not read; these are: {read}"
        )
    if candidates and owners:
        names, said = candidates[0].layout.name, " or ".join(layout.name for layout in owners)
        raise CheckpointError(f"{file.path}: {owners[0].config_file} is of layout {said}, the names are {names}'s")
    if candidates:
        return replace(candidates[0], config=plain)
    if owners:
        return Recognised(owners[0], file, None, beside(owners[0].config_file))
    raise CheckpointError(f"{file.path}: no known layout ({', '.join(LAYOUTS)}) has these names: {_first(file)}")


def _by_our_config(config: Json, candidates: list[Recognised], file: Tensors) -> Recognised:
    """config.json names the layout itself: several share their names, such as DINO, DeiT and timm."""
    name = str(config.get("layout", "native"))
    if name not in LAYOUTS:
        raise CheckpointError(
            f"{file.path.parent}: config.json: expected a layout of {', '.join(LAYOUTS)}, got {name!r}"
        )
    for found in candidates:
        if found.layout.name == name:
            return replace(found, config=config, ours=True)
    if candidates:
        names = candidates[0].layout.name
        raise CheckpointError(f"{file.path}: config.json is of layout {name}, the names are {names}'s")
    return Recognised(LAYOUTS[name], file, None, config, ours=True)


def _try(layout: Layout, file: Tensors) -> Recognised | None:
    for root in layout.roots:
        inside, outside = _under(root, layout, file)
        if inside is None or (root in layout.wrappers and not outside):
            continue
        if (spelled := layout.recognise(inside.shapes)) is None:
            continue
        said = tuple(dict.fromkeys(f"left out {what}: {some(names, ', ', 3)}" for what, names in outside.items()))
        return Recognised(layout, replace(inside, said=(*inside.said, *said)), spelled, None, root=root)
    return None


def _under(root: str, layout: Layout, file: Tensors) -> tuple[Tensors | None, dict[str, list[str]]]:
    """The file's tensors under a root, named without it; and, by what they are, the names that stand aside.

    None if there are names that are neither: then this is not the root.
    """
    inside, aside = {}, {}
    stands_aside = covered_by(layout.asides)
    for name in file.specs:
        if root and name.startswith(root):
            inside[name.removeprefix(root)] = name
        elif (what := stands_aside(name)) is not None:
            aside.setdefault(what, []).append(name)
        elif not root:
            inside[name] = name
        else:
            return None, {}
    if not inside:
        return None, {}
    return _renamed(file, inside), aside


def _renamed(file: Tensors, names: Mapping[str, str]) -> Tensors:
    """A view of the file: new name -> its own."""
    read: Callable = file.read
    return replace(
        file, specs={new: file.specs[old] for new, old in names.items()}, read=lambda name: read(names[name])
    )


def _first(file: Tensors) -> str:
    return ", ".join(list(file.specs)[:5]) or "none at all"
