#!/usr/bin/env python3
"""Logs that are cut, and members that come back to a log that no longer has what they need.

usage: snapshot_test.py [name...]
"""
import contextlib
import os
import signal
import sqlite3
import subprocess
import sys
import threading
import time

from harness import Cluster, Node, Writers, assert_equal_databases, wait_for

FILLER = "x" * 60000


def fill_log(node, megabytes):
    """Entries of 60 kB that leave next to nothing in the database."""
    for _ in range(megabytes * 17):
        node.execute(["INSERT INTO filler(v) VALUES(length(?))", FILLER])


def cut(node):
    """Cuts the log of a node as far as it goes; the first index that is left."""
    status, _ = node.request("POST", "/snapshot?trailing_logs=1")
    assert status in (200, 204), status


def first_index(node):
    names = sorted(n for n in os.listdir(node.dir + "/raft") if n.startswith("wal-"))
    return int(names[0].split("-")[1])


def base(c):
    c.start()
    leader = c.leader()
    leader.execute("CREATE TABLE t(id INTEGER PRIMARY KEY AUTOINCREMENT, v)", "CREATE TABLE filler(v)", "CREATE TABLE c(n)", "INSERT INTO c VALUES(0)")
    return leader


def cut_all(c, leader):
    fill_log(leader, 14)
    for n in c.live():
        cut(n)
        assert first_index(n) > 2, "the log of %s was not cut" % n.id


def test_new_node_joins_a_cluster_whose_log_was_cut():
    with Cluster(3) as c:
        leader = base(c)
        leader.execute("INSERT INTO t(v) SELECT value FROM (WITH RECURSIVE s(value) AS (SELECT 1 UNION ALL SELECT value+1 FROM s LIMIT 5000) SELECT value FROM s)")
        cut_all(c, leader)
        fresh = Node(c.base, "n4", ["-compress-snap-transport"])
        c.nodes.append(fresh)
        fresh.start(join=[leader.raft_addr]).wait_ready()
        c.wait_voters(4)
        assert fresh.rows("SELECT count(*) FROM t", level="none") == [[5000]]
        leader.execute("INSERT INTO t(v) VALUES(7)")
        assert_equal_databases(c)
        assert "receiving a snapshot" in fresh.log()
        fresh.kill()
        fresh.start().wait_ready()
        assert fresh.rows("SELECT count(*) FROM t", level="none") == [[5001]]
        assert_equal_databases(c)


def test_image_is_let_go_when_its_receiver_has_it():
    """As long as an image is held SQLite's WAL can't begin anew, and grows with each write."""
    with Cluster(4) as c:
        c.nodes = c.nodes[:3]
        c.start()
        leader, late = c.leader(), Node(c.base, "n4")
        leader.execute("CREATE TABLE t(id INTEGER PRIMARY KEY, b)")
        for _ in range(100):                             # more than a young cluster's log has: it is fed with an image
            leader.execute("INSERT INTO t(b) VALUES(randomblob(10000))")
        late.start(join=[leader.raft_addr]).wait_ready()
        c.nodes.append(late)
        assert "image of" in late.log()

        def salts():
            with open(leader.dir + "/db.sqlite-wal", "rb") as f:
                return f.read(24)[16:]
        held = salts()

        def begun_anew():
            c.leader().execute("UPDATE t SET b=randomblob(10000) WHERE id%4=0")
            return salts() != held
        wait_for(begun_anew, "SQLite's WAL to begin anew", 15, 0.05)


def test_follower_that_was_away_catches_up_by_a_snapshot():
    with Cluster(3) as c:
        leader = base(c)
        away = c.followers()[0]
        away.stop()
        for i in range(20):
            leader.execute("UPDATE c SET n=n+1", "INSERT INTO t(v) VALUES(%d)" % i)
        cut_all(c, leader)
        away.start().wait_ready()
        wait_for(lambda: away.rows("SELECT n FROM c", level="none") == [[20]], "the follower has caught up")
        assert_equal_databases(c)
        # All of them begin anew from their files, in turn.
        for n in c.nodes:
            n.kill()
            n.start().wait_ready()
        c.leader().execute("UPDATE c SET n=n+1")
        assert c.nodes[0].rows("SELECT n FROM c") == [[21]]
        assert_equal_databases(c)


