"""hf-hub:owner/name: a model of the Hugging Face hub, from its cache or downloaded into it."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from vit_convert.errors import CheckpointError, some
from vit_convert.files.directory import weights_among

_SOURCE = re.compile(r"hf[-_]hub:(?P<repository>[\w.-]+/[\w.-]+)(?:@(?P<revision>[\w./-]+))?")
BESIDE = ("config.json", "preprocessor_config.json", "processor_config.json", "open_clip_config.json")
# One kind of weights is fetched: the first of these that the repository has.
KINDS = (
    ("model.safetensors", "model.safetensors.index.json", "model-*-of-*.safetensors"),
    ("open_clip_model.safetensors",),
    ("pytorch_model.bin", "pytorch_model.bin.index.json", "pytorch_model-*-of-*.bin"),
    ("open_clip_pytorch_model.bin",),
    ("flax_model.msgpack",),
)


def is_hub_name(source: str) -> bool:
    return source.startswith(("hf-hub:", "hf_hub:"))


def local_path(source: str) -> Path:
    """The cached snapshot of hf-hub:owner/name or hf-hub:owner/name@revision: configs and one kind of weights.

    Raises:
        CheckpointError: huggingface_hub is missing, the name is none, there is no such repository or revision, it is
            gated, it holds no weights that are read, or the hub can't be reached and the cache hasn't got it.
    """
    return weights_path(source).parent


def weights_path(source: str) -> Path:
    """The weights file in that snapshot."""
    match = _SOURCE.fullmatch(source)
    if not match:
        raise CheckpointError(f"{source}: expected hf-hub:owner/name or hf-hub:owner/name@revision")
    for kind in KINDS:
        folder = _fetch(match, *kind)
        if name := next((name for name in kind if (folder / name).is_file()), None):
            return folder / name
    name = _only_one(match)
    return _fetch(match, name) / name


def is_offline() -> bool:
    from huggingface_hub import constants

    return constants.HF_HUB_OFFLINE


def _fetch(match: re.Match[str], *names: str) -> Path:
    """The snapshot's folder, with the configs and those of the named files that the repository has."""
    with _explained(match):
        from huggingface_hub import snapshot_download

        patterns = [*BESIDE, *names]
        return Path(snapshot_download(match["repository"], revision=match["revision"], allow_patterns=patterns))


def _listed(match: re.Match[str]) -> list[str]:
    """The names of the repository's files."""
    with _explained(match):
        from huggingface_hub import HfApi

        return HfApi().list_repo_files(match["repository"], revision=match["revision"])


@contextmanager
def _explained(match: re.Match[str]) -> Iterator[None]:
    """Says in a CheckpointError what huggingface_hub raises: nothing but calls into it belongs inside."""
    source = match.string
    try:
        from huggingface_hub import errors
    except ModuleNotFoundError:
        raise CheckpointError(f"{source}: needs huggingface_hub: pip install 'vit-parity[hub]'") from None
    try:
        yield
    except errors.GatedRepoError:
        reason = "is gated: accept its terms on its page, then log in (`hf auth login`)"
    except errors.RepositoryNotFoundError:
        reason = "no such repository; if it is private, log in (`hf auth login`)"
    except errors.RevisionNotFoundError:
        reason = f"the repository has no revision {match['revision']!r}"
    except errors.LocalEntryNotFoundError:
        reason = f"is not in the cache, and the hub can't be reached{'; HF_HUB_OFFLINE is set' * is_offline()}"
    except Exception as error:  # of the HTTP library, which differs between versions of huggingface_hub
        raise CheckpointError(f"{source}: can't be fetched ({type(error).__name__}: {error})") from error
    else:
        return
    raise CheckpointError(f"{source}: {reason}")


def _only_one(match: re.Match[str]) -> str:
    """The weights of a repository that doesn't use the libraries' names: there has to be one file of them."""
    if is_offline():
        where, names = "what is cached of it", [path.name for path in _fetch(match).iterdir()]
    else:
        where, names = "the repository", _listed(match)
    found = weights_among(names)
    if len(found) == 1:
        return found[0]
    held = f"{match.string}: {where}"
    if found:
        raise CheckpointError(f"{held} has several: download one, and pass its path: {some(found, ', ')}")
    raise CheckpointError(f"{held} has no weights that are read, only {some(names, ', ') or 'nothing'}")
