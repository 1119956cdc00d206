"""The settings of a run, as vit-train's config.json has them: plain JSON, each by its dotted name.

What the specification doesn't have is refused by name, never left out silently.
"""

import difflib
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from vit_torch.training.loop.errors import Refused
from vit_torch.training.loop.kinds import (
    COUNT,
    DECAY,
    NAMES,
    NOT_NEGATIVE,
    NUMBER,
    NUMBERS,
    PART,
    POSITIVE,
    POSITIVES,
    SEED,
    SHARE,
    SWITCH,
    TEXT,
    WHOLE,
    Kind,
    one_of,
    optional,
)

FORMAT, VERSION = "vit-parity-run", 1
MODEL = "model."


class Setting(NamedTuple):
    """What a value has to be, and its value where a run doesn't say it."""

    kind: Kind
    default: Any


SETTINGS: dict[str, Setting] = {
    "seed": Setting(SEED, 0),
    "batch_size": Setting(COUNT, 128),
    "epochs": Setting(POSITIVE, 1.0),
    "steps": Setting(optional(COUNT), None),
    "eval_epochs": Setting(POSITIVE, 1.0),
    "loss": Setting(one_of("softmax", "sigmoid"), "softmax"),
    "binary_targets": Setting(SWITCH, False),
    "dtype": Setting(one_of("float32", "float64"), "float32"),
    "attention": Setting(one_of("fused", "explicit"), "fused"),
    "dropout": Setting(SHARE, 0.0),
    "attn_dropout": Setting(SHARE, 0.0),
    "drop_path": Setting(SHARE, 0.0),
    "drop_path_schedule": Setting(one_of("linear", "constant"), "linear"),
    "ema_decay": Setting(optional(SHARE), None),
    "on_nonfinite": Setting(one_of("stop"), "stop"),
    "init": Setting(optional(TEXT), None),
    "init_size": Setting(optional(COUNT), None),
    "init_preset": Setting(optional(TEXT), None),
    "init_set": Setting(NAMES, []),
    "data.name": Setting(TEXT, None),
    "data.dir": Setting(optional(TEXT), None),
    "data.train_split": Setting(TEXT, "train"),
    "data.test_split": Setting(TEXT, "test"),
    "data.crop": Setting(one_of("none"), "none"),
    "data.repeats": Setting(one_of(1), 1),
    "data.interpolation": Setting(one_of("bilinear", "bicubic"), "bicubic"),
    "data.mean": Setting(optional(NUMBERS), None),
    "data.std": Setting(optional(POSITIVES), None),
    "data.resident": Setting(optional(SWITCH), None),
    "start.fan_in_kernels": Setting(SWITCH, False),
    "start.pos_embed_std": Setting(optional(POSITIVE), None),
    "start.mimetic": Setting(SWITCH, False),
    "start.zero_head": Setting(SWITCH, False),
    "start.head_bias": Setting(NUMBER, 0.0),
    "start.layer_scale": Setting(optional(POSITIVE), None),
    "augment.padding": Setting(WHOLE, 0),
    "augment.flip": Setting(SWITCH, False),
    "augment.rand_augment_layers": Setting(one_of(0), 0),
    "augment.three_augment": Setting(one_of(False), False),
    "augment.color_jitter": Setting(one_of(0), 0),
    "augment.mixup_alpha": Setting(NOT_NEGATIVE, 0.0),
    "augment.cutmix_alpha": Setting(NOT_NEGATIVE, 0.0),
    "augment.cutmix_share": Setting(PART, 0.5),
    "augment.mix_share": Setting(PART, 1.0),
    "augment.erase_prob": Setting(one_of(0), 0),
    "augment.label_smoothing": Setting(SHARE, 0.0),
    "optimizer.name": Setting(one_of("adamw", "lamb", "sgd", "muon"), "adamw"),
    "optimizer.weight_decay": Setting(NOT_NEGATIVE, 0.05),
    "optimizer.decay_times_peak": Setting(SWITCH, True),
    "optimizer.beta1": Setting(SHARE, 0.9),
    "optimizer.beta2": Setting(SHARE, 0.999),
    "optimizer.eps": Setting(POSITIVE, 1e-8),
    "optimizer.nesterov": Setting(SWITCH, False),
    "optimizer.clip_norm": Setting(optional(POSITIVE), 1.0),
    "optimizer.accumulate": Setting(COUNT, 1),
    "optimizer.layer_decay": Setting(optional(DECAY), None),
    "optimizer.frozen": Setting(NAMES, []),
    "schedule.learning_rate": Setting(POSITIVE, 1e-3),
    "schedule.warmup_epochs": Setting(NOT_NEGATIVE, 5.0),
    "schedule.final_fraction": Setting(PART, 0.0),
    "checkpoint.minutes": Setting(optional(POSITIVE), 10.0),
    "checkpoint.steps": Setting(optional(COUNT), None),
    "log.steps": Setting(COUNT, 20),
}

