#!/usr/bin/env python3
"""How nodes come into a cluster, go, come back changed, and what keeps working meanwhile.

usage: lifecycle_test.py [name...]
"""
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time

from harness import Cluster, Node, assert_equal_databases, free_port, wait_for


def test_restart_keeps_data_and_membership():
    with Cluster(3) as c:
        c.start()
        c.nodes[0].execute("CREATE TABLE t(id INTEGER PRIMARY KEY, v)", "INSERT INTO t(v) VALUES(1),(2),(3)")
        for sig in (signal.SIGTERM, signal.SIGKILL):
            for n in c.nodes:
                n.stop(sig)
            for n in c.nodes:
                n.start()
            for n in c.nodes:
                n.wait_ready()
                assert n.rows("SELECT count(*) FROM t") == [[3]]
        assert_equal_databases(c)


def test_restart_of_a_single_node_is_ready_at_once():
    with Cluster(1) as c:
        n = c.nodes[0]
        begun = time.monotonic()
        n.start().wait_ready()
        first = time.monotonic() - begun
        n.execute("CREATE TABLE t(n)", "INSERT INTO t VALUES(0)")
        for i in range(10):
            n.execute("UPDATE t SET n=n+1")
            n.kill()
            begun = time.monotonic()
            n.start().wait_ready()
            again = time.monotonic() - begun
            assert n.rows("SELECT n FROM t") == [[i + 1]], "an update was lost or applied twice"
            assert again < 1.0, again
        print("   single node: first start %.3f s, restart after kill -9 %.3f s" % (first, again))


def test_changed_addresses_without_join():
    with Cluster(3) as c:
        c.start()
        c.nodes[0].execute("CREATE TABLE t(v)")
        n = c.followers()[0]
        n.stop()
        n.http, n.raft = free_port(), free_port()
        n.start().wait_ready()
        def told():
            return all(any(x["id"] == n.id and x["addr"] == n.raft_addr and x["reachable"] for x in m.json("GET", "/nodes?ver=2")["nodes"])
                       for m in c.nodes)
        wait_for(told, "all nodes to know the new address")
        n.execute("INSERT INTO t VALUES(1)")
        assert_equal_databases(c)


def test_same_id_with_a_wiped_disk_rejoins():
    with Cluster(3) as c:
        c.start()
        c.nodes[0].execute("CREATE TABLE t(v)", "INSERT INTO t VALUES(7)")
        n = c.followers()[0]
        n.kill()
        shutil.rmtree(n.dir)
        n.start(join=[m.raft_addr for m in c.nodes if m is not n]).wait_ready()
        c.wait_voters(3)
        assert n.rows("SELECT v FROM t", "none") == [[7]]
        assert_equal_databases(c)


def test_joining_a_young_cluster_whose_founder_does_not_lead():
    """The new member gets the log from its first entry on, and with it the founder's address only: it must answer the leader all the same."""
    with Cluster(4) as c:
        n1, n2, n3, n4 = c.nodes
        n1.start().wait_ready()
        for n in (n2, n3):
            n.start(join=[n1.raft_addr]).wait_ready()
        wait_for(lambda: n1.request("POST", "/leader?wait", {"id": "n2"})[0] == 200, "n2 to lead")
        n4.start(join=[n2.raft_addr]).wait_ready()
        # The founder's disk is lost; the others never were founders.
        n1.kill()
        shutil.rmtree(n1.dir)
        n1.start(join=[n2.raft_addr]).wait_ready()
        c.wait_voters(4)
        assert_equal_databases(c)


def test_same_address_with_another_id_replaces_the_stale_member():
    with Cluster(3) as c:
        c.start()
        n = c.followers()[0]
        n.kill()
        shutil.rmtree(n.dir)
        n.id = "n9"
        n.start(join=[c.leader().raft_addr]).wait_ready()
        wait_for(lambda: sorted(c.leader().json("GET", "/nodes")) == sorted(m.id for m in c.nodes), "the table to name n9 alone")


