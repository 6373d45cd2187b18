"""Logging: JSON lines on stderr, times in UTC, everything that could act on a terminal escaped."""

import logging
import sys

import structlog


def set_up(level: int = logging.INFO) -> None:
    """Configures structlog for a server process. JSON escapes control and bidi characters."""
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            structlog.processors.JSONRenderer(ensure_ascii=True),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
        cache_logger_on_first_use=True,
    )
