"""Real rqlited processes on loopback for the cluster tests: start, stop, kill, pause, ask, compare.

Python 3 standard library only. Nothing here sleeps for a fixed time to let something happen: everything waits for a
condition with a deadline. Every test has ports and directories of its own.
"""
import contextlib
import http.client
import json
import os
import shutil
import signal
import socket
import sqlite3
import subprocess
import tempfile
import threading
import time

BINARY = os.path.abspath(os.environ.get("RQLITED", os.path.join(os.path.dirname(__file__), "../../build/dev/bin/rqlited")))
_ports = iter(range(int(os.environ.get("RQ_TEST_PORT_LOW", "12000")), 20000))
_port_lock = threading.Lock()


def free_port():
    with _port_lock:
        for port in _ports:
            with contextlib.closing(socket.socket()) as s:
                try:
                    s.bind(("127.0.0.1", port))
                    return port
                except OSError:
                    continue
    raise RuntimeError("no free port")


def wait_for(condition, what, seconds=30.0, pause=0.005):
    """Polls until condition() is true; its value is returned. Exceptions of a connection count as false."""
    end = time.monotonic() + seconds
    while True:
        try:
            value = condition()
            if value:
                return value
        except (OSError, http.client.HTTPException, ValueError):
            pass
        if time.monotonic() > end:
            raise AssertionError("waited %.1f s in vain: %s" % (seconds, what))
        time.sleep(pause)


class Node:
    def __init__(self, base, node_id, args=()):
        self.id, self.args = node_id, list(args)
        self.host, self.binary = "127.0.0.1", BINARY
        self.http, self.raft = free_port(), free_port()
        self.dir = os.path.join(base, node_id)
        self.log_path = os.path.join(base, node_id + ".log")
        self.process = None

    @property
    def raft_addr(self):
        return "%s:%d" % (self.host, self.raft)

    @property
    def http_addr(self):
        return "%s:%d" % (self.host, self.http)

    def start(self, join=None, extra=(), prefix=()):
        command = list(prefix) + [self.binary, "-node-id", self.id, "-http-addr", self.http_addr, "-raft-addr", self.raft_addr]
        if join:
            command += ["-join", ",".join(join)]
        command += self.args + list(extra) + [self.dir]
        with open(self.log_path, "ab") as log:
            self.process = subprocess.Popen(command, stdout=log, stderr=log, stdin=subprocess.DEVNULL)
        return self

    def alive(self):
        return self.process is not None and self.process.poll() is None

    def stop(self, sig=signal.SIGTERM, seconds=20):
        if not self.alive():
            return None
        self.process.send_signal(sig)
        if sig == signal.SIGTERM:
            self.process.send_signal(signal.SIGCONT)
        return self.process.wait(seconds)

    def kill(self):
        if self.alive():
            self.process.kill()
            self.process.wait()

    def log(self):
        with open(self.log_path, "rb") as f:
            return f.read().decode("utf-8", "replace")

    # --- asking
    def request(self, method, path, body=None, timeout=30, headers=None):
        c = http.client.HTTPConnection(self.host, self.http, timeout=timeout)
        try:
            data = json.dumps(body) if body is not None and not isinstance(body, (str, bytes)) else body
            h = {"Content-Type": "application/json"} if body is not None else {}
            h.update(headers or {})
            c.request(method, path, data, h)
            r = c.getresponse()
            return r.status, r.read().decode("utf-8", "replace")
        finally:
            c.close()

    def json(self, method, path, body=None, timeout=30):
        status, text = self.request(method, path, body, timeout)
        if status != 200:
            raise ValueError("%s %s: %d %s" % (method, path, status, text.strip()))
        return json.loads(text)

    def execute(self, *statements, query="", timeout=30):
        answer = self.json("POST", "/db/execute" + query, list(statements), timeout)
        if "error" in answer:
            raise ValueError(answer["error"])
        for result in answer["results"]:
            if "error" in result:
                raise ValueError(result["error"])
        return answer["results"]

    def rows(self, sql, level="weak", timeout=30):
        answer = self.json("POST", "/db/query?level=" + level, [sql], timeout)
        if "error" in answer or "error" in answer["results"][0]:
            raise ValueError(str(answer))
        return answer["results"][0].get("values", [])

    def ready(self, query=""):
        try:
            return self.request("GET", "/readyz" + query, timeout=5)[0] == 200
        except (OSError, http.client.HTTPException):
            return False

    def wait_ready(self, seconds=30):
        def condition():
            if not self.alive():
                raise AssertionError("%s exited with %s:\n%s" % (self.id, self.process.returncode, self.log()[-3000:]))
            return self.ready()
        wait_for(condition, self.id + " ready", seconds)
        return self

    def status(self, key=""):
        return self.json("GET", "/status" + ("?key=" + key if key else ""))

    def state(self):
        return self.status()["store"]["raft"]["state"]

    def applied(self):
        return self.status()["store"]["raft"]["applied_index"]

    def leader(self):
        """Node id of the leader as this node knows it, or ''."""
        return self.status()["store"]["leader"]["node_id"]


