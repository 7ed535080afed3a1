#!/usr/bin/env python3
"""A majority that is lost for good, an entry that nobody survives, files that were tampered with.

usage: recovery_test.py [name...]
"""
import json
import os
import signal
import subprocess
import sys
import threading
import time

from harness import BINARY, Cluster, Node, assert_equal_databases, free_port, wait_for


def write_peers(nodes, members):
    text = json.dumps([{"id": n.id, "address": n.raft_addr} for n in members])
    for n in nodes:
        os.makedirs(n.dir + "/raft", exist_ok=True)
        with open(n.dir + "/raft/peers.json", "w") as f:
            f.write(text)


def recover(node, *flags):
    return subprocess.run([BINARY, "recover", *flags, node.dir], capture_output=True, text=True, timeout=60)


def test_one_survivor_goes_on_alone_and_grows_again():
    with Cluster(3) as c:
        c.start()
        c.leader().execute("CREATE TABLE t(v)", "INSERT INTO t VALUES(1)")
        c.wait_equal_index()
        for n in c.nodes:
            n.kill()
        survivor, lost = c.nodes[1], c.nodes[2]
        shown = recover(survivor)
        assert shown.returncode == 0 and "last index" in shown.stdout and "member        n3" in shown.stdout, shown
        write_peers([survivor], [survivor])
        survivor.start().wait_ready()
        assert survivor.json("GET", "/debug/vars")["store"]["num_recoveries"] == 1
        assert os.path.exists(survivor.dir + "/raft/peers.info") and not os.path.exists(survivor.dir + "/raft/peers.json")
        survivor.execute("INSERT INTO t VALUES(2)")
        # A member of before is not heard any more.
        lost.start()
        wait_for(lambda: "refused" in survivor.log() or "another cluster" in survivor.log() or lost.alive(), "the lost one is up")
        fresh = Node(c.base, "n4")
        c.nodes.append(fresh)
        fresh.start(join=[survivor.raft_addr]).wait_ready()
        assert fresh.rows("SELECT v FROM t", level="none") == [[1], [2]]
        assert not lost.ready(), "a fenced member must not become ready"
        lost.kill()
        survivor.execute("INSERT INTO t VALUES(3)")
        for n in (survivor, fresh):
            n.stop()
        for n in (survivor, fresh):
            n.start()
        for n in (survivor, fresh):
            n.wait_ready()
        assert c.leader().rows("SELECT count(*) FROM t") == [[3]]
        assert_equal_databases(c)


def test_all_members_at_new_addresses():
    with Cluster(3) as c:
        c.start()
        c.leader().execute("CREATE TABLE t(v)", "INSERT INTO t VALUES(1)")
        for n in c.nodes:
            n.kill()
        for n in c.nodes:
            n.http, n.raft = free_port(), free_port()
        write_peers(c.nodes, c.nodes)
        for n in c.nodes:
            n.start()
        for n in c.nodes:
            n.wait_ready()
        c.leader().execute("INSERT INTO t VALUES(2)")
        assert c.nodes[0].rows("SELECT count(*) FROM t") == [[2]]
        assert_equal_databases(c)
        for n in c.nodes:
            n.kill()
            n.start().wait_ready()
        c.leader().execute("INSERT INTO t VALUES(3)")
        assert_equal_databases(c)


def test_empty_directories_begin_with_the_membership_of_the_file():
    with Cluster(3) as c:
        write_peers(c.nodes, c.nodes)
        for n in c.nodes:
            n.start()
        for n in c.nodes:
            n.wait_ready()
        c.leader().execute("CREATE TABLE t(v)", "INSERT INTO t VALUES(1)")
        assert c.nodes[2].rows("SELECT count(*) FROM t") == [[1]]
        assert_equal_databases(c)


def test_wrong_files_end_the_start_and_change_nothing():
    cases = [("[{]", "failed to open store: failed to read peers file: invalid character"),
             ('[{"id":"n1","address":"a:1","non_voter":true}]', "failed to open store: failed to read peers file: need at least one voter in configuration: "),
             ('[{"id":"","address":"a:1"}]', "failed to open store: failed to read peers file: empty ID in configuration: "),
             ('[{"id":"n1","address":"a:1"},{"id":"n1","address":"a:2"}]', "failed to open store: failed to read peers file: found duplicate ID in configuration: n1"),
             ('[{"id":"n1","address":"a:1"},{"id":"n2","address":"a:1"}]', "failed to open store: failed to read peers file: found duplicate address in configuration: a:1"),
             ('[{"id":"n1","address":"http://a:1"}]', "failed to open store: failed to recover node: protocol specified in address: http://a:1"),
             ('[{"id":"n1","address":"a"}]', "failed to open store: failed to recover node: invalid address in configuration: a")]
    with Cluster(1) as c:
        n = c.nodes[0]
        n.start().wait_ready()
        n.execute("CREATE TABLE t(v)")
        n.stop()
        for text, message in cases:
            with open(n.dir + "/raft/peers.json", "w") as f:
                f.write(text)
            n.start()
            assert n.process.wait(20) == 1
            assert message in n.log(), (message, n.log()[-500:])
            assert os.path.exists(n.dir + "/raft/peers.json")
        os.remove(n.dir + "/raft/peers.json")
        n.start().wait_ready()
        assert n.rows("SELECT count(*) FROM t") == [[0]]


def test_entry_that_nobody_survives_is_passed_over():
    with Cluster(1) as c:
        n = c.nodes[0]
        n.start().wait_ready()
        n.execute("CREATE TABLE t(v)")
        heavy = "WITH RECURSIVE s(i) AS (SELECT 1 UNION ALL SELECT i+1 FROM s LIMIT 400000000) INSERT INTO t SELECT max(i) FROM s"
        def send():
            try:
                n.execute(heavy, timeout=60)
            except Exception:
                pass
        thread = threading.Thread(target=send, daemon=True)
        thread.start()
        def attempt():
            with open(n.dir + "/apply.attempt", "rb") as f:
                data = f.read(12)
            return int.from_bytes(data[:8], "little"), int.from_bytes(data[8:12], "little")
        before = n.applied()
        wait_for(lambda: attempt()[0] > before, "the entry is begun")
        n.kill()
        n.start()
        wait_for(lambda: attempt()[1] >= 2, "the entry is begun again")
        n.kill()
        n.start()
        wait_for(lambda: "never survived" in n.log(), "the third start stops before it")
        assert n.rows("SELECT count(*) FROM t", level="none") == [[0]]
        n.stop()
        shown = recover(n)
        assert "-skip %d" % (attempt()[0]) in shown.stdout, shown.stdout
        assert recover(n, "-skip", "1").returncode == 1
        assert recover(n, "-skip", str(attempt()[0])).returncode == 0
        n.start().wait_ready(40)
        n.execute("INSERT INTO t VALUES(7)")
        assert n.rows("SELECT v FROM t") == [[7]]
        n.kill()
        n.start().wait_ready()
        assert n.rows("SELECT v FROM t") == [[7]]


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
