"""Where the daemon's log goes.

In the foreground to stderr; in the background to the file ``log`` in the store, and from
warnings upwards to syslog as well.
"""

import logging
import logging.handlers
import os
import sys
from pathlib import Path

_SYSLOG_SOCKET = "/dev/log"
_MAXIMUM_BYTES = 256 << 10


class _Printable(logging.Formatter):
    """Writes what is no UTF-8 as escapes; the handler of syslog would drop the message."""

    def format(self, record: logging.LogRecord) -> str:
        return super().format(record).encode("utf-8", "backslashreplace").decode()


def _logger() -> logging.Logger:
    logger = logging.getLogger("difffs")
    logger.setLevel(logging.INFO)
    for handler in list(logger.handlers):
        logger.removeHandler(handler)
    return logger


def log_to_terminal() -> None:
    """Send the log to stderr."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter("difffs: %(message)s"))
    _logger().addHandler(handler)


def log_to_files(store: Path, *, read_only: bool) -> None:
    """Send the log to ``store``/log, kept short, and warnings to syslog too.

    With ``read_only``, nothing in the store is touched.
    """
    # A full disk must not fill the log with complaints about the log.
    logging.raiseExceptions = False
    logger = _logger()
    if not read_only:
        file = logging.handlers.RotatingFileHandler(
            store / "log",
            maxBytes=_MAXIMUM_BYTES,
            backupCount=1,
            delay=True,
            encoding="utf-8",
            errors="backslashreplace",  # names need not be UTF-8
        )
        text = f"%(asctime)s [{os.getpid()}] %(levelname)s %(message)s"
        file.setFormatter(logging.Formatter(text))
        logger.addHandler(file)
    if os.path.exists(_SYSLOG_SOCKET):
        try:
            system = logging.handlers.SysLogHandler(
                _SYSLOG_SOCKET, logging.handlers.SysLogHandler.LOG_DAEMON
            )
        except OSError:
            return  # nobody listens
        system.setLevel(logging.WARNING)
        system.ident = f"difffs[{os.getpid()}]: "
        system.setFormatter(_Printable("%(message)s"))
        logger.addHandler(system)