def test_read_replica_follows_and_never_votes():
    with Cluster(2) as c:
        c.nodes[0].start().wait_ready()
        r = c.nodes[1]
        r.start(join=[c.nodes[0].raft_addr], extra=["-raft-non-voter"]).wait_ready()
        c.nodes[0].execute("CREATE TABLE t(v)", "INSERT INTO t VALUES(1)")
        wait_for(lambda: r.rows("SELECT v FROM t", "none") == [[1]], "the replica to follow")
        assert list(c.nodes[0].json("GET", "/nodes")) == ["n1"]
        assert c.nodes[0].json("GET", "/nodes?nonvoters")["n2"]["voter"] is False
        r.execute("INSERT INTO t VALUES(2)")
        # the replica's death costs nothing, and the leader's is not its affair
        r.kill()
        c.nodes[0].execute("INSERT INTO t VALUES(3)")
        r.start().wait_ready()
        wait_for(lambda: r.rows("SELECT count(*) FROM t", "none") == [[3]], "the replica to catch up")


def test_bootstrap_expect_forms_one_cluster():
    with Cluster(3) as c:
        addrs = [n.raft_addr for n in c.nodes]
        for n in c.nodes:
            n.start(join=addrs, extra=["-bootstrap-expect", "3"])
        for n in c.nodes:
            n.wait_ready()
        assert len({n.leader() for n in c.nodes}) == 1
        c.wait_voters(3)
        c.nodes[2].execute("CREATE TABLE t(v)")
        for n in c.nodes:                      # the flags may stay for restarts
            n.stop()
        for n in c.nodes:
            n.start(join=addrs, extra=["-bootstrap-expect", "3"])
        for n in c.nodes:
            n.wait_ready()
        assert_equal_databases(c)


def test_removed_node_falls_silent_and_the_rest_goes_on():
    with Cluster(3) as c:
        c.start()
        leader = c.leader()
        gone = c.followers()[0]
        status, _ = gone.request("DELETE", "/remove", {"id": gone.id})
        assert status == 200, status
        c.wait_voters(2)
        wait_for(lambda: not gone.ready(), "the removed node to say that it isn't ready")
        leader.execute("CREATE TABLE t(v)")
        assert leader.request("DELETE", "/remove", {"id": "nobody"})[0] == 200
        assert leader.request("DELETE", "/remove", {"id": 5})[0] == 400


def test_removing_the_leader_elects_another():
    with Cluster(3) as c:
        c.start()
        leader = c.leader()
        follower = c.followers()[0]
        assert follower.request("DELETE", "/remove", {"id": leader.id})[0] == 200
        wait_for(lambda: follower.leader() not in ("", leader.id), "another leader")
        wait_for(lambda: leader.id not in follower.json("GET", "/nodes"), "the old leader gone from the list")
        follower.execute("CREATE TABLE t(v)")


def test_leader_transfer():
    with Cluster(3) as c:
        c.start()
        leader, to = c.leader(), c.followers()[0]
        status, body = leader.request("POST", "/leader?wait", {"id": to.id})
        assert status == 200, body
        wait_for(lambda: to.state() == "Leader", "the named node to lead")
        other = next(n for n in c.nodes if n is not to)
        status, body = other.request("POST", "/leader?wait", {"id": "nobody"})
        assert status == 500 and "node not found in cluster" in body, (status, body)
        status, body = other.request("POST", "/leader?wait", {"id": to.id})
        assert status == 500 and "cannot step down to the current Leader" in body, (status, body)


def test_remove_on_shutdown():
    with Cluster(3, args=["-raft-cluster-remove-shutdown"]) as c:
        c.start()
        n = c.followers()[0]
        assert n.stop() == 0
        wait_for(lambda: n.id not in c.leader().json("GET", "/nodes"), "the stopped node gone from the list")
        c.leader().execute("CREATE TABLE t(v)")


