"""Fixtures of `studies`."""

from studies import (  # noqa: F401
    begin,
    empty_store,
    place,
    postgres,
    postgres_server,
    settings,
    write_study,
)
