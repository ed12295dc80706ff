"""The schedule of hosts, and the journal of outcomes."""

import pathlib

import pytest

from poster_jax import errors
from poster_jax.data.download import hosts
from poster_jax.data.download.journal import Entry, Journal


def test_hosts_take_turns_and_one_that_rests_holds_up_no_other(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("random.uniform", lambda low, high: high)
    schedule = hosts.Schedule[str](hosts.Manners(per_host=2, base_secs=1.0, longest_secs=10.0, patience=5))
    for name in "aaabb":
        schedule.add(name, f"{name} task")
    assert [schedule.take(0.0) for _ in range(5)] == [("a", "a task"), ("b", "b task")] * 2 + [None]
    schedule.done("a", 0.0, failed=True, overload=True)
    schedule.done("a", 0.5, failed=True, overload=True)  # sent before the first answer: it counts once
    assert schedule.take(1.4) is None
    assert schedule.take(1.5) == ("a", "a task")
    schedule.add("a", "another")
    assert schedule.take(1.5) is None  # one at a time after an overload
    schedule.done("a", 2.0, failed=True, overload=True)
    assert schedule.take(3.9) is None
    assert schedule.take(4.0) == ("a", "another")  # the second pause is twice as long
    assert schedule.is_over()
    schedule.add("b", "later", not_before=7.0)
    assert not schedule.is_over()
    schedule.done("b", 5.0)
    assert schedule.take(6.9) is None and schedule.take(7.0) == ("b", "later")
    schedule.add("a", "never")
    schedule.done("a", 8.0, failed=True, overload=True, wait_secs=11.0)
    assert schedule.take(99.0) is None and schedule.is_over()
    assert list(schedule.left_alone()) == ["a"]


def test_the_journal_survives_a_torn_line_and_strange_ones(tmp_path: pathlib.Path) -> None:
    path = tmp_path / "downloads.jsonl"
    journal = Journal(path)
    journal.add(Entry(1, "u", "failed", "timeout"))
    journal.add(Entry(1, "u", "kept", size=3))
    with pytest.raises(errors.UserError, match="in use"):
        Journal(path)
    journal.close()
    whole = path.read_bytes()
    strange = b'\xff\xfe\n[]\n{"id": "1", "url": "u", "state": "kept"}\n{"id": 2, "url": "u", "state": "best"}\n{"a": 1}\n'
    path.write_bytes(whole + strange + b'{"id": 3, "url": "u", "st')
    journal = Journal(path)
    assert journal.num_unreadable == 5
    assert [(entry.id, entry.state, entry.size) for entry in journal.entries()] == [(1, "kept", 3)]
    journal.add(Entry(3, "u", "lost"))
    journal.close()
    assert path.read_bytes().startswith(whole + strange + b'{"id": 3, "url": "u", "state": "lost"')