class Cluster:
    """n nodes; the first founds the cluster, the others join it."""

    def __init__(self, n=3, args=(), base=None):
        self.base = base or tempfile.mkdtemp(prefix="rq-cluster-", dir=os.environ.get("RQ_TEST_DIR"))
        self.nodes = [Node(self.base, "n%d" % (i + 1), args) for i in range(n)]

    def __enter__(self):
        return self

    def __exit__(self, kind, error, trace):
        for node in self.nodes:
            if node.alive():
                with contextlib.suppress(OSError):
                    node.process.send_signal(signal.SIGCONT)
                node.kill()
        if kind is None or not os.environ.get("RQ_KEEP"):
            if kind is not None:
                for node in self.nodes:
                    print("---- log of %s (tail)\n%s" % (node.id, node.log()[-4000:] if os.path.exists(node.log_path) else ""))
            shutil.rmtree(self.base, ignore_errors=True)
        else:
            print("kept", self.base)

    def start(self):
        self.nodes[0].start().wait_ready()
        for node in self.nodes[1:]:
            node.start(join=[self.nodes[0].raft_addr]).wait_ready()
        self.wait_voters(len(self.nodes))
        return self

    def wait_voters(self, n, seconds=30):
        wait_for(lambda: sum(1 for x in self.any().json("GET", "/nodes?ver=2")["nodes"] if x["reachable"]) == n,
                 "%d reachable voters" % n, seconds)

    def any(self):
        return next(n for n in self.nodes if n.alive())

    def live(self):
        return [n for n in self.nodes if n.alive()]

    def by_id(self, node_id):
        return next(n for n in self.nodes if n.id == node_id)

    def leader(self, seconds=30):
        def find():
            for node in self.live():
                if node.state() == "Leader":
                    return node
        return wait_for(find, "a leader", seconds)

    def followers(self):
        leader = self.leader()
        return [n for n in self.live() if n is not leader]

    def wait_equal_index(self, seconds=60):
        def same():
            indexes = {n.applied() for n in self.live()}
            commits = {n.status()["store"]["raft"]["commit_index"] for n in self.live()}
            return len(indexes) == 1 and indexes == commits
        wait_for(same, "all nodes at one index", seconds)


def dump(node):
    """The database of a node as SQL text, read from its files as another program would."""
    with contextlib.closing(sqlite3.connect("file:%s/db.sqlite?mode=ro" % node.dir, uri=True)) as db:
        return "\n".join(db.iterdump())


def pages(node):
    """The database file of a stopped or idle node with its WAL folded in, change counters masked."""
    with tempfile.TemporaryDirectory() as scratch:
        copy = os.path.join(scratch, "db.sqlite")
        for suffix in ("", "-wal"):
            if os.path.exists(node.dir + "/db.sqlite" + suffix):
                shutil.copy(node.dir + "/db.sqlite" + suffix, copy + suffix)
        with contextlib.closing(sqlite3.connect(copy)) as db:
            db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
        with open(copy, "rb") as f:
            data = bytearray(f.read())
    data[24:28] = data[92:96] = b"\0\0\0\0"
    return bytes(data)


def assert_equal_databases(cluster):
    cluster.wait_equal_index()
    nodes = cluster.live()
    first_dump = dump(nodes[0])
    for node in nodes[1:]:
        assert dump(node) == first_dump, "dump of %s differs from %s" % (node.id, nodes[0].id)
    first = pages(nodes[0])
    for node in nodes[1:]:
        other = pages(node)
        assert len(first) == len(other), "file sizes of %s and %s differ" % (nodes[0].id, node.id)
        for offset in range(0, len(first), 4096):
            assert first[offset:offset + 4096] == other[offset:offset + 4096], \
                "page %d of %s differs from %s" % (offset // 4096 + 1, node.id, nodes[0].id)


class Writers:
    """Clients that insert unique numbers as fast as they are answered, and remember what was acknowledged."""

    def __init__(self, nodes, count=4, table="t"):
        self.nodes, self.table = nodes, table
        self.acknowledged, self.unknown, self.first_after = set(), set(), {}
        self.lock, self.stopping = threading.Lock(), threading.Event()
        self.next = 0
        self.mark = None                 # when set: monotonic time after which the first success is noted
        self.first_success = None
        self.threads = [threading.Thread(target=self.run, args=(i,), daemon=True) for i in range(count)]

    def __enter__(self):
        for t in self.threads:
            t.start()
        return self

    def __exit__(self, *_):
        self.stopping.set()
        for t in self.threads:
            t.join(60)

    def set_mark(self):
        with self.lock:
            self.first_success, self.mark = None, time.monotonic()
        return self.mark

    def run(self, i):
        connection, target = None, None
        while not self.stopping.is_set():
            nodes = self.nodes()
            node = nodes[i % len(nodes)]
            with self.lock:
                self.next += 1
                value = self.next
            sent = time.monotonic()
            try:
                if connection is None or target is not node:
                    connection, target = http.client.HTTPConnection("127.0.0.1", node.http, timeout=60), node
                connection.request("POST", "/db/execute?timeout=10s", json.dumps([["INSERT INTO %s(v) VALUES(?)" % self.table, value]]),
                                   {"Content-Type": "application/json"})
                response = connection.getresponse()
                body = response.read()
                ok = response.status == 200 and b'"rows_affected":1' in body
            except (OSError, http.client.HTTPException):
                connection, ok = None, False
            now = time.monotonic()
            with self.lock:
                (self.acknowledged if ok else self.unknown).add(value)
                if ok and self.mark is not None and sent >= self.mark and self.first_success is None:
                    self.first_success = now
            if not ok:
                time.sleep(0.003)

    def check(self, rows):
        """rows: all values stored. Nothing acknowledged is missing, nothing is there twice or was never asked for."""
        values = [r[0] for r in rows]
        assert len(values) == len(set(values)), "rows stored twice: %s" % sorted(v for v in set(values) if values.count(v) > 1)[:10]
        missing = self.acknowledged - set(values)
        assert not missing, "%d acknowledged writes lost: %s" % (len(missing), sorted(missing)[:10])
        foreign = set(values) - self.acknowledged - self.unknown
        assert not foreign, "values that nobody wrote: %s" % sorted(foreign)[:10]
