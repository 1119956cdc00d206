"""What a command writes takes no file's place that it reads, nor one of another kind."""

import errno
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from parity_tests.datasets import encoded, picture
from parity_tests.predicting import make_folder, said
from parity_tests.verify.command import main as verify
from train.__main__ import main as train
from vit_convert.beside import NotWritten, beside, writing
from vit_convert.outputs import OutputError, check_output, check_unread
from vit_tools.npz import Spool

NAMES = {
    "--attention": ("a PNG file", "attention.png"),
    "--attention-npz": ("an NPZ file", "attention-npz.npz"),
    "--anatomy": ("a PNG file", "anatomy.png"),
    "--features": ("an NPZ file", "features.npz"),
    "--nearest-png": ("a PNG file", "nearest-png.png"),
}
FULL = OSError(errno.ENOSPC, "No space left on device")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_folder(tmp_path_factory.mktemp("outputs"))


@pytest.fixture
def folder(made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """checkpoint/ and photos/, where we are; the files are the same at the end, and no others have come."""
    shutil.copytree(made, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    before = contents(tmp_path)
    yield tmp_path
    assert contents(tmp_path) == before


@pytest.fixture
def no_work(monkeypatch: pytest.MonkeyPatch) -> None:
    """No model is loaded and nothing is proved or judged."""
    for work in (
        "vit_tools.model.load",
        "vit_tools.predict.tasks.anatomy",
        "parity_tests.verify.prove.prove",
        "train.evaluation.checkpoint.judge_checkpoint",
    ):
        monkeypatch.setattr(work, lambda *_, **__: pytest.fail("the work was begun"))


def contents(folder: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def predict(capsys: pytest.CaptureFixture[str], *words: object) -> str:
    """What vit-predict says of a mistake."""
    code, out, err = said(capsys, *words, "--checkpoint", "checkpoint")
    assert (code, out, err.count("\n")) == (2, "", 1)
    return err.removeprefix("vit-predict: error: ").rstrip("\n")


def evaluate(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    """What vit-train evaluate says of a mistake."""
    with pytest.raises(SystemExit) as stop:
        train(["evaluate", "checkpoint", *words])
    printed = capsys.readouterr()
    assert (stop.value.code, printed.out) == (2, "")
    return printed.err.removeprefix("vit-train: error: ").rstrip("\n")


@pytest.mark.parametrize("option", NAMES)
@pytest.mark.parametrize(
    "there", ["photos/a.jpg", "photos/notes.txt", "checkpoint/model.safetensors", "new", "new.PDF"]
)
def test_vit_predict_writes_no_file_of_another_suffix(
    folder: Path, no_work: None, capsys: pytest.CaptureFixture[str], option: str, there: str
):
    """A shell hands the first of `--attention photos/*.jpg` to the option."""
    more = ("--nearest", "photos") if option == "--nearest-png" else ()
    kind, example = NAMES[option]
    message = f"{option} {there}: expected the name of {kind}, as {example}"
    for images in (["photos/c.webp"], []):
        assert predict(capsys, *images, option, there, *more) == message


@pytest.mark.parametrize("there", ["checkpoint/config.json", "photos/a.jpg", "photos/e.png", "report"])
def test_vit_verify_writes_no_file_of_another_suffix(
    folder: Path, no_work: None, capsys: pytest.CaptureFixture[str], there: str
):
    assert verify(["checkpoint", "--report", there]) == 2
    printed = capsys.readouterr()
    message = f"--report {there}: expected the name of an HTML file, as report.html"
    assert (printed.out, printed.err) == ("", f"vit-verify: error: {message}\n")


@pytest.mark.parametrize("there", ["checkpoint/config.json", "photos/a.jpg", "confusion"])
def test_vit_train_evaluate_writes_no_file_of_another_suffix(
    folder: Path, no_work: None, capsys: pytest.CaptureFixture[str], there: str
):
    message = f"--confusion {there}: expected the name of a PNG file, as confusion.png"
    assert evaluate(capsys, "--data", "digits", "--confusion", there) == message


@pytest.mark.parametrize(
    ("asked", "image"),
    [
        ("photos --attention photos/e.png", "photos/e.png"),
        ("photos --attention photos/b.PNG", "photos/b.PNG"),
        ("photos/e.png --attention photos/deep/../e.png", "photos/e.png"),
        ("photos/*.png --attention link.png", "photos/e.png"),
        ("photos/e.png --attention hard.png", "photos/e.png"),
        ("photos/e.png --anatomy photos/e.png", "photos/e.png"),
        ("photos/a.jpg --nearest photos --nearest-png photos/e.png", "photos/e.png"),
        ("photos/a.jpg --nearest photos --attention photos/e.png", "photos/e.png"),
        ("--knn photos ./sorted --anatomy sorted/cat/x.png", "sorted/cat/x.png"),
        ("--knn ./sorted photos --anatomy sorted/cat/x.png", "sorted/cat/x.png"),
    ],
)
def test_vit_predict_writes_over_no_image_that_it_reads(
    made: Path,
    tmp_path: Path,
    no_work: None,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    asked: str,
    image: str,
):
    shutil.copytree(made, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    Path("link.png").symlink_to("photos/e.png")
    os.link("photos/e.png", "hard.png")
    Path("sorted/cat").mkdir(parents=True)
    Path("sorted/cat/x.png").write_bytes(encoded(picture(3), "PNG"))
    before = contents(tmp_path)
    words = asked.split()
    option = next(word for word in words if word in NAMES)
    message = f"{option} {words[words.index(option) + 1]} is the image {image}, which is read: give another name"
    assert predict(capsys, *words) == message
    assert contents(tmp_path) == before


def test_vit_train_evaluate_writes_over_no_image_that_it_reads(
    made: Path, tmp_path: Path, no_work: None, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    shutil.copytree(made, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    for i in range(7):
        folder = Path("data/test") / str(i)
        folder.mkdir(parents=True)
        (folder / "x.png").write_bytes(encoded(picture(i), "PNG"))
    before = contents(tmp_path)
    found = evaluate(capsys, "--data", "folder:data", "--confusion", "data/test/2/x.png")
    image = tmp_path / "data/test/2/x.png"
    assert found.endswith(f"--confusion data/test/2/x.png is the image {image}, which is read: give another name")
    assert contents(tmp_path) == before


@pytest.mark.parametrize("suffix", [".png", ".html"])
@pytest.mark.parametrize("checkpoint", ["checkpoint", "checkpoint/model.safetensors"])
@pytest.mark.parametrize("file", ["model.safetensors", "config.json"])
def test_a_link_to_a_file_of_the_checkpoint_is_not_written_through(
    folder: Path, suffix: str, checkpoint: str, file: str
):
    link = folder.parent / f"{folder.name}{suffix}"
    link.symlink_to(folder / "checkpoint" / file)
    message = f"--x {link} is a file of the checkpoint {checkpoint}, which is read: give another name"
    with pytest.raises(OutputError, match=f"^{message}$"):
        check_unread({"--x": link}, checkpoint)


@pytest.mark.parametrize("checkpoint", ["npz", "npz/model.npz", "linked"])
@pytest.mark.parametrize("output", ["npz/model.npz", "link.npz"])
def test_vit_predict_writes_over_no_weights(
    made: Path,
    tmp_path: Path,
    no_work: None,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    checkpoint: str,
    output: str,
):
    """Which are an npz themselves, as Google's are."""
    monkeypatch.chdir(tmp_path)
    for folder in ("npz", "linked"):
        Path(folder).mkdir()
    Path("npz/model.npz").write_bytes(b"weights")
    for link in ("link.npz", "linked/model.npz"):
        Path(link).symlink_to(tmp_path / "npz/model.npz")
    asked = (made / "photos/a.jpg", "--checkpoint", checkpoint, "--features", output)
    message = f"--features {output} is a file of the checkpoint {checkpoint}, which is read: give another name"
    assert said(capsys, *asked) == (2, "", f"vit-predict: error: {message}\n")
    assert Path("npz/model.npz").read_bytes() == b"weights"


def test_what_was_written_before_is_replaced_wherever_it_lies(made: Path, tmp_path: Path, capsys):
    """In the checkpoint's directory too: it is none of its files."""
    shutil.copytree(made / "checkpoint", tmp_path / "checkpoint")
    photo = made / "photos" / "a.jpg"
    for folder in (tmp_path, tmp_path / "checkpoint"):
        outputs = {"--attention": folder / "heat.PNG", "--features": folder / "f.npz", "--anatomy": folder / "x.png"}
        words = [word for pair in outputs.items() for word in pair]
        for _ in range(2):
            for path in outputs.values():
                path.write_bytes(b"of another time")
            code, _, err = said(capsys, photo, "--checkpoint", tmp_path / "checkpoint", *words)
            assert (code, err) == (0, "")
            assert outputs["--attention"].read_bytes().startswith(b"\x89PNG")
            with np.load(outputs["--features"]) as found:
                assert found["paths"].tolist() == [str(photo)]


@pytest.mark.parametrize("kind", ["PNG", "JPEG"])
def test_a_photograph_s_place_is_not_taken(kind: str, made: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    """A shell makes of `--attention photos/*.png` the first as the output, and of the others the images."""
    photos = [tmp_path / name for name in ("a.png", "b.png")]
    for photo in photos:
        picture(0).save(photo, kind)
    before = contents(tmp_path)
    code, out, err = said(capsys, "--checkpoint", made / "checkpoint", "--attention", *photos)
    message = f"--attention {photos[0]} is a picture that no command here drew: give another name, or remove it"
    assert (code, out, err) == (2, "", f"vit-predict: error: {message}\n")
    assert contents(tmp_path) == before


def test_images_are_not_looked_at_where_nothing_can_be_written_over(tmp_path: Path):
    def images() -> Iterator[str]:
        pytest.fail("they were looked for")
        yield ""

    check_unread({"--features": tmp_path / "f.npz"}, "hf-hub:owner/name", images())
    (tmp_path / "f.npz").write_bytes(b"")
    check_unread({"--features": tmp_path / "f.npz"}, "hf-hub:owner/name", ["gone.png", "\0.png"])


@pytest.mark.parametrize(("option", "command"), [("--attention", "predict"), ("--confusion", "evaluate")])
def test_a_folder_that_cannot_be_written_to_is_said_before_the_work(
    folder: Path,
    no_work: None,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    option: str,
    command: str,
):
    """As on a disk that is read-only."""
    (folder.parent / f"{folder.name}.png").symlink_to(folder / "x.png")
    monkeypatch.setattr(os, "access", lambda path, mode: (path, mode) != (folder, os.W_OK))  # root may everywhere
    for path in ("x.png", f"../{folder.name}.png"):  # it counts where a link leads
        words = (option, path)
        found = (
            predict(capsys, "photos/a.jpg", *words)
            if command == "predict"
            else evaluate(capsys, "--data", "digits", *words)
        )
        assert found == f"{option} {path}: no permission to write in {folder}"


def test_a_link_into_a_folder_that_is_not_there_is_refused(tmp_path: Path):
    (tmp_path / "x.png").symlink_to("gone/x.png")
    with pytest.raises(OutputError, match=f"^--x {tmp_path}/x.png: there is no folder {tmp_path}/gone$"):
        check_output("--x", tmp_path / "x.png", ".png")


def write(path: Path, does: Callable[[Path], None]) -> str:
    with pytest.raises(NotWritten) as error, beside(path) as temporary:
        does(temporary)
    return str(error.value)


def test_what_cannot_be_written_is_named_as_the_user_knows_it(tmp_path: Path):
    """And not by the hidden name that it is written to, nor by none."""
    path = tmp_path / "f.npz"

    def full(_: Path) -> None:
        raise FULL

    def denied(temporary: Path) -> None:
        raise PermissionError(errno.EACCES, "Permission denied", str(temporary))

    assert write(path, full) == f"{path} can't be written: No space left on device"
    assert write(path, denied) == f"{path} can't be written: Permission denied"
    assert write(path, lambda _: None) == f"{path} can't be written: No such file or directory"  # nothing to rename
    assert not list(tmp_path.iterdir())


def test_what_goes_wrong_with_another_file_keeps_its_name(tmp_path: Path):
    for error in (OSError(errno.EIO, "Input/output error"), OSError(errno.ENOENT, "gone", "b"), BrokenPipeError()):
        with pytest.raises(type(error)) as raised, beside(tmp_path / "f.npz"):
            raise error
        assert raised.value is error


def test_a_disk_that_fills_up_while_features_wait_names_their_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    class File:
        def write(self, _: object) -> None:
            raise FULL

    monkeypatch.setattr("tempfile.TemporaryFile", lambda **_: File())
    spool = Spool(tmp_path / "f.npz")
    with pytest.raises(NotWritten, match=f"^{tmp_path}/f.npz can't be written: No space left on device$"):
        spool.append(np.zeros((1, 2), np.float32))
    with pytest.raises(NotWritten, match=r"^f.npz can't be written: No space"), writing(Path("f.npz")):
        raise FULL
