#!/usr/bin/env python3
"""Backups from real nodes: what they hold, what they cost, who may have them, and what happens when something breaks."""
import contextlib
import gzip
import http.client
import json
import os
import random
import socket
import sqlite3
import sys
import tempfile
import threading
import time

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from harness import Cluster, assert_equal_databases, wait_for  # noqa: E402

MIB = 1 << 20
MEMORY_EXTRA = 64 * MIB      # whatever the size of the database


def fetch(node, query="", headers=None):
    """Status, headers and body of a backup; raises what http.client raises when it is cut off."""
    connection = http.client.HTTPConnection("127.0.0.1", node.http, timeout=120)
    with contextlib.closing(connection):
        connection.request("GET", "/db/backup" + query, headers=headers or {})
        response = connection.getresponse()
        return response.status, dict(response.getheaders()), response.read()


def rows_of(image, sql="SELECT count(*), sum(id) FROM t"):
    with tempfile.NamedTemporaryFile(suffix=".sqlite") as file:
        file.write(image)
        file.flush()
        with contextlib.closing(sqlite3.connect(file.name)) as db:
            assert db.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
            return db.execute(sql).fetchall()


def rows_of_text(text, sql="SELECT count(*), sum(id) FROM t"):
    with contextlib.closing(sqlite3.connect(":memory:")) as db:
        db.executescript(text.decode())
        return db.execute(sql).fetchall()


def staged(node):
    folder = node.dir + "/staging"
    return sorted(os.listdir(folder)) if os.path.isdir(folder) else []


def wal_salts(node):
    with open(node.dir + "/db.sqlite-wal", "rb") as f:
        return f.read(24)[16:]


class Memory:
    """Highest memory of a process's own within a block, above what it had at the beginning. The database file that a backup
    maps is the kernel's page cache and not counted."""

    def __init__(self, node):
        self.pid = node.process.pid

    def own(self):
        with open("/proc/%d/status" % self.pid) as f:
            return next(int(line.split()[1]) * 1024 for line in f if line.startswith("RssAnon:"))

    def watch(self):
        while not self.over.wait(0.005):
            self.peak = max(self.peak, self.own())

    def __enter__(self):
        self.before = self.peak = self.own()
        self.over = threading.Event()
        self.thread = threading.Thread(target=self.watch, daemon=True)
        self.thread.start()
        return self

    def __exit__(self, *_):
        self.over.set()
        self.thread.join()
        self.extra = max(self.peak, self.own()) - self.before


