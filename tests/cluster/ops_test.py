#!/usr/bin/env python3
"""What operators see and do: flags, start and stop, logs, reaping, hand-over, metrics, profiles, the doctor.

usage: ops_test.py [name...]
"""
import http.client
import json
import os
import re
import signal
import socket
import subprocess
import sys
import time

from harness import BINARY, Cluster, Node, free_port, wait_for


def run(*args, seconds=20, env=None):
    """Runs rqlited to its end: exit code, stdout, stderr."""
    done = subprocess.run([BINARY, *args], stdin=subprocess.DEVNULL, capture_output=True, timeout=seconds, text=True, env=env)
    return done.returncode, done.stdout, done.stderr


def variable(node, group, name):
    return node.json("GET", "/debug/vars?key=" + group)[group][name]


def test_version_and_help():
    code, out, err = run("-version")
    assert (code, out) == (0, ""), (code, out)
    assert re.fullmatch(r"rqlited 10 linux \w+ gcc-[\d.]+ sqlite3\.\d+\.\d+ \(commit ([0-9a-f]{40}|unknown), compiler g\+\+\)\n", err), err
    for flag in ("-h", "-help", "--help"):
        code, out, err = run(flag)
        assert code == 0 and out == "" and "\nUsage: rqlited [flags] <data directory>\n  -auth string\n" in err, err[:300]
    code, _, err = run("-nosuch", "d")
    assert code == 2 and err.startswith("flag provided but not defined: -nosuch\n"), err[:100]
    assert run()[0] == 1


def test_start_and_stop_log():
    with Cluster(1) as c:
        n = c.nodes[0].start().wait_ready()
        n.execute("CREATE TABLE t(v)")
        assert n.stop() == 0
        log = n.log()
        line = r"\[%s\] \d{4}/\d\d/\d\d \d\d:\d\d:\d\d %s"
        at = 0
        for component, text in (
                ("rqlited", "rqlited starting, version 10, SQLite 3\\.[\\d.]+, commit \\w+, compiler \\(toolchain\\) gcc-[\\d.]+, compiler \\(command\\) g\\+\\+\n"),
                ("rqlited", "gcc-[\\d.]+, target architecture is \\w+, operating system target is linux\n"),
                ("rqlited", "launch command: "),
                ("rqlited", "no preexisting node state detected in %s, node may be bootstrapping\n" % re.escape(n.dir)),
                ("mux", "mux serving on %s, advertising %s\n" % (n.raft_addr, n.raft_addr)),
                ("cluster", "service listening on %s\n" % n.raft_addr),
                ("http", "execute queue processing started with capacity 1024, batch size 128, timeout 50ms\n"),
                ("http", "service listening on %s\n" % n.http_addr),
                ("store", "opening store with node ID n1, listening on %s\n" % n.raft_addr),
                ("rqlited", "node HTTP API available at http://%s\n" % n.http_addr),
                ("rqlited", "connect using the command-line tool via 'rqlite -H 127.0.0.1 -p %d'\n" % n.http),
                ("rqlited", "visit the rqlite console for this node at http://%s/console/\n" % n.http_addr),
                ("rqlited", "received signal \"terminated\"\n"),
                ("http", "closing HTTP service on %s\n" % n.http_addr),
                ("store", "store closed with node ID n1"),
                ("rqlited", "rqlite server stopped\n")):
            found = re.search(line % (component, text), log[at:])
            assert found, "%s: %s\nnot behind\n%s" % (component, text, log[:at][-300:])
            at += found.start()
        n.start().wait_ready()
        assert "preexisting node state detected in %s\n" % n.dir in n.log()


