"""Structured logs: one JSON object per line on standard output, with the path of the current request.

Events are named `noun.verb_past`: `node.launched`, `model.retrieved`.
"""

import logging
import sys

import structlog


def configure_logs(level: str) -> None:
    """Configure structlog for the process; `level` is the name of a level of the logging module."""
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            structlog.processors.JSONRenderer(),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.getLevelNamesMapping()[level.upper()]),
        logger_factory=structlog.PrintLoggerFactory(sys.stdout),
        cache_logger_on_first_use=True,
    )
