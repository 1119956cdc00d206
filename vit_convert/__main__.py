"""vit-convert: moves a checkpoint between layouts, and says what a checkpoint is."""

import sys
from collections.abc import Sequence
from importlib import import_module

from vit_convert.stopping import Stopped, stoppable
from vit_convert.streams import keep_names

COMMANDS = ("inspect", "formats")
RESERVED = COMMANDS  # a checkpoint of such a name is ./inspect


def main(argv: Sequence[str] | None = None) -> int:
    """The command. Returns the exit code: 2 for what the user can mend, 128 and the signal's number if it was ended."""
    keep_names()
    arguments = list(sys.argv[1:] if argv is None else argv)
    named = bool(arguments) and arguments[0] in COMMANDS
    command = import_module(f"vit_convert.commands.{arguments[0] if named else 'convert'}")
    try:
        with stoppable():
            return command.run(arguments[1:] if named else arguments)
    except BrokenPipeError:
        sys.stderr.close()  # the reader went away, as in `vit-convert formats | head -1`
        return 1
    except Stopped as stop:
        print(f"vit-convert: ended by {stop.name}; nothing half-written was left behind", file=sys.stderr)
        return 128 + stop.number
    except MemoryError as error:
        print(f"vit-convert: error: not enough memory: {error}", file=sys.stderr)
        return 2
    except (ValueError, OSError) as error:
        if not _expected(error):
            raise
        print(f"vit-convert: error: {error}", file=sys.stderr)
        return 2


def _expected(error: Exception) -> bool:
    """Whether an error is about the user's files; anything else is a bug and keeps its traceback."""
    from vit_convert.errors import CheckpointError

    return isinstance(error, CheckpointError | OSError)


if __name__ == "__main__":
    sys.exit(main())