def test_installation_goes_on_where_a_kill_ended_it():
    with Cluster(3) as c:
        leader = base(c)
        leader.execute("CREATE TABLE big(v)")
        away = c.followers()[0]
        away.stop()
        for _ in range(8):
            leader.execute("WITH RECURSIVE s(i) AS (SELECT 1 UNION ALL SELECT i+1 FROM s LIMIT 4000) INSERT INTO big SELECT randomblob(4000) FROM s")
        cut_all(c, leader)
        staging = away.dir + "/staging"
        def part_bytes():
            return max([os.path.getsize(os.path.join(staging, n)) for n in os.listdir(staging) if n.endswith(".part")] or [0])
        def noted():
            return any(n.endswith(".part-note") for n in os.listdir(staging)) and part_bytes() > 40 << 20
        begun = time.monotonic()
        away.start(extra=["-snap-transport-rate", "40000000"])
        wait_for(noted, "a part of the image", pause=0.001)
        assert time.monotonic() - begun > 0.8, "the rate was not kept"
        [fetch] = away.status()["store"]["fetches"]
        assert fetch["what"] == "snapshot" and 32 << 20 < fetch["received"] < fetch["bytes"], fetch
        away.kill()
        away.start().wait_ready(7)      # the leader saw the connections end: it doesn't wait until the transfer is idle for 10 s
        wait_for(lambda: away.applied() >= leader.applied(), "the follower has caught up", 60)
        log = away.log()
        assert "goes on at byte" in log, log[-2000:]
        assert_equal_databases(c)


def test_leader_killed_while_it_feeds_a_follower():
    with Cluster(3) as c:
        leader = base(c)
        leader.execute("CREATE TABLE big(v)")
        away = c.followers()[0]
        away.stop()
        for _ in range(6):
            leader.execute("WITH RECURSIVE s(i) AS (SELECT 1 UNION ALL SELECT i+1 FROM s LIMIT 4000) INSERT INTO big SELECT randomblob(4000) FROM s")
        cut_all(c, leader)
        staging = away.dir + "/staging"
        away.start()
        wait_for(lambda: any(n.endswith(".part") for n in os.listdir(staging)), "the installation has begun", pause=0.001)
        leader.kill()
        leader.start()
        for n in c.nodes:
            n.wait_ready(120)
        c.leader().execute("UPDATE c SET n=n+1")
        assert_equal_databases(c)


def test_database_files_that_were_taken_away_come_back_from_the_others():
    with Cluster(3) as c:
        leader = base(c)
        leader.execute("UPDATE c SET n=n+1")
        cut_all(c, leader)
        follower = c.followers()[0]
        follower.stop()
        for name in ("db.sqlite", "db.sqlite-wal", "db.sqlite-shm", "db.ledger"):
            if os.path.exists(follower.dir + "/" + name):
                os.remove(follower.dir + "/" + name)
        leader.execute("UPDATE c SET n=n+1")
        follower.start().wait_ready(60)
        wait_for(lambda: follower.rows("SELECT n FROM c", level="none") == [[2]], "the state is back")
        assert_equal_databases(c)


def replace_bytes(path, at, data):
    with open(path, "r+b") as f:
        f.seek(at)
        f.write(data)


def rewrite(node):
    """Another program writes to the database of a stopped node, with its own WAL."""
    db = sqlite3.connect(node.dir + "/db.sqlite")
    db.execute("UPDATE c SET n=n+100")
    db.commit()
    db.close()