# Where and how fast it is computed, what is kept and shown; and what says how strong something is that is off here.
NO_DIFFERENCE = (
    *("devices.", "remat", "scan", "deterministic", "checkpoint.keep", "log.tensorboard", "log.wandb"),
    *("data.dir", "data.threads", "data.prefetch", "data.max_corrupt", "data.min_area", "data.eval_crop"),
    *("augment.rand_augment_", "augment.erase_mode"),
)
# What a run that goes on may have otherwise than it began.
FREE = (*NO_DIFFERENCE, "log.", "checkpoint.", "attention")

Settings = Mapping[str, Any]


def read_run(path: Path) -> tuple[str, dict[str, Any]]:
    """(recipe, settings by dotted name) of the config.json of a run, or of the folder that holds it.

    Raises:
        Refused: no such file, or no run's.
    """
    file = path / "config.json" if path.is_dir() else path
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise Refused(f"{file} can't be read as the config.json of a run: {error}") from error
    if not isinstance(found, dict) or found.get("format") != FORMAT:
        raise Refused(f"{file} is no config.json of a run; vit-train leaves one in its --workdir")
    if found.get("version") != VERSION:
        raise Refused(f"{file} is of version {json.dumps(found.get('version'))}, and this one reads version {VERSION}")
    if not isinstance(found.get("train_config"), dict):
        raise Refused(f"{file} has {json.dumps(found.get('train_config'))} where its settings belong (train_config)")
    return str(found.get("recipe")), flat(found["train_config"])


