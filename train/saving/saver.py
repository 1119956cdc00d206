"""Saving a run's state while it goes on, and restoring it: Orbax's CheckpointManager, asynchronous.

orbax-checkpoint's v1 interface is still in its package `experimental`; the manager is the one that is kept stable.
"""

import signal
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, contextmanager, suppress
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple

import orbax.checkpoint as ocp
from orbax.checkpoint.checkpoint_managers import LatestN

from train.config import ConfigError
from train.devices import hosts
from train.errors import SavingError, Stopped, saving
from train.saving.best import Best
from train.saving.due import Due
from train.saving.folder import ASIDE, UNFINISHED, last_good, set_aside_from
from train.saving.layout import check_layout
from train.saving.quiet import quiet
from train.step import Params, State
from vit_convert.sums import write_sums

STATE, PROGRESS = "state", "progress"
Rows = Sequence[Mapping[str, float]]


class Progress(NamedTuple):
    """How far a run was at a step, beside its state. Steps that were saved before a field was have its default."""

    seconds: float = 0.0  # of training so far, over all processes of the run
    unevaluated: bool = False  # an evaluation of this step was due, and was left off


NONE = Progress()


class Saver:
    """WORKDIR/steps/N: the state after N updates and what else the run needs to go on as if it had never stopped.

    A context manager: leaving it waits for what is being written. All methods have to be called by all hosts, whose
    `folder` is one that all of them share.

    Args:
        keep: how many steps stay, the latest ones.
        position: what decides which batches come, besides the step: a run goes on with the same alone.
        check_there: raises FolderGone where the run's folder is not where it was any more.
        written: called when a step is there.
    """

    def __init__(
        self,
        folder: Path,
        keep: int,
        position: Mapping[str, Any],
        due: Due,
        best: Best,
        check_there: Callable[[], None] = lambda: None,
        written: Callable[[], None] = lambda: None,
    ):
        self.folder, self.position, self.due, self.best = folder, dict(position), due, best
        self.check_there, self.written = check_there, written
        self.pending: Rows = ()  # metrics of the steps since the last line of metrics.jsonl
        self.progress = NONE  # at that step
        self.said: tuple[str, ...] = ()  # what was found damaged
        self.good = self._find()
        self.writing: int | None = None
        options = ocp.CheckpointManagerOptions(
            preservation_policy=LatestN(keep),
            save_root_metadata=False,
            async_options=ocp.AsyncOptions(post_finalization_callback=self._seal),
        )
        with saving(folder):
            self.manager = ocp.CheckpointManager(folder.absolute(), options=options, item_names=(STATE, PROGRESS))

    def __enter__(self) -> "Saver":
        self.inner = ExitStack()
        self.inner.enter_context(quiet())
        self.inner.enter_context(self.due.interrupts.watching())
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        with self.inner, closing(self.manager):
            self.wait()

    def restore(self, abstract: State) -> State:
        """The last good step, each array where `abstract` (jax.ShapeDtypeStruct with shardings) has it.

        Raises:
            ConfigError: it was made with other data, or is laid out otherwise.
        """
        check_layout(self.folder / str(self.good) / STATE, abstract)
        args = ocp.args.Composite(state=ocp.args.StandardRestore(abstract), progress=ocp.args.JsonRestore())  # pyright: ignore[reportCallIssue]
        found: Any = self.manager.restore(self.good, args=args)
        progress = found[PROGRESS]
        self._check(progress["position"])
        self.best.restore(progress["best"])
        self.pending = tuple(progress["pending"])
        self.progress = Progress(**{name: progress[name] for name in Progress._fields if name in progress})
        return found[STATE]

    def begin(self) -> None:
        """The first step is about to be made: from now on a signal makes a step due, and ends the run once it is
        saved."""
        self.due.interrupts.begun = True

    def told(self, count: int) -> bool:
        """Whether the run is to end at once, asked after so many batches of an evaluation."""
        return self.due.told(count)

    def judged(self, step: int, accuracy: float, params: Params) -> None:
        """Takes in an evaluation of these weights: the best ones are kept."""
        self.best.judged(step, accuracy, params)

    def save(self, step: int, state: State, pending: Rows, progress: Progress = NONE) -> None:
        """Saves the state after this step: it is copied before this returns, and written afterwards.

        Raises:
            SavingError: this or the step before can't be written.
            FolderGone: the run's folder was moved or removed.
            Stopped: the step is saved, and the run was asked to end.
        """
        self.check_there()  # Orbax would make a new one
        self.wait()
        self.writing = step
        kept = {"position": self.position, "best": self.best.to_dict(), "pending": [dict(row) for row in pending]}
        kept |= progress._asdict()
        args = ocp.args.Composite(state=ocp.args.StandardSave(state), progress=ocp.args.JsonSave(kept))  # pyright: ignore[reportCallIssue]
        with self._saved(step):
            self.manager.save(step, args=args, force=True)
        self.due.saved()
        if self.due.ending:
            self.wait()
            raise Stopped(self.due.ending, f"{signal.Signals(self.due.ending).name}: {self.where()}")

    def wait(self) -> None:
        """Until what is being written is there.

        Raises:
            SavingError: it can't be written.
        """
        if self.writing is None:
            return
        with self._saved(self.writing):
            self.manager.wait_until_finished()
        self.good, self.writing = self.writing, None
        self.written()

    def where(self, spoilt: int | None = None) -> str:
        """In words: the last good step, once it is there.

        Args:
            spoilt: the first step whose weights gave no finite loss: saved steps from it on are set aside, for a run
                that went on from one of them would end the same way.

        Raises:
            SavingError: the last step can't be written, or one can't be set aside.
        """
        self.wait()
        if spoilt is None or self.good is None or self.good < spoilt:
            return self.last()
        if hosts.is_first():
            with saving(self.folder / ASIDE):
                set_aside_from(self.folder, spoilt)
        bad, self.good = self.good, self._find()
        last = "no step before it is left" if self.good is None else self.last()
        return f"step {bad} was saved with the weights that gave it, and is set aside in {self.folder / ASIDE}; {last}"

    @contextmanager
    def naming(self) -> Iterator[None]:
        """Within it the message of what can't be written names the last good step, or says that the folder is gone."""
        try:
            yield
        except SavingError as error:
            if not hosts.several():  # all of several have to wait, and the others don't know of this
                with suppress(SavingError):
                    self.wait()
            self.check_there()
            raise SavingError(f"{error}; {self.last()}") from error

    @contextmanager
    def _saved(self, step: int) -> Iterator[None]:
        """Around what writes a step; one that can't be written is waited for no more."""
        try:
            yield
        except (OSError, ValueError, RuntimeError) as error:
            self.writing = None
            raise SavingError(f"{self.folder / str(step)} can't be saved: {error}") from error

    def last(self, spoilt: int | None = None) -> str:
        """In words: the last good step that is there already; `spoilt` as of `where`, and nothing is set aside."""
        if self.good is None:
            return "no step was saved yet"
        if spoilt is not None and self.good >= spoilt:
            return f"step {self.good} was saved with the weights that gave it"
        return f"the last good step is saved in {self.folder / str(self.good)}"

    def _find(self) -> int | None:
        """The last good step; the first host looks for it."""
        found = None
        if hosts.is_first():
            found, self.said = last_good(self.folder)
        step = hosts.gather_numbers(-1 if found is None else found)[0][0]
        return None if step < 0 else step

    def _seal(self) -> None:
        """Called by Orbax on the first host, when all is written, before the step gets its name."""
        write_sums(next(path for path in self.folder.glob(f"{self.writing}{UNFINISHED}*")))

    def _check(self, position: Mapping[str, Any]) -> None:
        wrong = [
            f"{name} was {position.get(name)!r} and is {value!r}"
            for name, value in self.position.items()
            if position.get(name, value) != value  # steps that were saved before it was kept have none
        ]
        if wrong:
            raise ConfigError(
                f"{self.folder / str(self.good)} was saved with other data: {'; '.join(wrong)}: "
                "give the data that the run began with, or another --workdir"
            )


class Unsaved:
    """In a Saver's place: nothing is kept."""

    pending: Rows = ()
    progress = NONE

    def told(self, count: int) -> bool:
        return False

    def due(self, step: int) -> bool:
        return False

    def begin(self) -> None: ...

    def judged(self, step: int, accuracy: float, params: Params) -> None: ...

    def save(self, step: int, state: State, pending: Rows, progress: Progress = NONE) -> None: ...

    def where(self, spoilt: int | None = None) -> str:
        return self.last()

    def last(self, spoilt: int | None = None) -> str:
        return "no step is saved"
