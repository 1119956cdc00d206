"""The folder of a run: config.json, metrics.jsonl, state/ and, once it is complete, checkpoint/."""

import json
import secrets
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from vit_convert.beside import beside
from vit_convert.lock import claimed
from vit_convert.place import repair
from vit_convert.remove import lies_in, remove
from vit_torch.training.loop.errors import Refused
from vit_torch.training.loop.settings import FORMAT, VERSION, Settings, check_same, checked, nested, read_run

OUTPUTS = ("config.json", "metrics.jsonl", "state", "checkpoint")
TRAINERS = ("steps", "best", "last")  # what vit-train alone leaves: a run of its own goes on there


def prepare(workdir: Path, recipe: str, settings: Settings, *, overwrite: bool, claim: ExitStack) -> bool:
    """Claims the folder, against vit-train too, and makes it ready; whether a run goes on there from its state.

    Raises:
        Refused: the folder can't be made, another process has it, or it holds what must not be replaced; nothing is
            changed then.
    """
    _check(workdir, settings, overwrite=overwrite)  # what is refused leaves no folder
    claim.enter_context(claimed(workdir, "vit_torch.training", Refused))
    stays = _check(workdir, settings, overwrite=overwrite)  # the run that had it may have come to its end since
    try:
        if (workdir / "config.json").exists():
            for name in OUTPUTS:
                repair(workdir / name)  # a run that was killed while it replaced its state has none until then
        if stays and (workdir / "state").exists():
            return True
        for name in OUTPUTS[1:]:  # config.json last: what is left half way is a run's still
            remove(workdir / name)
        write_text(workdir / "config.json", json.dumps(written(recipe, settings), indent=2) + "\n")
    except OSError as error:
        raise Refused(f"--workdir {workdir} can't be written: {error.strerror or error}") from error
    return False


def _check(workdir: Path, settings: Settings, *, overwrite: bool) -> bool:
    """Whether the folder holds a run that goes on, from its state if it has saved one."""
    if workdir.exists() and not workdir.is_dir():
        raise Refused(f"--workdir {workdir} is a file; a run needs a folder of its own")
    held = [name for name in (*OUTPUTS, *TRAINERS) if (workdir / name).exists()]
    if not held:
        return False
    try:
        _, then = read_run(workdir)
    except Refused as error:  # a model's config.json has the same name: what lies beside it is nobody's to remove
        raise Refused(
            f"--workdir {workdir} holds {', '.join(held)}, but no config.json of a run ({error}): "
            "nothing was removed; give another folder"
        ) from error
    if others := [name for name in held if name in TRAINERS]:
        raise Refused(f"--workdir {workdir} holds a run of vit-train ({', '.join(others)}): give another folder")
    if overwrite:
        return False
    if "checkpoint" in held:
        raise Refused(
            f"--workdir {workdir} holds a run that is complete: give another folder, or --overwrite to replace it"
        )
    check_same(checked(then, str(workdir / "config.json")), settings, workdir)
    return True


def check_kept(settings: Settings, workdir: Path) -> None:
    """
    Raises:
        Refused: the run reads what would be removed with the run that the folder holds.
    """
    for name in ("data.name", "data.dir", "init"):
        said = settings[name] or ""
        _, colon, named = said.partition(":")  # folder:PATH, arrays:FILE
        place = Path(named if name == "data.name" and colon else said)
        # what lies in a folder may be links: a split's, the weights'
        if said and any(lies_in(path, workdir, OUTPUTS) for path in (place, *_entries(place))):
            raise Refused(
                f"{name} {said} lies in --workdir {workdir}, whose run --overwrite removes: give another --workdir"
            )


def _entries(place: Path) -> list[Path]:
    return list(place.iterdir()) if place.is_dir() else []


def written(recipe: str, settings: Settings) -> dict[str, Any]:
    """What config.json says: vit-train reads it, too."""
    weights = "last" if settings["ema_decay"] is None else "ema"
    return {
        "format": FORMAT,
        "version": VERSION,
        "recipe": recipe,
        "run_id": secrets.token_hex(8),
        "checkpoint_weights": weights,
        "train_config": nested(settings),
    }


def write_text(path: Path, text: str) -> None:
    """Writes beside path, then renames."""
    with beside(path) as temporary:
        temporary.write_text(text, encoding="utf-8")
