#!/usr/bin/env python3
"""Data directories of rqlite v7 to v10: imported by command and at the first start, refused when damaged or in use.

usage: import_test.py [name...]
"""
import contextlib
import fcntl
import hashlib
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import tarfile
import tempfile
import time

from harness import BINARY, Node, dump as cluster_dump, wait_for

FIXTURES = os.path.join(os.path.dirname(os.path.abspath(__file__)), "../import")
NAMES = ["v10-clean", "v10-crash", "v10-load", "v10-logonly", "v10-reap", "v9-crash", "v7-crash"]


@contextlib.contextmanager
def scratch():
    base = tempfile.mkdtemp(prefix="rq-import-", dir=os.environ.get("RQ_TEST_DIR"))
    try:
        yield base
    finally:
        shutil.rmtree(base, ignore_errors=True)


def unpack(name, base):
    with tarfile.open(os.path.join(FIXTURES, name + ".tar.gz")) as tar:
        tar.extractall(base)
    return os.path.join(base, name)


def tree(top):
    """Every file below with its contents and time of change."""
    found = {}
    for root, _, names in os.walk(top):
        for name in names:
            path = os.path.join(root, name)
            with open(path, "rb") as f:
                found[os.path.relpath(path, top)] = (hashlib.sha256(f.read()).hexdigest(), os.stat(path).st_mtime_ns)
    return found


def expected(name):
    with contextlib.closing(sqlite3.connect(":memory:", isolation_level=None)) as db:
        with open(os.path.join(FIXTURES, name + ".expected.sql"), encoding="utf-8") as f:
            statement = ""
            for line in f:
                statement += line.replace(";;", ";")
                if sqlite3.complete_statement(statement):
                    with contextlib.suppress(sqlite3.OperationalError):   # one dump names sqlite_sequence before there is one
                        db.execute(statement)
                    statement = ""
        return sorted(db.iterdump())


def dump(directory):
    with contextlib.closing(sqlite3.connect("file:%s/db.sqlite?mode=ro" % directory, uri=True)) as db:
        return sorted(db.iterdump())


def run_import(*args):
    done = subprocess.run([BINARY, "import", *args], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, timeout=120)
    return done.returncode, done.stdout, done.stderr


def node_on(base, directory):
    node = Node(base, os.path.basename(directory))
    node.dir = directory
    return node


@contextlib.contextmanager
def started(node):
    try:
        yield node.start().wait_ready()
    finally:
        node.kill()


def upgrades(node):
    counters = node.json("GET", "/debug/vars")["snapshot"]
    return counters["upgrade_ok"], counters["upgrade_fail"]


def test_command_gives_the_references_dump_and_reads_only():
    with scratch() as base:
        for name in NAMES:
            old, new = unpack(name, base), os.path.join(base, "new-" + name)
            before = tree(old)
            code, out, err = run_import(old, new)
            assert code == 0, err
            assert tree(old) == before, "the source was changed"
            assert dump(new) == expected(name), name
            node = node_on(base, new)
            with started(node):
                assert upgrades(node) == (0, 0)
                node.execute("CREATE TABLE later(a)", "INSERT INTO later VALUES(1)")
                node.kill()
                node.start().wait_ready()
                assert node.rows("SELECT * FROM later") == [[1]]


def test_first_start_imports_once_and_keeps_the_old_files():
    with scratch() as base:
        for name in NAMES:
            directory = unpack(name, base)
            before = tree(directory)
            node = node_on(base, directory)
            with started(node):
                assert upgrades(node) == (1, 0)
                assert dump(directory) == expected(name), name
                node.execute("CREATE TABLE later(a)")
            kept = tree(os.path.join(directory, "pre-import"))
            assert kept == before, set(kept) ^ set(before)
            with started(node):
                assert upgrades(node) == (0, 0)
                assert node.rows("SELECT count(*) FROM later") == [[0]]