FOREIGN_HANDS = {
    "WAL removed": lambda n: os.remove(n.dir + "/db.sqlite-wal"),
    "WAL emptied": lambda n: os.truncate(n.dir + "/db.sqlite-wal", 0),
    "WAL cut": lambda n: os.truncate(n.dir + "/db.sqlite-wal", os.path.getsize(n.dir + "/db.sqlite-wal") // 2 // 4096 * 4096),
    "WAL overwritten": lambda n: replace_bytes(n.dir + "/db.sqlite-wal", 4096, os.urandom(8192)),
    "ledger removed": lambda n: os.remove(n.dir + "/db.ledger"),
    "ledger overwritten": lambda n: replace_bytes(n.dir + "/db.ledger", 0, os.urandom(512)),
    "database header overwritten": lambda n: replace_bytes(n.dir + "/db.sqlite", 0, b"x" * 100),
    "database emptied": lambda n: os.truncate(n.dir + "/db.sqlite", 0),
    "rot: database cut": lambda n: os.truncate(n.dir + "/db.sqlite", os.path.getsize(n.dir + "/db.sqlite") // 2),
    "rot: database overwritten": lambda n: replace_bytes(n.dir + "/db.sqlite", 4096, os.urandom(8192)),
    "written to": rewrite,
}


def test_files_that_other_hands_changed_come_back_from_the_others():
    with Cluster(3) as c:
        leader = base(c)
        cut_all(c, leader)
        for what, change in FOREIGN_HANDS.items():
            node = c.followers()[0]
            c.leader().execute("UPDATE c SET n=n+1", ["INSERT INTO filler(v) VALUES(?)", FILLER])
            wait_for(lambda: node.applied() >= c.leader().applied(), "all applied")
            node.kill()
            change(node)
            node.start()
            def equal():
                try:
                    assert node.ready()
                    assert_equal_databases(c)
                    return True
                except (OSError, AssertionError, sqlite3.DatabaseError):
                    return False
            if what.startswith("rot"):      # nothing but a comparison of all pages finds it
                wait_for(node.ready, what)
                wait_for(lambda: c.leader().request("POST", "/db/proof?scrub")[0] == 200, "a scrub")
            wait_for(equal, what + ": the node is healed", 30)
            c.leader().execute("UPDATE c SET n=n+1")
        assert_equal_databases(c)


def test_single_node_refuses_files_that_other_hands_changed():
    with Cluster(1) as c:
        node = base(c)
        cut_all(c, node)
        node.kill()
        os.rename(node.dir + "/db.sqlite-wal", node.dir + "/wal")
        assert node.start().process.wait(20) == 1
        assert "db.sqlite-wal was removed by another program; no other member has this database" in node.log(), node.log()[-1000:]
        os.rename(node.dir + "/wal", node.dir + "/db.sqlite-wal")
        node.start().wait_ready()
        assert node.rows("SELECT count(*) FROM filler") == [[14 * 17]]


def test_single_node_replays_its_log_when_the_database_is_damaged():
    with Cluster(1) as c:
        node = base(c)
        for _ in range(5):
            node.execute("UPDATE c SET n=n+1")
        node.kill()
        os.remove(node.dir + "/db.sqlite-wal")
        node.start().wait_ready()
        assert node.rows("SELECT n FROM c") == [[5]]
        assert any(name.startswith("quarantine-") for name in os.listdir(node.dir)), "the damaged files are kept"


FOREIGN_READER = """
import sqlite3, sys, time
db = sqlite3.connect("file:" + sys.argv[1] + "?mode=ro", uri=True, isolation_level=None)
while True:
    try:
        db.execute("BEGIN")
        a, b = db.execute("SELECT (SELECT n FROM a), (SELECT count(*) FROM b)").fetchone()
        time.sleep(0.001)
        again = db.execute("SELECT (SELECT n FROM a), (SELECT count(*) FROM b)").fetchone()
        check = db.execute("PRAGMA quick_check").fetchone()[0] if a % 50 == 0 else "ok"
        db.execute("COMMIT")
        if (a, b) != again or a != b or check != "ok":
            print("WRONG", a, b, again, check, flush=True)
            sys.exit(1)
        print(a, flush=True)
    except sqlite3.OperationalError as error:      # locked while the server recovers
        if db.in_transaction:
            db.execute("ROLLBACK")
        if "lock" not in str(error) and "busy" not in str(error):
            print("WRONG", error, flush=True)
            sys.exit(1)
"""


def test_foreign_reader_beside_writes_checkpoints_and_kills():
    """A sqlite3 program reads the file all the time. It sees whole entries only, and the server doesn't mind it: either may die."""
    with Cluster(1, args=["-raft-snap-wal-size", "65536", "-raft-snap-int", "50ms"]) as c:
        node = c.start().nodes[0]
        node.execute("CREATE TABLE a(n)", "INSERT INTO a VALUES(0)", "CREATE TABLE b(v)")
        count = [0]
        def write(times):
            for _ in range(times):
                status, body = node.request("POST", "/db/execute?transaction", ["UPDATE a SET n=n+1", "INSERT INTO b VALUES(randomblob(2000))"])
                assert status == 200 and "error" not in body, body
                count[0] += 1
        def reader():
            return subprocess.Popen([sys.executable, "-c", FOREIGN_READER, node.dir + "/db.sqlite"], stdout=subprocess.PIPE, text=True)
        def seen(process):
            line = process.stdout.readline().strip()
            assert line.isdigit(), "the reader says: " + line
            return int(line)
        def catches_up(process):
            wait_for(lambda: seen(process) >= count[0], "the reader sees the newest row", pause=0)
        first, second = reader(), reader()
        for round_ in range(6):
            write(60)
            catches_up(first)
            catches_up(second)
            if round_ % 2 == 0:
                second.kill()
                second.wait()
                write(20)
                second = reader()
            else:
                node.kill()
                node.start().wait_ready()
        for process in (first, second):
            write(10)
            catches_up(process)
            process.kill()
            process.wait()
        assert node.rows("SELECT n, (SELECT count(*) FROM b) FROM a") == [[count[0], count[0]]]
        assert node.rows("PRAGMA integrity_check") == [["ok"]]
        assert os.path.getsize(node.dir + "/db.sqlite-wal") < 32 << 20


def test_stopped_node_may_be_read_by_other_programs():
    with Cluster(1) as c:
        node = base(c)
        for i in range(3):
            node.execute("UPDATE c SET n=n+1")
            assert node.stop() == 0
            for _ in range(2):
                with contextlib.closing(sqlite3.connect(node.dir + "/db.sqlite")) as db:      # removes the WAL when it closes
                    assert db.execute("SELECT n FROM c").fetchall() == [(i + 1,)]
            node.start().wait_ready()
            assert node.rows("SELECT n FROM c") == [[i + 1]]
        assert not any(name.startswith("quarantine-") for name in os.listdir(node.dir))


def test_snapshots_all_the_time_under_writes_and_kills():
    with Cluster(3, args=["-raft-snap", "50", "-raft-snap-int", "100ms", "-raft-snap-wal-size", "100000"]) as c:
        base(c)
        stop = threading.Event()
        def snapshots():
            while not stop.is_set():
                for n in c.nodes:
                    try:
                        n.request("POST", "/snapshot?trailing_logs=1", timeout=5)
                    except OSError:
                        pass
                time.sleep(0.05)
        thread = threading.Thread(target=snapshots, daemon=True)
        thread.start()
        with Writers(c.live, 4) as writers:
            for round_ in range(6):
                before = len(writers.acknowledged)
                wait_for(lambda: len(writers.acknowledged) > before + 100, "writes go on")
                victim = c.nodes[round_ % 3]
                victim.kill()
                before = len(writers.acknowledged)
                wait_for(lambda: len(writers.acknowledged) > before + 100, "writes go on without it")
                victim.start().wait_ready()
        stop.set()
        thread.join()
        writers.check(c.leader().rows("SELECT v FROM t"))
        assert_equal_databases(c)
        for n in c.nodes:
            n.kill()
        for n in c.nodes:
            n.start()
        for n in c.nodes:
            n.wait_ready()
        writers.check(c.leader().rows("SELECT v FROM t"))


def test_vacuum_and_optimize_run_when_due():
    with Cluster(3, args=["-auto-vacuum-int", "1s", "-auto-optimize-int", "1s"]) as c:
        base(c)
        def counted(name):
            return sum(n.json("GET", "/debug/vars")["store"][name] for n in c.nodes)
        c.leader().execute("INSERT INTO t(v) VALUES(1)")
        wait_for(lambda: counted("num_auto_vacuums") >= 1 and counted("num_auto_optimizes") >= 1, "both ran", 200)
        assert counted("num_auto_vacuums_failed") == 0
        assert_equal_databases(c)
        assert all(os.path.exists(n.dir + "/maintenance.json") for n in c.nodes)


def main():
    tests = {name: f for name, f in globals().items() if name.startswith("test_") and callable(f)}
    chosen = ["test_" + n if not n.startswith("test_") else n for n in sys.argv[1:]] or list(tests)
    failed = 0
    for name in chosen:
        begun = time.monotonic()
        try:
            tests[name]()
            print("ok   %-70s %.1f s" % (name, time.monotonic() - begun), flush=True)
        except Exception as error:
            failed += 1
            print("FAIL %-70s %s: %s" % (name, type(error).__name__, str(error)[:1500]), flush=True)
    print("%d passed, %d failed" % (len(chosen) - failed, failed))
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    main()