def test_signals():
    with Cluster(1) as c:
        n = c.nodes[0].start().wait_ready()
        for sig in (signal.SIGPIPE, signal.SIGUSR1, signal.SIGUSR2, signal.SIGHUP):
            n.process.send_signal(sig)
        wait_for(lambda: "received signal \"hangup\"" in n.log(), "the log of SIGHUP")
        n.execute("CREATE TABLE t(v)")
        n.process.send_signal(signal.SIGINT)
        assert n.process.wait(20) == 0
        assert "received signal \"interrupt\"" in n.log()
        n.start().wait_ready()
        n.process.send_signal(signal.SIGQUIT)
        assert n.process.wait(20) == 2
        assert "SIGQUIT: quit" in n.log() and re.search(r"thread \d+ \(raft\)\n(    .*\n)*    rq::replica::Replica::run_raft", n.log()), n.log()[-3000:]


def test_foreign_files_in_the_data_directory():
    with Cluster(1) as c:
        n = c.nodes[0]
        os.makedirs(n.dir + "/lost+found")
        for name in (".snapshot", "notes.txt", "raft.db.bak"):
            with open(os.path.join(n.dir, name), "w") as f:
                f.write("mine")
        n.start().wait_ready()
        n.execute("CREATE TABLE t(v)")
        n.stop()
        n.start().wait_ready()
        assert sorted(set(os.listdir(n.dir)) & {"lost+found", ".snapshot", "notes.txt", "raft.db.bak"}) == [".snapshot", "lost+found", "notes.txt", "raft.db.bak"]


def begin(node, method, path, body, rest=b""):
    """Sends a request and leaves its connection open."""
    s = socket.create_connection(("127.0.0.1", node.http))
    data = json.dumps(body).encode() if not isinstance(body, bytes) else body
    s.sendall(b"%s %s HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s"
              % (method.encode(), path.encode(), len(data) + len(rest), data))
    return s


ENDLESS = "WITH RECURSIVE c(x) AS (SELECT 1 UNION ALL SELECT x+1 FROM c) SELECT count(*) FROM c"


def test_every_stop_ends_in_time():
    """Half a request, an endless read, an endless write, a queued write, no quorum, hung peers: five seconds for all of it."""
    with Cluster(3) as c:
        c.start()
        leader = c.leader()
        leader.execute("CREATE TABLE t(v)")
        followers = c.followers()
        open_ones = []
        for n in c.nodes:
            open_ones.append(begin(n, "POST", "/db/execute", b"[", rest=b" " * 100))
            open_ones.append(begin(n, "POST", "/db/query?level=none", [ENDLESS]))
            s = socket.create_connection(("127.0.0.1", n.http))
            s.sendall(b"GET /sta")
            open_ones.append(s)
        open_ones.append(begin(leader, "POST", "/db/execute", ["INSERT INTO t " + ENDLESS]))
        for f in followers:
            f.process.send_signal(signal.SIGSTOP)          # they take connections and say nothing
        for f in [leader]:
            open_ones.append(begin(f, "POST", "/db/execute", ["INSERT INTO t VALUES(1)"]))
            open_ones.append(begin(f, "POST", "/db/execute?queue&wait&noleader", ["INSERT INTO t VALUES(2)"]))
            open_ones.append(begin(f, "POST", "/db/execute?queue&noleader", ["INSERT INTO t VALUES(3)"]))
        begun = time.monotonic()
        assert leader.stop() == 0
        alone = time.monotonic() - begun
        assert alone < 5, alone
        times = [alone]
        for f in followers:                                # one after the other: the last one has no quorum at all
            begun = time.monotonic()
            f.process.send_signal(signal.SIGTERM)
            f.process.send_signal(signal.SIGCONT)
            assert f.process.wait(20) == 0
            times.append(time.monotonic() - begun)
            assert times[-1] < 5, times
        print("   stops took", ", ".join("%.2f s" % t for t in times))
        for s in open_ones:
            s.close()


