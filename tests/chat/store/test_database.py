"""Who waits for whom at the database, and for how long."""

import threading

import pytest

from rlhf.chat.store.database import Database, StoreBusy


def test_who_waits_for_another_thread_gives_up_in_time_too(tmp_path, monkeypatch):
    monkeypatch.setattr("rlhf.chat.store.database.WAIT_S", 0.05)
    database, begun, over = Database(tmp_path / "feedback.sqlite"), threading.Event(), threading.Event()

    def write() -> None:
        with database.writing():
            begun.set()
            over.wait(30)

    writer = threading.Thread(target=write)
    writer.start()
    try:
        assert begun.wait(30)
        for wait_s in (None, 0.0):
            with pytest.raises(StoreBusy, match="is busy"), database.writing(wait_s):
                pass
        assert writer.is_alive() and not over.is_set()
    finally:
        over.set()
        writer.join()
    with database.writing(0.0) as connection, database.writing(0.0) as inner:
        assert inner is connection
    database.close()