def test_runaway_statement_does_not_hold_up_a_stop():
    endless = "WITH RECURSIVE c(x) AS (SELECT 1 UNION ALL SELECT x+1 FROM c) SELECT count(*) FROM c"
    for path, sql in (("/db/query", endless), ("/db/execute", "CREATE TABLE e AS " + endless)):
        with Cluster(1) as c:
            n = c.nodes[0].start().wait_ready()
            s = socket.create_connection(("127.0.0.1", n.http))
            body = json.dumps([sql]).encode()
            s.sendall(b"POST %s HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n%s" % (path.encode(), len(body), body))
            def busy():
                with open("/proc/%d/stat" % n.process.pid) as f:
                    return int(f.read().rsplit(")", 1)[1].split()[11]) > 30      # ticks of user time
            wait_for(busy, "the statement to run")
            begun = time.monotonic()
            assert n.stop() == 0
            took = time.monotonic() - begun
            s.close()
            assert took < 2.0, "%s: stop took %.2f s" % (path, took)


def test_half_a_request_does_not_hold_up_a_stop():
    with Cluster(1) as c:
        n = c.nodes[0].start().wait_ready()
        s = socket.create_connection(("127.0.0.1", n.http))
        s.sendall(b"POST /db/execute HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n[")
        begun = time.monotonic()
        assert n.stop() == 0
        assert time.monotonic() - begun < 5.0
        s.close()


def test_garbage_on_the_peer_port_harms_nobody():
    with Cluster(3) as c:
        c.start()
        c.nodes[0].execute("CREATE TABLE t(v)")
        for n in c.nodes:
            for data in (b"GET /status HTTP/1.1\r\nHost: x\r\n\r\n", os.urandom(5000), b"\0" * 64, b"\xff" * 64, b"\x01", b"\x02" + b"\xff" * 8):
                s = socket.create_connection(("127.0.0.1", n.raft))
                try:
                    s.sendall(data)
                    s.settimeout(1)
                    s.recv(100)
                except OSError:
                    pass
                s.close()
        for n in c.nodes:
            n.execute("INSERT INTO t VALUES(1)")
        assert c.leader().rows("SELECT count(*) FROM t") == [[3]]


def test_second_process_on_a_directory_is_refused_at_once():
    with Cluster(1) as c:
        n = c.nodes[0].start().wait_ready()
        twin = Node(c.base, "twin")
        twin.dir = n.dir
        twin.start()
        assert twin.process.wait(5) == 1
        assert "in use" in twin.log(), twin.log()


def test_joining_through_an_http_address_is_refused():
    with Cluster(2) as c:
        c.nodes[0].start().wait_ready()
        c.nodes[1].start(join=[c.nodes[0].http_addr])
        assert c.nodes[1].process.wait(15) == 1
        assert "appears to be serving HTTP when it should be Raft" in c.nodes[1].log()


def test_join_fails_after_its_attempts():
    with Cluster(1) as c:
        n = c.nodes[0].start(join=["127.0.0.1:1"], extra=["-join-attempts", "2", "-join-interval", "100ms"])
        assert n.process.wait(30) == 1
        assert "failed to join cluster at [127.0.0.1:1], after 2 attempt(s)" in n.log(), n.log()


def test_a_stop_signal_ends_the_wait_for_a_join():
    with Cluster(1) as c:
        n = c.nodes[0].start(join=["127.0.0.1:1"], extra=["-join-attempts", "100"])
        wait_for(lambda: "sleeping" in n.log(), "the first attempt to fail")
        begun = time.monotonic()
        assert n.stop() == 1
        assert time.monotonic() - begun < 2.0
        assert "join operation canceled" in n.log()


def test_lost_quorum_reads_level_none_only_and_comes_back():
    with Cluster(3) as c:
        c.start()
        c.nodes[0].execute("CREATE TABLE t(v)", "INSERT INTO t VALUES(1)")
        leader = c.leader()
        for n in c.followers():
            n.kill()
        wait_for(lambda: leader.request("POST", "/db/execute", ["INSERT INTO t VALUES(2)"])[0] == 503, "writes to be refused")
        assert leader.rows("SELECT v FROM t", "none") == [[1]]
        assert leader.request("POST", "/db/query", ["SELECT v FROM t"])[0] == 503
        for n in c.nodes:
            if not n.alive():
                n.start()
        for n in c.nodes:
            n.wait_ready()
        leader.execute("INSERT INTO t VALUES(3)")
        assert_equal_databases(c)