def test_stop_without_a_quorum_also_with_self_removal():
    with Cluster(3, args=["-raft-cluster-remove-shutdown"]) as c:
        c.start()
        last = c.leader()
        for f in c.followers():
            f.kill()
        sock = begin(last, "POST", "/db/execute", ["CREATE TABLE t(v)"])
        begun = time.monotonic()
        assert last.stop() == 1
        assert time.monotonic() - begun < 5
        assert "failed to remove this node from cluster before shutdown: " in last.log()
        sock.close()


def test_a_stop_signal_ends_the_wait_for_founders():
    with Cluster(1) as c:
        n = c.nodes[0]
        n.start(join=[n.raft_addr, "127.0.0.1:1"], extra=["-bootstrap-expect", "3"])
        wait_for(lambda: "failed to notify" in n.log() or "notify" in n.log(), "the first round")
        begun = time.monotonic()
        assert n.stop() == 1
        assert time.monotonic() - begun < 2
        assert "clustering failure: " in n.log() and "boot canceled" in n.log(), n.log()


def test_json_log():
    with Cluster(1, args=["-log-format", "json", "-log-level", "WARN"]) as c:
        n = c.nodes[0].start().wait_ready()
        n.stop()
        lines = [x for x in n.log().splitlines() if x.startswith("{")]
        assert not lines, lines                     # a quiet life has no warnings
        n.args = ["-log-format", "json"]
        n.start().wait_ready()
        n.stop()
        lines = [json.loads(x) for x in n.log().splitlines() if x.startswith("{")]
        assert any(x["component"] == "rqlited" and x["level"] == "info" and x["msg"] == "rqlite server stopped" for x in lines)
        assert all(re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z", x["time"]) for x in lines)


def test_raft_log_level():
    with Cluster(3, args=["-raft-log-level", "INFO"]) as c:
        c.start()
        old = c.leader()
        assert re.search(r"\[raft\] \S+ \S+ \[INFO\]  election won: term=\d+", old.log())
        old.kill()
        new = c.leader()
        assert re.search(r"\[raft\] \S+ \S+ \[INFO\]  election won: term=\d+", new.log())


def test_reaping_of_voters_and_read_replicas():
    with Cluster(4, args=["-raft-reap-node-timeout", "2s", "-raft-reap-read-only-node-timeout", "1s"]) as c:
        for i, n in enumerate(c.nodes):
            n.start(join=[c.nodes[0].raft_addr] if i else None, extra=["-raft-non-voter"] if i == 3 else []).wait_ready()
        leader = c.leader()
        voter, replica = c.followers()[0], c.nodes[3]
        voter = next(n for n in c.followers() if n is not replica)
        ids = lambda: sorted(leader.json("GET", "/nodes?nonvoters"))
        wait_for(lambda: len(ids()) == 4, "four members")
        replica.kill()
        wait_for(lambda: replica.id not in ids(), "the dead read replica gone")
        voter.kill()
        begun = time.monotonic()
        wait_for(lambda: voter.id not in ids(), "the dead voter gone")
        took = time.monotonic() - begun
        assert 1.5 < took < 6, took
        assert variable(leader, "store", "nodes_reaped_ok") == 2
        assert variable(leader, "store", "nodes_reaped_failed") == 0
        assert "successfully reaped voting node %s\n" % voter.id in leader.log()
        assert "successfully reaped non-voting node %s\n" % replica.id in leader.log()
        leader.execute("CREATE TABLE t(v)")
        # the leader's own absence is nobody else's
        other = next(n for n in c.live() if n is not leader)
        leader.process.send_signal(signal.SIGSTOP)
        wait_for(lambda: other.leader() != leader.id, "the stopped leader missed")
        time.sleep(2.5)
        leader.process.send_signal(signal.SIGCONT)
        wait_for(lambda: c.leader().execute("INSERT INTO t VALUES(1)"), "a leader again")
        assert len(c.leader().json("GET", "/nodes")) == 2


def test_remove_shutdown_stops_raft():
    with Cluster(3, args=["-raft-remove-shutdown"]) as c:
        c.start()
        gone = c.followers()[0]
        assert gone.request("DELETE", "/remove", {"id": gone.id})[0] == 200
        wait_for(lambda: gone.state() == "Shutdown", "Raft to stop on the removed node")
        assert gone.rows("SELECT 1", "none") == [[1]]
        assert not gone.ready()
        assert gone.stop() == 0


def test_freshness_counts_from_the_last_word_of_the_leader():
    with Cluster(3, args=["-raft-heartbeat-timeout", "300ms", "-raft-leader-lease-timeout", "200ms"]) as c:
        c.start()
        c.nodes[0].execute("CREATE TABLE t(v)")
        f = c.followers()[0]
        ask = lambda: f.request("POST", "/db/query?level=none&freshness=500ms", ["SELECT 1"])[1]
        begun = time.monotonic()
        while time.monotonic() < begun + 1.5:        # nothing happens in the cluster but heartbeats
            assert "stale read" not in ask()
        assert f.status("store.raft.last_contact").endswith("ms") or "µs" in f.status("store.raft.last_contact")
        for n in c.nodes:
            if n is not f:
                n.kill()
        wait_for(lambda: "stale read" in ask(), "a stale read")


class Page:
    """/metrics, parsed as strictly as Prometheus does."""

    SAMPLE = re.compile(r'([a-z_0-9]+)(?:\{((?:[a-z_]+="(?:[^"\\\\\n]|\\\\[\\\\"n])*",?)*)\})? (\S+)')

    def __init__(self, text):
        self.types, self.samples = {}, {}
        family = None
        assert text.endswith("\n")
        for line in text.splitlines():
            if line.startswith("# HELP "):
                continue
            if line.startswith("# TYPE "):
                _, _, family, kind = line.split(" ")
                assert family not in self.types, "family twice: " + family
                self.types[family] = kind
                continue
            found = self.SAMPLE.fullmatch(line)
            assert found, line
            name, labels, value = found.groups()
            assert name == family or (self.types[family] == "histogram" and name in [family + x for x in ("_bucket", "_sum", "_count")]), line
            key = (name, tuple(re.findall(r'([a-z_]+)="((?:[^"\\\\]|\\\\.)*)"', labels or "")))
            assert key not in self.samples, "sample twice: " + line
            self.samples[key] = float(value)

    def get(self, name, **labels):
        return self.samples.get((name, tuple(labels.items())))


def metrics(node):
    status, text = node.request("GET", "/metrics")
    assert status == 200, status
    return Page(text)


def test_metrics_of_a_cluster():
    with Cluster(3) as c:
        c.start()
        leader = c.leader()
        leader.execute("CREATE TABLE t(v)")
        for i in range(20):
            leader.execute("INSERT INTO t VALUES(1)")
        leader.rows("SELECT count(*) FROM t")
        leader.rows("SELECT count(*) FROM t", "linearizable")
        leader.rows("SELECT count(*) FROM t", "strong")
        assert leader.request("GET", "/nosuch")[0] == 404
        c.wait_equal_index()
        page = metrics(leader)
        assert page.get("rqlite_raft_is_leader") == 1 and page.get("rqlite_raft_state", state="Leader") == 1
        assert page.get("rqlite_raft_voters") == 3
        assert page.get("rqlite_raft_commit_index") == leader.status("store.raft.commit_index")
        for name in ("queue", "commit"):
            assert page.get("rqlite_raft_%s_seconds_count" % name) >= 21, name
        for name in ("append", "fsync", "apply"):
            assert page.get("rqlite_raft_%s_seconds_count" % name) > 0, name
        assert page.get("rqlite_raft_read_index_seconds_count") == 1
        assert page.get("rqlite_sql_read_seconds_count", where="log") == 1
        assert page.get("rqlite_http_request_seconds_count", endpoint="/db/execute") == 21
        assert page.get("rqlite_http_request_seconds_count", endpoint="/db/query", level="strong") == 1
        assert page.get("rqlite_http_requests_total", endpoint="other", code="404") == 1
        assert page.get("rqlite_http_in_flight", endpoint="/metrics") == 1
        assert page.get("rqlite_vars_http_executions_total") == 21
        for f in c.followers():
            for name in ("lag_entries", "match_index", "reachable", "last_contact_seconds"):
                value = page.get("rqlite_raft_peer_" + name, peer=f.id, voter="true")
                assert value is not None, name
                assert name != "reachable" or value == 1
            theirs = metrics(f)
            assert theirs.get("rqlite_raft_is_leader") == 0 and 0 <= theirs.get("rqlite_raft_last_contact_seconds") < 1
            chain = [(theirs.get("rqlite_effect_chain_index"), theirs.get("rqlite_effect_chain", half="high"), theirs.get("rqlite_effect_chain", half="low")),
                     (page.get("rqlite_effect_chain_index"), page.get("rqlite_effect_chain", half="high"), page.get("rqlite_effect_chain", half="low"))]
            assert chain[0] == chain[1] and chain[0][1] != 0, chain
        # the page and its description name the same families
        docs = os.path.join(os.path.dirname(os.path.abspath(__file__)), "../../docs/metrics.md")
        with open(docs) as f:
            named = set(re.findall(r"^\| `([a-z_]+)`", f.read(), re.M))
        served = {x for x in page.types if not x.startswith("rqlite_vars_")} | {x for x in theirs.types if not x.startswith("rqlite_vars_")}
        assert named == served, (sorted(named - served), sorted(served - named))


def test_slow_query_log():
    with Cluster(1, args=["-slow-query-log", "100ms"]) as c:
        n = c.nodes[0].start().wait_ready()
        n.execute("CREATE TABLE t(v)", "INSERT INTO t VALUES('secret')")
        slow = "WITH RECURSIVE c(x) AS (SELECT 1 UNION ALL SELECT x+1 FROM c WHERE x<3000000) SELECT count(*) FROM c, t WHERE v='secret'"
        n.rows(slow)
        line = wait_for(lambda: re.search(r"\[slow\] .*", n.log()), "the line")[0]
        assert re.search(r'request was slow, took=\S+ kind=query level=weak where=pool statements=1 sql="WITH RECURSIVE c\(x\) AS \(SELECT \? .* '
                         r'v=\?" plan=".*SCAN c.*"', line), line
        n.execute(["INSERT INTO t SELECT ?||'x' FROM (" + slow + ")", "hidden"])
        wait_for(lambda: "kind=execute where=log" in n.log(), "the line of the write")
        slow_lines = [x for x in n.log().splitlines() if x.startswith("[slow]")]
        assert not any("secret" in x or "hidden" in x for x in slow_lines), slow_lines
        assert metrics(n).get("rqlite_slow_queries_total") >= 2


def sample(name):
    with open(os.path.join(os.path.dirname(os.path.abspath(__file__)), "samples", name)) as f:
        return [x.strip() for x in f if not x.startswith("#")]


def test_status_and_variables_have_every_name_of_the_reference():
    kinds = {"o": dict, "a": list, "s": str, "b": bool, "n": (int, float), "null": type(None)}
    with Cluster(2) as c:
        c.start()
        leader = c.leader()
        leader.json("GET", "/nodes")
        status = leader.status()
        for line in sample("status.txt"):
            path, kind = line.rsplit(" ", 1)
            at = status
            for name in path.split("/"):
                assert isinstance(at, dict) and name in at, path
                at = at[name]
            assert isinstance(at, kinds[kind]) and (kind != "n" or not isinstance(at, bool)), (path, at)
        assert leader.status("store.raft.state") == "Leader"
        assert leader.status("http.queue._default.max_size") == 1024
        assert leader.request("GET", "/status?key=no.such")[1] == "{}"
        assert leader.request("GET", "/status?key=store.raft.state.below")[1] == '"Leader"'
        variables = leader.json("GET", "/debug/vars")
        for line in sample("debug_vars.txt"):
            group, _, names = line.partition(": ")
            assert group in variables, group
            for name in names.split():
                assert name in variables[group], (group, name)
        text = leader.request("GET", "/debug/vars")[1]
        assert re.fullmatch(r'\{\n("[a-z.]+": .*,\n)+"[a-z.]+": .*\n\}\n', text), text[:200]
        assert variables["cmdline"][0] == BINARY and variables["memstats"]["Alloc"] > 0


def test_counters_count():
    with Cluster(2) as c:
        c.start()
        leader = c.leader()
        follower = c.followers()[0]
        follower.execute("CREATE TABLE t(v)", "INSERT INTO t VALUES(1)")
        follower.rows("SELECT * FROM t")
        assert follower.json("POST", "/db/query", ["SELECT * FROM nosuch"])["results"][0]["error"]
        assert follower.request("POST", "/leader?wait", {"id": "nosuch"})[0] == 500
        leader.rows("SELECT 1", "linearizable")
        expected = {("proxy", "remote_executions"): 1, ("proxy", "remote_queries"): 2, ("proxy", "remote_stepdowns"): 1,
                    ("http", "executions"): 1, ("http", "execute_stmts_rx"): 2}
        for (group, name), value in expected.items():
            assert variable(follower, group, name) == value, (group, name, variable(follower, group, name))
        expected = {("db", "executions"): 2, ("db", "queries"): 3, ("db", "query_errors"): 1, ("cluster", "num_execute_req"): 1,
                    ("cluster", "num_query_req"): 2, ("cluster", "num_stepdown_req"): 1, ("store", "num_verify_leader"): 1, ("store", "num_joins"): 1}
        for (group, name), value in expected.items():
            assert variable(leader, group, name) == value, (group, name, variable(leader, group, name))
        assert variable(leader, "store", "num_uncompressed_commands") >= 1
        leader.stop()
        leader.start().wait_ready()
        assert variable(leader, "store", "num_restores_start_skipped") == 1


def test_leader_transfer_from_anywhere():
    with Cluster(4) as c:
        for i, n in enumerate(c.nodes):
            n.start(join=[c.nodes[0].raft_addr] if i else None, extra=["-raft-non-voter"] if i == 3 else []).wait_ready()
        wait_for(lambda: sum(x["voter"] for x in c.nodes[0].json("GET", "/nodes").values()) == 3, "three voters")
        replica = c.nodes[3]
        leader = c.leader()
        target = next(n for n in c.nodes[:3] if n is not leader)
        other = next(n for n in c.nodes[:3] if n not in (leader, target))
        status, body = other.request("POST", "/leader", {"id": target.id})       # without wait, through a follower
        assert (status, body) == (200, ""), (status, body)
        wait_for(lambda: target.state() == "Leader" and other.leader() == target.id, "the named node to lead")
        status, body = replica.request("POST", "/leader?wait", {"id": leader.id})
        assert status == 200, body
        wait_for(lambda: leader.state() == "Leader" and replica.leader() == leader.id, "the named node to lead again")
        for path in ("/leader", "/leader?wait"):
            status, body = other.request("POST", path, {"id": replica.id})
            assert status == 500 and body.startswith("stepdown: "), (status, body)
        assert leader.state() == "Leader"
        assert other.request("POST", "/leader?wait", {"id": leader.id}) == (500, "stepdown: cannot step down to the current Leader\n")
        assert other.request("POST", "/leader?wait", {"id": "nosuch"}) == (500, "stepdown: node not found in cluster\n")
        assert other.request("POST", "/leader?wait", b"{")[0] == 400
        status, body = other.request("POST", "/leader?wait")                     # to whom it may concern
        assert status == 200, body
        wait_for(lambda: c.leader() is not leader, "another leader")
        for method, path in (("GET", "/leader"), ("GET", "/leader?pretty")):
            node = other.json(method, path)
            assert list(node) == ["id", "api_addr", "addr", "version", "voter", "reachable", "leader", "time", "time_s"] and node["leader"] is True
        single = Node(c.base, "alone").start().wait_ready()
        try:
            status, body = single.request("POST", "/leader?wait")
            assert status == 500 and body.startswith("stepdown: "), (status, body)
        finally:
            single.kill()


def test_profiles():
    with Cluster(1) as c:
        path = os.path.join(c.base, "cpu.txt")
        heap = os.path.join(c.base, "heap.txt")
        n = c.nodes[0]
        n.args = ["-cpu-profile", path, "-mem-profile", heap]
        n.start().wait_ready()
        assert n.request("GET", "/debug/pprof/profile?seconds=1")[0] == 500       # one at a time
        assert "rq::replica::Replica::run_raft" in n.request("GET", "/debug/pprof/goroutine")[1]
        assert "<malloc version" in n.request("GET", "/debug/pprof/heap")[1]
        assert n.request("GET", "/debug/pprof/trace")[0] == 501
        assert n.request("GET", "/debug/pprof/nosuch")[0] == 404
        n.rows("WITH RECURSIVE c(x) AS (SELECT 1 UNION ALL SELECT x+1 FROM c WHERE x<1500000) SELECT count(*) FROM c")
        assert n.stop() == 0
        with open(path) as f:
            assert re.search(r"^read-\d+;.*sqlite3VdbeExec.* \d+$", f.read(), re.M)
        with open(heap) as f:
            assert "allocated_bytes " in f.read()
        n.args = []
        n.start().wait_ready()
        assert n.request("GET", "/debug/pprof/profile?seconds=1")[0] == 200
        assert "Apache License" in n.request("GET", "/licenses")[1]
        n.args = ["-cpu-profile", "/no/such/dir/file"]
        n.stop()
        n.start()
        assert n.process.wait(10) == 1
        assert "failed to create CPU profile file at /no/such/dir/file: " in n.log()


def test_doctor():
    with Cluster(2) as c:
        n, other = c.nodes
        flags = ["-node-id", n.id, "-http-addr", n.http_addr, "-raft-addr", n.raft_addr]
        code, out, err = run("doctor", *flags, n.dir)
        assert code == 0 and "[ ok ] ports: HTTP address %s is free\n" % n.http_addr in out, out + err
        assert "disk: a synced write takes " in out and not os.path.exists(n.dir)
        n.start().wait_ready()
        code, out, err = run("doctor", *flags, n.dir)
        assert code == 0 and "a node is running on " in out and "1 of 1 voters reachable, 1 needed, leader n1" in out, out + err
        assert sorted(x for x in os.listdir(n.dir) if "doctor" in x) == []
        other.start(join=[n.raft_addr]).wait_ready()
        c.wait_voters(2)
        other.kill()
        code, out, err = run("doctor", *flags, n.dir)
        assert code == 1 and "[BAD!] cluster: " in out and "node n2 at %s cannot be reached" % other.raft_addr in out, out + err
        # ports of a stranger, a join address that nobody has, a wrong name, another node's directory
        code, out, err = run("doctor", "-node-id", "n9", "-http-addr", n.http_addr, "-raft-addr", "127.0.0.1:%d" % free_port(),
                             "-join", "127.0.0.1:1,no.such.host.invalid:4002", other.dir)
        assert code == 1 and "is in use by another program" in out and "join address 127.0.0.1:1 cannot be reached" in out, out + err
        assert "'no.such.host.invalid' cannot be resolved" in out and "the directory belongs to node n2, the flags say n9" in out, out
        assert run("doctor")[0] == 2 and run("doctor", "-nosuch", "d")[0] == 2


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
    print("ops: %d passed, %d failed" % (len(tests) - failed, failed))
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