def test_damaged_directories_are_refused_untouched():
    with scratch() as base:
        for name, victim in (("v10-crash", "raft.db"), ("v10-clean", "wsnapshots/2-7-1795417385815/data.db"),
                             ("v7-crash", "snapshots/2-10-1795417383997/state.bin"), ("v10-reap", "wsnapshots/REAP_PLAN")):
            directory = unpack(name, base)
            path = os.path.join(directory, victim)
            with open(path, "r+b") as f:
                size = os.path.getsize(path)
                if victim == "raft.db":
                    f.truncate(3 * 4096)
                else:
                    f.seek(size // 3)
                    f.write(b"\x00\xff\x00\xff")
            before = tree(directory)
            code, _, err = run_import(directory, os.path.join(base, "new"))
            assert code == 1 and victim.split("/")[-1] in err, err
            assert sorted(os.listdir(os.path.join(base, "new"))) == ["lock", "sqlite-temp"]      # both empty
            assert tree(directory) == before
            node = node_on(base, directory).start()
            assert node.process.wait(30) == 1
            assert "failed to open store: import: " in node.log() and directory in node.log(), node.log()
            after = tree(directory)
            after.pop("lock")
            assert after == before
            shutil.rmtree(directory)


def test_a_running_reference_is_left_alone():
    with scratch() as base:
        directory = unpack("v10-crash", base)
        with open(os.path.join(directory, "raft.db"), "rb") as held:
            fcntl.flock(held, fcntl.LOCK_EX)
            code, _, err = run_import(directory, os.path.join(base, "new"))
            assert code == 1 and "a node is running on" in err, err
            node = node_on(base, directory).start()
            assert node.process.wait(30) == 1
            assert "a node is running on" in node.log()
        with started(node_on(base, directory)):
            pass


def test_one_of_several_members_needs_the_command():
    with scratch() as base:
        directory = unpack("v10-crash", base)
        os.makedirs(directory + "/raft", exist_ok=True)
        with open(directory + "/raft/peers.json", "w", encoding="utf-8") as f:
            f.write('[{"id":"n1","address":"h1:4002"},{"id":"n2","address":"h2:4002"},{"id":"n3","address":"h3:4002","non_voter":true}]')
        before = tree(directory)
        node = node_on(base, directory).start()
        assert node.process.wait(30) == 1
        assert "cluster with 3 members: n1 (h1:4002), n2 (h2:4002), n3 (h3:4002, read replica)" in node.log(), node.log()
        code, out, _ = run_import("-look", directory)
        assert code == 0 and "index 12 of term 2" in out, out
        code, out, err = run_import("-node-id", "n2", directory, os.path.join(base, "new"))
        assert code == 0, err
        assert "rqlited -node-id n2 -raft-addr h2:4002" in out and "move the old data directory away" in out, out
        after = tree(directory)
        after.pop("lock")
        assert after == before


def test_others_join_an_imported_node():
    with scratch() as base:
        first = node_on(base, unpack("v10-crash", base))
        with started(first):
            voter, replica = Node(base, "n2"), Node(base, "n3", ["-raft-non-voter"])
            try:
                for node in (voter, replica):
                    node.start(join=[first.raft_addr]).wait_ready()
                first.execute("INSERT INTO after_snap VALUES(1234)")
                wait_for(lambda: first.applied() == voter.applied() == replica.applied(), "one index")
                assert cluster_dump(first) == cluster_dump(voter) == cluster_dump(replica)
                assert voter.rows("SELECT count(*) FROM people", level="none") == [[519]]
            finally:
                voter.kill()
                replica.kill()


def test_a_kill_or_a_stop_in_the_middle_loses_nothing():
    with scratch() as base:
        directory = unpack("v9-crash", base)
        image = os.path.join(directory, "rsnapshots/2-10-1795417383997.db")
        with contextlib.closing(sqlite3.connect(image)) as db:
            db.execute("PRAGMA journal_mode=OFF")
            db.execute("CREATE TABLE pad(x)")
            db.executemany("INSERT INTO pad VALUES(?)", ((os.urandom(1 << 20),) for _ in range(64)))
            db.commit()
            db.execute("PRAGMA journal_mode=WAL")
        for suffix in ("-wal", "-shm"):
            with contextlib.suppress(FileNotFoundError):
                os.remove(image + suffix)
        before = tree(directory)
        staged = os.path.join(directory, "import.staging/db.sqlite")
        node = node_on(base, directory)
        for megabytes, sig in ((1, signal.SIGKILL), (10, signal.SIGTERM), (30, signal.SIGKILL), (60, signal.SIGKILL)):
            node.start()
            wait_for(lambda: not node.alive() or os.path.exists(directory + "/node.json") or
                     (os.path.exists(staged) and os.path.getsize(staged) >= megabytes << 20), "the copy to grow", pause=0.0005)
            code = node.stop(sig)
            if os.path.exists(directory + "/node.json"):
                break      # it was quicker than we are
            assert code == (-sig if sig == signal.SIGKILL else 0), node.log()
            after = tree(directory)
            assert all(after.get(path) == was for path, was in before.items()), "the old files were changed"
        with started(node):
            assert node.rows("SELECT count(*), sum(length(x)) FROM pad") == [[64, 64 << 20]]
            assert node.rows("SELECT count(*) FROM people") == [[519]]
        assert tree(os.path.join(directory, "pre-import")) == before
        assert not [name for name in os.listdir(directory) if name.startswith("import.")]


def test_the_name_of_the_command_may_be_a_directory():
    with scratch() as base:
        node = Node(base, "n1")
        node.process = subprocess.Popen([BINARY, "-node-id", "n1", "-http-addr", node.http_addr, "-raft-addr", node.raft_addr, "import"],
                                        cwd=base, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            wait_for(node.ready, "ready")
        finally:
            node.kill()
        assert os.path.exists(os.path.join(base, "import/node.json"))
        assert subprocess.run([BINARY, "import"], cwd=base, stderr=subprocess.DEVNULL, check=False).returncode == 2


def main():
    wanted = sys.argv[1:]
    tests = [(n, f) for n, f in globals().items() if n.startswith("test_") and (not wanted or any(w in n for w in wanted))]
    failed = 0
    for name, test in tests:
        begun = time.monotonic()
        try:
            test()
            print("ok   %-60s %6.2f s" % (name, time.monotonic() - begun), flush=True)
        except Exception as error:  # noqa: BLE001: every failure is reported, the others still run
            failed += 1
            print("FAIL %-60s %s: %s" % (name, type(error).__name__, error), flush=True)
    print("import: %d passed, %d failed" % (len(tests) - failed, failed))
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