def test_tmpfs_of_96_megabytes():
    base = "/dev/shm/rq-test-%d" % os.getpid()
    os.makedirs(base)
    mounted = subprocess.call(["mount", "-t", "tmpfs", "-o", "size=96m", "tmpfs", base], stderr=subprocess.DEVNULL) == 0
    try:
        with Cluster(3, base=base + "/c" if mounted else base) as c:
            os.makedirs(c.base, exist_ok=True)
            c.start()
            c.nodes[0].execute("CREATE TABLE t(v)")
            for _ in range(20):
                c.nodes[1].execute("INSERT INTO t SELECT randomblob(1000) FROM (WITH RECURSIVE c(x) AS (SELECT 1 UNION ALL SELECT x+1 FROM c LIMIT 50) SELECT x FROM c)")
            c.nodes[2].kill()
            c.nodes[2].start().wait_ready()
            assert_equal_databases(c)
    finally:
        if mounted:
            subprocess.call(["umount", "-l", base])
        shutil.rmtree(base, ignore_errors=True)


def test_diverging_statements_leave_equal_databases():
    """What makes the reference's replicas differ (spec http-api section 16), with a restart and a fresh node in between."""
    with Cluster(4) as c:
        three, fresh = c.nodes[:3], c.nodes[3]
        c.nodes = three
        c.start()
        one = three[0]
        one.execute("CREATE TABLE t(id INTEGER PRIMARY KEY, k, v, d DEFAULT (random()), s DEFAULT CURRENT_TIMESTAMP)",
                    "CREATE TABLE src(a)", "INSERT INTO src VALUES(1),(2),(3),(4),(5),(6),(7),(8)",
                    "CREATE TABLE log(x, y)",
                    "CREATE TRIGGER tr AFTER INSERT ON t BEGIN INSERT INTO log VALUES(random(), julianday('now')); END",
                    "CREATE VIEW r AS SELECT random() AS x")
        statements = ["INSERT INTO t(k,v) VALUES('sub',(SELECT random()))",
                      "WITH c AS (SELECT random() AS r) INSERT INTO t(k,v) SELECT 'cte', r FROM c",
                      "INSERT INTO [t](k,v) VALUES('bracket',random())", "INSERT INTO t(k,v) VALUES('hex',randomblob(0x4))",
                      "INSERT INTO t(k,v) SELECT 'order', a FROM src ORDER BY random() LIMIT 3",
                      "INSERT INTO t(k,v) VALUES('jd',julianday())", "INSERT INTO t(k,v) VALUES('f',strftime('%f'))",
                      "INSERT INTO t(k,v) VALUES('now',datetime('now'))", "INSERT INTO t(k,v) SELECT 'view', x FROM r",
                      "INSERT INTO t(k,v) VALUES('total',total_changes()), ('last',last_insert_rowid()), ('ch',changes())",
                      "UPDATE t SET v=random() WHERE k='order'", "ANALYZE", "VACUUM", "PRAGMA user_version=7",
                      "DELETE FROM t WHERE id IN (SELECT id FROM t ORDER BY random() LIMIT 2)"]
        for i, sql in enumerate(statements):
            three[i % 3].execute(sql)
            if i == 5:
                c.followers()[0].kill()
                next(n for n in three if not n.alive()).start().wait_ready()
            if i == 10:
                c.nodes = three + [fresh]
                fresh.start(join=[one.raft_addr]).wait_ready()
        assert_equal_databases(c)
        leader = c.leader()
        leader.stop()
        c.leader()
        leader.start().wait_ready()
        three[1].execute("INSERT INTO t(k,v) VALUES('total',total_changes()), ('last',last_insert_rowid()), ('ch',changes())")
        assert_equal_databases(c)


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
    print("lifecycle: %d passed, %d failed" % (len(tests) - failed, failed))
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
