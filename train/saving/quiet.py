"""Without the tracebacks that Orbax and tensorstore print of an error that the run raises, and tells in a line."""

import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

# Where Orbax logs an error that it keeps for who waits for the step: (file, function).
KEPT = {
    ("future.py", "run"),
    ("async_checkpointer.py", "_thread_func"),
    ("checkpoint_manager.py", "wait_until_finished"),
}


@contextmanager
def quiet() -> Iterator[None]:
    """Within it a step that can't be saved, on a full disk, is no hundreds of lines on stderr."""
    logger, before = logging.getLogger("absl"), sys.unraisablehook

    def unraisable(found: Any) -> None:
        if not _is_late(found):
            before(found)

    logger.addFilter(_is_news)
    sys.unraisablehook = unraisable
    try:
        yield
    finally:
        sys.unraisablehook = before
        logger.removeFilter(_is_news)


def _is_news(record: logging.LogRecord) -> bool:
    """Whether nothing else tells it."""
    path = Path(record.pathname)
    kept = "orbax" in path.parts and (path.name, record.funcName) in KEPT
    return record.levelno < logging.ERROR or not kept


def _is_late(found: Any) -> bool:
    """Whether it is tensorstore's, which tells a coroutine of a write when another one's error has ended both."""
    closed = isinstance(found.exc_value, RuntimeError) and str(found.exc_value) == "Event loop is closed"
    return closed and found.object is None and found.exc_traceback.tb_frame.f_code.co_name == "call_soon_threadsafe"
