"""The container's entry point: `python -m pygrid_node`, settings from the environment."""

import asyncio
import sys

import structlog

from pygrid_node.server import serve
from pygrid_node.settings import SettingsError, read_settings


def main() -> int:
    """Run the node until it is told to stop; the exit status is 2 where settings are missing or wrong."""
    _configure_log()
    try:
        settings = read_settings()
    except SettingsError as error:
        sys.stderr.write(f"The node can't start; its environment is not complete:\n{error}\n")
        return 2
    asyncio.run(serve(settings))
    return 0


def _configure_log() -> None:
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso"),
            # As text: the structured form holds every local variable, secrets among them.
            structlog.processors.format_exc_info,
            structlog.processors.JSONRenderer(),
        ],
        logger_factory=structlog.PrintLoggerFactory(),
    )


if __name__ == "__main__":
    sys.exit(main())
