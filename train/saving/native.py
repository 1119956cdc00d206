"""A run's weights as checkpoints of both frameworks: native directories, and what describes the saved steps."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from train.devices import hosts
from train.devices.placement import Placement
from train.errors import SavingError, saving
from train.input.data import Data
from train.step import Params, Step
from train.workdir import check_there, write_text
from vit_convert.errors import CheckpointError
from vit_convert.layouts import get_layout


@dataclass(frozen=True)
class Native:
    """Writes the run's model with given weights: all hosts take part, and the first one writes."""

    step: Step
    data: Data
    placement: Placement

    def write(self, params: Params, path: Path) -> None:
        """A complete checkpoint in the run's folder, in the place of one that is there. All hosts have to call it.

        Raises:
            FolderGone: the folder was moved or removed.
            SavingError: the disk is full, or writing is not permitted.
        """
        whole: Any = self.placement.gather(params)
        if not hosts.is_first():
            return
        check_there(path.parent)
        said = dict(preprocess=self.data.preprocess, labels=self.data.class_names)
        try:
            self.step.merge(whole).save_pretrained(path, layout="native", overwrite=True, **said)
        except CheckpointError as error:
            raise SavingError(str(error)) from error

    def describe(self, steps: Path) -> None:
        """The config.json beside the steps: with it each opens as a checkpoint while the run goes on.

        Raises:
            SavingError: the disk is full, or writing is not permitted.
        """
        if not hosts.is_first():
            return
        with saving(steps):
            steps.mkdir(exist_ok=True)
        model, data = self.step.config.model, self.data
        files = get_layout("flax").write(model, data.preprocess, tuple(data.class_names)).files
        for name, content in files.items():
            write_text(steps / name, json.dumps(content, indent=2) + "\n")