def flat(config: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """{"data": {"name": "digits"}} -> {"data.name": "digits"}; tuples become JSON's lists."""
    found: dict[str, Any] = {}
    for name, value in config.items():
        if isinstance(value, Mapping):
            found |= flat(value, f"{prefix}{name}.")
        else:
            found[prefix + name] = list(value) if isinstance(value, tuple) else value
    return found


def nested(settings: Settings) -> dict[str, Any]:
    """The inverse of `flat`."""
    config: dict[str, Any] = {}
    for name, value in settings.items():
        *parts, last = name.split(".")
        place = config
        for part in parts:
            place = place.setdefault(part, {})
        place[last] = value
    return config


def checked(given: Settings, where: str) -> dict[str, Any]:
    """All settings, those that aren't given with their defaults.

    Raises:
        Refused: settings that nobody knows, or values that the specification doesn't have; all are named.
    """
    settings = {name: setting.default for name, setting in SETTINGS.items()} | dict(given)
    wrong = [f"{name} is no setting of a run{_close(name)}" for name in given if not known(name)]
    wrong += [
        f"{name} is {json.dumps(settings[name])}, and here has to be {setting.kind.words}"
        for name, setting in SETTINGS.items()
        if not setting.kind.holds(settings[name])
    ]
    wrong += [] if wrong else [message for holds, message in _together(settings) if not holds]
    if wrong:
        raise Refused(f"{where}: {'; '.join(wrong)}. Give other values (--{_option(wrong[0])} VALUE), or use vit-train")
    return settings


def known(name: str) -> bool:
    """Whether a run has a setting of this name."""
    return name in SETTINGS or name.startswith((MODEL, *NO_DIFFERENCE))


def _together(settings: Settings) -> Iterator[tuple[bool, str]]:
    """What has to hold of several settings."""
    rule, parts, size = settings["optimizer.name"], settings["optimizer.accumulate"], settings["batch_size"]
    yield rule == "sgd" or not settings["optimizer.nesterov"], f"optimizer.nesterov is sgd's, and not {rule}'s"
    off = rule != "lamb" or settings["optimizer.decay_times_peak"]
    yield off, "optimizer.decay_times_peak can't be off in lamb, whose decay is a part of its trust ratio"
    yield size % parts == 0, f"batch_size {size} can't be computed in optimizer.accumulate {parts} equal parts"
    mean, std = settings["data.mean"], settings["data.std"]
    pair = (mean is None) == (std is None) and len(mean or ()) == len(std or ())
    yield pair, "data.std goes with data.mean: as many numbers, or neither"
    for name in ("init_size", "init_preset", "init_set"):
        yield settings[name] in (None, []) or settings["init"] is not None, f"{name} needs init"


def _option(message: str) -> str:
    return message.partition(" ")[0].replace("_", "-")


def _close(name: str) -> str:
    close = difflib.get_close_matches(name, SETTINGS, n=1)
    return f" (did you mean {close[0]}?)" if close else ""


def check_same(then: Settings, now: Settings, workdir: Path) -> None:
    """Whether a run goes on as it began.

    Raises:
        Refused: with every setting that differs, and both its values.
    """
    names = dict.fromkeys([*then, *now])
    differ = [
        f"{name} was {json.dumps(then.get(name))} and is {json.dumps(now.get(name))}"
        for name in names
        if then.get(name) != now.get(name) and not name.startswith(FREE)
    ]
    if differ:
        raise Refused(
            f"--workdir {workdir} holds a run with other settings: {'; '.join(differ)}. "
            "Give the same to go on with it, another folder, or --overwrite to replace it"
        )


def read_options(words: Sequence[str]) -> tuple[list[str], dict[str, Any]]:
    """The command line without settings, and the settings on it: --data.name NAME, --optimizer.frozen '*' '!head.*'.

    Raises:
        Refused: a setting without a value, or with several where it has one.
    """
    rest: list[str] = []
    settings: dict[str, Any] = {}
    at = 0
    while at < len(words):
        option, given = words[at].partition("=")[::2]
        name, at = option.removeprefix("--").replace("-", "_"), at + 1
        if not option.startswith("--") or not (known(name) or "." in name):
            rest.append(words[at - 1])
            continue
        values = [given] if "=" in words[at - 1] else []
        while at < len(words) and not words[at].startswith("--"):
            values.append(words[at])
            at += 1
        value = _value(name, values)
        if name in settings and isinstance(value, list):
            raise Refused(f"--{_option(name)} is given more than once: its values go behind one")
        settings[name] = value
    return rest, settings


def _value(name: str, words: Sequence[str]) -> Any:
    several = (name in SETTINGS and SETTINGS[name].kind.holds([])) or (len(words) > 1 and name.startswith(MODEL))
    if not words or (len(words) > 1 and not several):
        raise Refused(f"--{_option(name)} takes {'one value' if words else 'a value'}, got {' '.join(words) or 'none'}")
    values = [_parsed(word) for word in words]
    return values if several and values != [None] else values[0]


def _parsed(word: str) -> Any:
    """A word of the command line as JSON, or else as it is."""
    try:
        return json.loads({"None": "null", "True": "true", "False": "false"}.get(word, word))
    except ValueError:
        return word
