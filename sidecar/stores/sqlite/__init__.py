"""The store in one SQLite file.

`file` makes the file and knows it again, `schema` brings it up to date, `faults` turns what SQLite raises
into what the ports promise, `database` reads and writes; the other modules have one part of the store each.
"""

from sidecar.stores.sqlite.store import SqliteStore, open_sqlite

__all__ = ["SqliteStore", "open_sqlite"]