def fill(node, mib):
    node.execute("CREATE TABLE t(id INTEGER PRIMARY KEY, v)")
    for _ in range(mib // 10):
        node.execute("WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i+1 FROM n WHERE i<10240) INSERT INTO t(v) SELECT randomblob(1000) FROM n",
                     timeout=120)


def test_large_backups_of_all_forms_need_little_memory():
    with Cluster(1) as c:
        node = c.start().nodes[0]
        fill(node, 100)
        wanted = [tuple(node.rows("SELECT count(*), sum(id) FROM t")[0])]
        for query, unpack in (("", bytes), ("?fmt=delete", bytes), ("?vacuum", bytes), ("?compress", gzip.decompress), ("?fmt=sql", None)):
            with Memory(node) as memory:
                status, headers, body = fetch(node, query)
            assert status == 200 and "X-Rqlite-Served-By" not in headers, (query, status, body[:200])
            assert headers.get("Transfer-Encoding") == "chunked", headers
            assert memory.extra < MEMORY_EXTRA, "%s took %d MiB" % (query, memory.extra // MIB)
            assert (rows_of(unpack(body)) if unpack else rows_of_text(body)) == wanted, query
            wait_for(lambda: staged(node) == [], "no copy left")


def test_backup_is_one_state_while_writes_go_on():
    """Two tables always hold the same sum; a dump that reads one after the other would see them differ."""
    with Cluster(1) as c:
        node = c.start().nodes[0]
        node.execute("CREATE TABLE a(n)", "CREATE TABLE b(n)", "INSERT INTO a VALUES(0)", "INSERT INTO b VALUES(0)", "CREATE TABLE big(v)",
                     "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i+1 FROM n WHERE i<3000) INSERT INTO big SELECT randomblob(1000) FROM n")
        stop = threading.Event()

        def write():
            while not stop.is_set():
                node.json("POST", "/db/execute?transaction", ["UPDATE a SET n=n+1", "UPDATE b SET n=n+1"])
        writer = threading.Thread(target=write)
        writer.start()
        try:
            for query in ("?fmt=sql", "", "?vacuum") * 3:
                body = fetch(node, query)[2]
                sql = "SELECT a.n = b.n FROM a, b"
                assert (rows_of_text(body, sql) if "sql" in query else rows_of(body, sql)) == [(1,)], query
        finally:
            stop.set()
            writer.join()


def test_a_client_that_goes_away_leaves_nothing_behind():
    with Cluster(1) as c:
        node = c.start().nodes[0]
        fill(node, 30)
        for query in ("?vacuum", "", "?fmt=sql") * 7:      # more than there are places
            with contextlib.closing(socket.create_connection(("127.0.0.1", node.http))) as s:
                s.sendall(b"GET /db/backup%s HTTP/1.1\r\nHost: x\r\n\r\n" % query.encode())
                assert s.recv(1000).startswith(b"HTTP/1.1 200"), query
        wait_for(lambda: staged(node) == [], "no copy left")
        assert rows_of(fetch(node)[2]) == [tuple(node.rows("SELECT count(*), sum(id) FROM t")[0])]


def test_a_failing_backup_is_cut_off():
    with Cluster(1) as c:
        node = c.start().nodes[0]
        fill(node, 20)
        node.execute("CREATE TABLE u(v)")
        salts = wal_salts(node)

        def begun_anew():                        # SQLite's WAL: from then on the file is what is read
            node.request("POST", "/snapshot")
            node.execute("INSERT INTO u VALUES(1)")
            return wal_salts(node) != salts
        wait_for(begun_anew, "a new WAL", pause=0.1)
        node.stop()
        with open(node.dir + "/db.sqlite", "r+b") as f:
            f.seek(10 * MIB)
            f.write(os.urandom(MIB))
        node.start().wait_ready()
        try:
            status, _, body = fetch(node, "?fmt=sql")
        except (OSError, http.client.HTTPException):
            status = None
        assert status is None, "a damaged database was backed up: %s, %d bytes" % (status, len(body))
        # Damage that shows at once is an answer like any other.
        node.stop()
        with open(node.dir + "/db.sqlite", "r+b") as f:
            f.seek(4096)
            f.write(os.urandom(4096))
        node.start().wait_ready()
        status, _, body = fetch(node, "?fmt=sql")
        assert status == 500 and b"malformed" in body, (status, body)


def test_followers_forward_redirect_or_serve_their_own():
    with Cluster(3) as c:
        c.start()
        leader, follower = c.leader(), c.followers()[0]
        fill(leader, 20)
        c.wait_equal_index()
        wanted = rows_of(fetch(leader)[2])
        for query in ("", "?compress", "?vacuum&compress", "?fmt=delete", "?fmt=sql", "?noleader", "?fmt=sql&noleader"):
            began = time.monotonic()
            with Memory(follower) as memory:
                status, headers, body = fetch(follower, query)
            assert status == 200, (query, body)
            assert time.monotonic() - began < 20, "%s took %.1f s" % (query, time.monotonic() - began)
            assert memory.extra < MEMORY_EXTRA, "%s took %d MiB" % (query, memory.extra // MIB)
            if "compress" in query:
                body = gzip.decompress(body)                 # nothing is glued behind it
            assert (rows_of_text(body) if "sql" in query else rows_of(body)) == wanted, query
            follower.execute("UPDATE t SET v=1 WHERE id=1")  # forwarding goes on working
        status, headers, body = fetch(follower, "?redirect&fmt=sql")
        assert (status, headers["Location"]) == (301, "http://%s/db/backup?redirect&fmt=sql" % leader.http_addr)
        # Whoever stops reading in the middle ends the leader's part too.
        for _ in range(20):
            with contextlib.closing(socket.create_connection(("127.0.0.1", follower.http))) as s:
                s.sendall(b"GET /db/backup?vacuum HTTP/1.1\r\nHost: x\r\n\r\n")
                s.recv(1000)
        wait_for(lambda: staged(leader) == [], "no copy left on the leader")
        assert fetch(follower)[0] == 200
        # Without a leader: 503, but its own copy.
        for node in c.nodes:
            if node is not follower:
                node.kill()
        wait_for(lambda: fetch(follower)[0] == 503, "no leader")
        assert fetch(follower)[2] == b"leader not found\n"
        assert rows_of(fetch(follower, "?noleader")[2]) == wanted


def test_a_refused_backup_sends_no_data():
    """The follower lets the user in, the leader doesn't: a refusal, and nothing of the database behind it."""
    with Cluster(2) as c:
        for node, permissions in zip(c.nodes, (["status"], ["backup", "load"])):
            path = os.path.join(c.base, node.id + ".auth.json")
            with open(path, "w") as f:
                json.dump([{"username": "u", "password": "p", "perms": permissions}, {"username": "*", "perms": ["status", "ready", "join", "query", "execute"]}], f)
            node.args += ["-auth", path]
        c.start()
        leader, follower = c.leader(), c.followers()[0]
        fill(leader, 10)
        c.wait_equal_index()
        basic = {"Authorization": "Basic dTpw"}
        for _ in range(3):
            status, _, body = fetch(follower, headers=basic)
            assert (status, body) == (401, b"remote backup not authorized\n"), (status, body[:100])
            assert follower.rows("SELECT count(*) FROM t") == [[10240]]
            status, body = follower.request("POST", "/db/load", "CREATE TABLE x(a)", headers=basic)
            assert (status, body) == (401, "remote load not authorized\n"), (status, body)
        status, _, body = fetch(follower)
        assert (status, body) == (401, b"")
        status, _, body = fetch(follower, "?noleader", headers=basic)
        assert status == 200 and rows_of(body, "SELECT count(*) FROM t") == [(10240,)]


def send(node, path, body, headers=None):
    """Status and text of a POST; the body may be bytes or a file."""
    connection = http.client.HTTPConnection("127.0.0.1", node.http, timeout=120)
    with contextlib.closing(connection):
        connection.request("POST", path, body, headers or {})
        response = connection.getresponse()
        return response.status, response.read().decode()


def image(mib=1, mode="DELETE", version=0):
    """A database made by another program, with the table `loaded` and a version of its own."""
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "image")
        with contextlib.closing(sqlite3.connect(path)) as db:
            db.execute("PRAGMA journal_mode=" + mode)
            db.execute("CREATE TABLE loaded(id INTEGER PRIMARY KEY, v)")
            db.execute("WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i+1 FROM n WHERE i<?) INSERT INTO loaded SELECT i, randomblob(1000) FROM n",
                       (mib * 1024,))
            db.execute("CREATE TABLE version AS SELECT ? AS v", (version,))
            db.commit()
        with open(path, "rb") as f:
            return f.read()


def test_damaged_uploads_change_nothing_and_leave_nothing():
    with Cluster(1) as c:
        node = c.start().nodes[0]
        node.execute("CREATE TABLE t(a)", "INSERT INTO t VALUES(1)")
        good = image()
        inner = bytearray(good)
        inner[4096 * 100:4096 * 101] = os.urandom(4096)
        cases = [
            ("/db/load", good[:-4096], None, 500, "error swapping databases: invalid SQLite data: the file has %d bytes" % (len(good) - 4096)),
            ("/db/load", good[:100_000], None, 500, "error swapping databases: invalid SQLite data: the file has 100000 bytes"),
            ("/db/load", bytes(inner), None, 500, "error swapping databases: invalid SQLite data: "),
            ("/db/load", good[:20], None, 500, "error swapping databases: invalid SQLite data: the file has only 20 bytes"),
            ("/db/load", gzip.compress(good)[:-10], "gzip", 400, "invalid gzip data"),
            ("/db/load", good, "gzip", 400, "invalid gzip data"),
            ("/boot", good[:-4096], None, 400, "invalid SQLite data: the file has"),
            ("/boot", bytes(inner), None, 400, "invalid SQLite data: "),
            ("/boot", b"", None, 503, "EOF"),
            ("/boot", b"x" * 5 * MIB, None, 400, "invalid SQLite data"),
            ("/db/load", b"-- too long\n" + b" " * (129 * MIB), None, 413, "SQL text is longer than 128 MiB"),
        ]
        for path, body, encoding, status, text in cases:
            got = send(node, path, body, {"Content-Encoding": encoding} if encoding else None)
            assert got[0] == status and got[1].startswith(text), (path, len(body), got)
            wait_for(lambda: staged(node) == [], "nothing staged")
            assert node.rows("SELECT a FROM t") == [[1]]


def test_uploads_that_are_broken_off_leave_nothing():
    with Cluster(1) as c:
        node = c.start().nodes[0]
        good = image(3)
        for _ in range(12):                  # more than there are places
            with contextlib.closing(socket.create_connection(("127.0.0.1", node.http))) as s:
                s.sendall(b"POST /db/load HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % len(good) + good[:2 * MIB])
                wait_for(lambda: len(staged(node)) == 1, "an upload under way")
                wait_for(lambda: node.status("store.load")[0]["bytes"] > MIB, "shown in the status")
            wait_for(lambda: staged(node) == [], "nothing staged")
        # Killed in the middle: removed at the next start.
        with contextlib.closing(socket.create_connection(("127.0.0.1", node.http))) as s:
            s.sendall(b"POST /db/load HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % len(good) + good[:2 * MIB])
            wait_for(lambda: len(staged(node)) == 1, "an upload under way")
            node.kill()
        assert len(staged(node)) == 1
        node.start().wait_ready()
        assert staged(node) == []


def test_dumps_of_the_shell_and_our_own_load():
    """Also with a virtual table, on all nodes alike, through a follower; the settings of the text end with it."""
    with Cluster(3, args=["-fk"]) as c:
        c.start()
        leader, follower = c.leader(), c.followers()[0]
        shell = ("PRAGMA foreign_keys=OFF;\nBEGIN TRANSACTION;\nPRAGMA writable_schema=ON;\n"
                 "INSERT INTO sqlite_schema(type,name,tbl_name,rootpage,sql)VALUES('table','f','f',0,'CREATE VIRTUAL TABLE f USING fts4(x)');\n"
                 "CREATE TABLE IF NOT EXISTS 'f_content'(docid INTEGER PRIMARY KEY, 'c0x');\nINSERT INTO f_content VALUES(1,'one two');\n"
                 "CREATE TABLE IF NOT EXISTS 'f_segments'(blockid INTEGER PRIMARY KEY, block BLOB);\n"
                 "CREATE TABLE IF NOT EXISTS 'f_segdir'(level INTEGER,idx INTEGER,start_block INTEGER,leaves_end_block INTEGER,end_block INTEGER,root BLOB,"
                 "PRIMARY KEY(level, idx));\nCREATE TABLE IF NOT EXISTS 'f_docsize'(docid INTEGER PRIMARY KEY, size BLOB);\n"
                 "CREATE TABLE IF NOT EXISTS 'f_stat'(id INTEGER PRIMARY KEY, value BLOB);\n"
                 "CREATE TABLE p(id INTEGER PRIMARY KEY);\nCREATE TABLE k(p REFERENCES p(id));\nINSERT INTO k VALUES(5);\n"
                 "PRAGMA writable_schema=OFF;\nCOMMIT;\n")
        status, text = send(follower, "/db/load", shell.encode())
        assert status == 200 and "error" not in text, text
        leader.execute("INSERT INTO f(x) VALUES('three four')", "CREATE TABLE ai(id INTEGER PRIMARY KEY AUTOINCREMENT, v)", "INSERT INTO ai(v) VALUES('x')")
        answer = follower.json("POST", "/db/execute", ["INSERT INTO k VALUES(6)"])
        assert "FOREIGN KEY" in answer["results"][0].get("error", ""), answer
        c.wait_equal_index()
        for node in c.nodes:
            assert node.rows("SELECT x FROM f WHERE f MATCH 'three'", level="none") == [["three four"]], node.id
        text = fetch(follower, "?fmt=sql")[2]
        with Cluster(1) as other:
            copy = other.start().nodes[0]
            for encoded, headers in ((text, {}),):
                status, answer = send(copy, "/db/load", encoded, headers)
                assert status == 200 and "error" not in answer, answer
            assert fetch(copy, "?fmt=sql")[2] == text
            copy.execute("DROP TABLE f", "DROP TABLE ai", "DROP TABLE k", "DROP TABLE p")
            status, answer = send(copy, "/db/load", gzip.compress(text), {"Content-Encoding": "gzip"})
            assert status == 200 and "error" not in answer, answer
            assert fetch(copy, "?fmt=sql")[2] == text


def test_an_image_replaces_the_database_everywhere():
    """Sent to a follower, 100 MB, old data served until then, equal pages on all nodes, also after kill -9."""
    with Cluster(3) as c:
        c.start()
        leader, follower = c.leader(), c.followers()[0]
        leader.execute("CREATE TABLE old(v)", "INSERT INTO old VALUES(1)")
        body = image(100)
        memories = [Memory(node) for node in c.nodes]
        for memory in memories:
            memory.__enter__()
        stop, seen = threading.Event(), set()

        def read():
            while not stop.is_set():
                for sql in ("SELECT v FROM old", "SELECT max(id) FROM loaded"):      # a scan would map the file, and count as memory
                    answer = leader.json("POST", "/db/query?level=linearizable", [sql])["results"][0]
                    seen.add(answer.get("error") or str(answer["values"]))
        reader = threading.Thread(target=read)
        reader.start()
        try:
            with tempfile.TemporaryFile() as file:
                file.write(body)
                file.seek(0)
                status, text = send(follower, "/db/load", file, {"Content-Length": str(len(body))})
        finally:
            stop.set()
            reader.join()
        assert (status, text) == (200, '{"results":[]}'), (status, text)
        assert seen <= {"[[1]]", "[[102400]]", "no such table: old", "no such table: loaded"}, seen
        for memory in memories:
            memory.__exit__()
            assert memory.extra < MEMORY_EXTRA, "a load took %d MiB" % (memory.extra // MIB)
        assert leader.rows("SELECT count(*), sum(id) FROM loaded") == [[102400, 102400 * 102401 // 2]]
        leader.execute("INSERT INTO loaded(v) VALUES('later')")
        c.wait_equal_index()
        for node in c.nodes:
            assert node.rows("SELECT count(*) FROM loaded", level="none") == [[102401]], node.id
            wait_for(lambda: [name for name in staged(node) if name.startswith(("upload-", "backup-"))] == [], "no unfinished upload")
        for node in c.nodes:
            node.kill()
        for node in c.nodes:
            node.start()
        for node in c.nodes:
            node.wait_ready()
        c.leader()
        assert_equal_databases(c)
        assert c.nodes[0].rows("SELECT count(*) FROM loaded") == [[102401]]


def test_images_come_back_as_they_went():
    """Backup of one system -> load of the next -> the same dump; WAL and DELETE mode, gzip, other page sizes."""
    with Cluster(1) as c, Cluster(1) as d:
        source, target = c.start().nodes[0], d.start().nodes[0]
        source.execute("CREATE TABLE t(id INTEGER PRIMARY KEY, v)", "INSERT INTO t(v) VALUES('one'),(x'00ff'),(9e999)",
                       "CREATE VIRTUAL TABLE f USING fts5(x)", "INSERT INTO f VALUES('hello world')")
        wanted = fetch(source, "?fmt=sql")[2]
        for query, headers in (("", {}), ("?fmt=delete", {}), ("?vacuum", {}), ("?compress", {"Content-Encoding": "gzip"})):
            target.json("POST", "/db/execute", ["CREATE TABLE other(v)"])
            assert send(target, "/db/load", fetch(source, query)[2], headers) == (200, '{"results":[]}')
            assert fetch(target, "?fmt=sql")[2] == wanted, query
        body = image(2, "WAL")
        assert send(target, "/boot", body) == (200, "")
        assert target.rows("SELECT count(*) FROM loaded") == [[2048]]
        target.kill()                        # durable before it was answered
        target.start().wait_ready()
        assert target.rows("SELECT count(*) FROM loaded") == [[2048]]
        assert len(fetch(target)[2]) == len(body)


def test_boot_is_for_a_lone_leader():
    with Cluster(2) as c:
        c.start()
        leader, follower = c.leader(), c.followers()[0]
        body = image(5)
        assert send(leader, "/boot", body) == (503, "not single-node\n")
        assert send(follower, "/boot", body) == (503, "not leader\n")
        assert send(follower, "/db/load?redirect", body)[0] == 301
        leader.kill()
        wait_for(lambda: send(follower, "/db/load", body) == (503, "leader not found\n"), "no leader")
        wait_for(lambda: staged(follower) == [], "nothing staged")


def test_a_load_is_whole_or_not_at_all_whoever_dies():
    """Kills the node that got the image, the leader, or another one at any moment of a load."""
    random_delay = random.Random(4)
    with Cluster(3) as c:
        c.start()
        c.leader().execute("CREATE TABLE version AS SELECT 0 AS v")
        present = 0
        for version in range(1, 7):
            body = image(10, version=version)
            receiver = c.nodes[version % 3]
            victim = c.nodes[version // 2 % 3]
            answer = []

            def load():
                with contextlib.suppress(OSError, http.client.HTTPException):
                    answer.append(send(receiver, "/db/load", body))
            loader = threading.Thread(target=load)
            loader.start()
            time.sleep(random_delay.uniform(0, 0.4))
            victim.kill()
            victim.start().wait_ready(60)
            loader.join()
            acknowledged = bool(answer) and answer[0] == (200, '{"results":[]}')
            wait_for(lambda: c.leader().rows("SELECT v FROM version"), "rows")
            c.wait_equal_index()
            values = {str(node.rows("SELECT v FROM version", level="none")) for node in c.nodes}
            assert len(values) == 1, values
            value = json.loads(values.pop())[0][0]
            assert value in (present, version) and (value == version or not acknowledged), (value, present, version, answer)
            present = value
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
    print("backup: %d passed, %d failed" % (len(tests) - failed, failed))
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
