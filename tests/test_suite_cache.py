"""The compilation cache of the suite: one folder per kind of machine, the same bits from it, silent, small and whole."""

import json
import os
import pathlib
import subprocess
import sys
import zlib

import pytest

from tests.helpers import suite_cache

ROOT = pathlib.Path(__file__).resolve().parents[1]
# Twelve steps with batch norm and dropout on two devices; says what they ended in, and how many programs it found and wrote.
CODE = """
import hashlib, json, jax, numpy as np
from tests.train import test_steps as steps
counts = {"cache_hits": 0, "cache_misses": 0}
def listen(event, **_):
    name = event.rpartition("/")[2]
    counts.update({name: counts[name] + 1} if name in counts else {})
jax.monitoring.register_event_listener(listen)
shardings, state, train_step, eval_step = steps.build(2)
losses = []
for step in range(12):
    state, sums = train_step(state, steps.sharding.put_batch(steps.make_batch(step), shardings.batch), jax.random.key(0))
    losses.append(np.asarray(sums["loss"]))
leaves = [*losses, *jax.tree.leaves(state), eval_step(state.variables(), steps.make_batch(0))]
digest = hashlib.sha256(b"".join(np.asarray(leaf).tobytes() for leaf in jax.tree.leaves(leaves))).hexdigest()
print(json.dumps([digest, counts]))
"""


def run(home: pathlib.Path, flags: str = "") -> tuple[str, dict[str, int]]:
    """(digest of what was computed, programs found and written) in a process whose caches lie under `home`."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("JAX_", "POSTER_JAX_", "TF_CPP"))}
    environment |= {"PYTHONPATH": str(ROOT), "JAX_PLATFORMS": "cpu", "JAX_NUM_CPU_DEVICES": "2", "XLA_FLAGS": flags}
    environment |= suite_cache.variables({"POSTER_JAX_TEST_CACHE": str(home)})
    done = subprocess.run([sys.executable, "-c", CODE], cwd=ROOT, env=environment, capture_output=True, text=True, timeout=500)
    assert (done.returncode, done.stderr) == (0, ""), done.stderr[-3000:]
    return json.loads(done.stdout)


def test_a_warm_process_computes_the_bits_of_a_cold_one_and_says_nothing(tmp_path: pathlib.Path) -> None:
    cold, at_first = run(tmp_path)
    assert at_first["cache_misses"] >= 5
    warm, then = run(tmp_path)
    assert then == {"cache_hits": at_first["cache_hits"] + at_first["cache_misses"], "cache_misses": 0}
    assert warm == cold
    # Negative control: a program compiled otherwise is another entry, and the digest tells the two apart.
    other, apart = run(tmp_path, "--xla_backend_optimization_level=0 --xla_llvm_disable_expensive_passes=true")
    assert apart == at_first and other != cold


def test_another_processor_or_version_has_another_folder() -> None:
    here = suite_cache.key("0.12.0", suite_cache.processor())
    assert here == suite_cache.key("0.12.0", suite_cache.processor())
    assert here != suite_cache.key("0.12.1", suite_cache.processor())
    assert here != suite_cache.key("0.12.0", suite_cache.processor() + " avx10")


def test_the_processor_is_its_kind_and_its_instructions_and_not_its_clock(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cpuinfo = tmp_path / "cpuinfo"
    monkeypatch.setattr(suite_cache, "CPUINFO", cpuinfo)
    lines = {"processor": "0", "model name": "AMD EPYC", "cpu MHz": "2400.0", "flags": "fpu sse avx2"}

    def read(**changes: str) -> str:
        block = "\n".join(f"{name}\t: {value}" for name, value in {**lines, **changes}.items())
        cpuinfo.write_text(f"{block}\n\n{block.replace('processor', 'another')}\n")
        return suite_cache.processor()

    plain = read()
    assert "AMD EPYC" in plain and "avx2" in plain
    assert read(**{"cpu MHz": "3100.5", "processor": "1"}) == plain
    assert read(flags="fpu sse") != plain and read(**{"model name": "AMD EPYC 2"}) != plain
    if hasattr(os, "sched_getaffinity"):
        monkeypatch.setattr(os, "sched_getaffinity", lambda _: range(17))
        assert read() != plain
    cpuinfo.unlink()
    assert suite_cache.processor()


def test_the_folder_is_outside_the_checkout_unless_chosen(tmp_path: pathlib.Path) -> None:
    assert suite_cache.root({"XDG_CACHE_HOME": "/x"}) == pathlib.Path("/x/poster_jax_tests")
    assert suite_cache.root({"POSTER_JAX_TEST_CACHE": str(tmp_path), "XDG_CACHE_HOME": "/x"}) == tmp_path
    assert suite_cache.root({"POSTER_JAX_TEST_CACHE": ""}) is None
    chosen = suite_cache.root({})
    assert chosen is not None and ROOT not in chosen.parents


def test_tidying_removes_what_is_half_written_and_then_what_was_not_read_for_longest(tmp_path: pathlib.Path) -> None:
    whole = zlib.compress(os.urandom(2**18))
    folders = [tmp_path / suite_cache.key(version, "") for version in "12"]
    for folder in folders:
        folder.mkdir()
    old, young, cut = folders[0] / "old-cache", folders[1] / "young-cache", folders[1] / "cut-cache"
    none = folders[0] / "none-cache"
    for path, content, age in ((old, whole, 1000), (young, whole, 10), (cut, whole[:-1], 0), (none, b"", 0)):
        path.write_bytes(content)
        then = path.stat().st_mtime - age
        os.utime(path, (then, then))
    suite_cache.tidy(tmp_path)
    assert sorted(tmp_path.glob("*/*")) == [old, young]
    suite_cache.tidy(tmp_path, max_mb=0.4)
    assert sorted(tmp_path.glob("*/*")) == [young]
    suite_cache.tidy(tmp_path, max_mb=0.1)
    assert not list(tmp_path.glob("*/*"))


def within() -> tuple[bool, str | None]:
    """Whether this process and those that it starts have a folder of compiled programs."""
    import jax

    return bool(jax.config.jax_compilation_cache_dir), os.environ.get("JAX_COMPILATION_CACHE_DIR")


@pytest.mark.compiles_anew
def test_a_marked_test_has_no_cache() -> None:
    assert within() == (False, None)


def test_others_have_it() -> None:
    assert within()[0] == bool(within()[1]) == (suite_cache.root() is not None)
