#!/usr/bin/env python3
"""Who is let in, and by what: credentials on every endpoint, TLS on both ports, reload, hostile traffic.

Certificates are made with the openssl command. usage: security_test.py [name...]
"""
import base64
import contextlib
import http.client
import json
import os
import random
import re
import resource
import shutil
import signal
import socket
import ssl
import subprocess
import sys
import tempfile
import threading
import time
import warnings

from harness import BINARY, Node, free_port, wait_for

PERMISSIONS = ["execute", "query", "backup", "load", "snapshot", "remove", "leader-ops", "status", "ready", "ui", "join", "join-read-only", "all"]

# method, path, body, permissions that are needed together; none of them changes what the others see
ENDPOINTS = [
    ("POST", "/db/execute", '["DELETE FROM t"]', ["execute"]),
    ("POST", "/db/execute?queue", '["DELETE FROM t"]', ["execute"]),
    ("GET", "/db/query?q=SELECT%201", None, ["query"]),
    ("POST", "/db/query?level=strong", '["SELECT 1"]', ["query"]),
    ("POST", "/db/query?level=none", '["SELECT 1"]', ["query"]),
    ("POST", "/db/request", '["SELECT 1"]', ["query", "execute"]),
    ("POST", "/db/request", '["DELETE FROM t"]', ["query", "execute"]),
    ("POST", "/db/sql", '["SELECT 1"]', ["query"]),
    ("GET", "/db/backup", None, ["backup"]),
    ("GET", "/db/backup?fmt=sql", None, ["backup"]),
    ("POST", "/db/load", "SELECT 1;", ["load"]),
    ("POST", "/boot", "not a database", ["load"]),
    ("POST", "/snapshot", None, ["snapshot"]),
    ("POST", "/reap", None, ["snapshot"]),
    ("DELETE", "/remove", '{"id":"nobody"}', ["remove"]),
    ("GET", "/status", None, ["status"]),
    ("GET", "/nodes", None, ["status"]),
    ("GET", "/licenses", None, ["status"]),
    ("GET", "/metrics", None, ["status"]),
    ("GET", "/debug/vars", None, ["status"]),
    ("GET", "/debug/pprof/cmdline", None, ["status"]),
    ("GET", "/leader", None, ["leader-ops"]),
    ("POST", "/leader", '{"id":"nobody"}', ["leader-ops"]),
    ("GET", "/readyz", None, ["ready"]),
    ("GET", "/console/", None, ["ui"]),
]


class Authority:
    """A CA and what it signs, in a folder of its own."""

    def __init__(self, folder, name):
        self.folder = os.path.join(folder, name)
        os.makedirs(self.folder)
        self.ca = self.path("ca.pem")
        self.openssl("req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-keyout", self.path("ca.key"),
                     "-out", self.ca, "-days", "30", "-subj", "/CN=" + name)
        self.made = 0

    def path(self, name):
        return os.path.join(self.folder, name)

    def openssl(self, *args):
        subprocess.run(["openssl", *args], check=True, capture_output=True)

    def issue(self, name, cn="localhost", san="DNS:localhost,IP:127.0.0.1", expired=False):
        """(certificate, key): paths."""
        self.made += 1
        cert, key, request, extensions = (self.path(name + s) for s in (".pem", ".key", ".csr", ".ext"))
        self.openssl("req", "-new", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-keyout", key, "-out", request, "-subj", "/CN=" + cn)
        with open(extensions, "w") as f:
            f.write("subjectAltName=%s\n" % san if san else "basicConstraints=CA:FALSE\n")
        # An old one: valid for a day that is over.
        dates = ["-days", "30"]
        command = ["x509", "-req", "-in", request, "-CA", self.ca, "-CAkey", self.path("ca.key"), "-set_serial", str(self.made), "-out", cert, "-extfile", extensions]
        if expired:
            dates = ["-days", "-1"]
        self.openssl(*command, *dates)
        return cert, key


class SecureNode(Node):
    """A node that is asked with TLS and credentials."""
    ca, client, user = None, None, None

    def context(self):
        context = ssl.create_default_context(cafile=self.ca)
        if self.client:
            context.load_cert_chain(*self.client)
        return context

    def connect(self, timeout=30):
        if self.ca:
            return http.client.HTTPSConnection("127.0.0.1", self.http, timeout=timeout, context=self.context())
        return http.client.HTTPConnection("127.0.0.1", self.http, timeout=timeout)

    def request(self, method, path, body=None, timeout=30, headers=None):
        connection = self.connect(timeout)
        try:
            h = {"Content-Type": "application/json"} if body is not None else {}
            h.update(basic(*self.user) if self.user else {})
            h.update(headers or {})
            connection.request(method, path, json.dumps(body) if isinstance(body, (list, dict)) else body, h)
            response = connection.getresponse()
            return response.status, response.read().decode("utf-8", "replace")
        finally:
            connection.close()


def basic(user, password):
    return {"Authorization": "Basic " + base64.b64encode(("%s:%s" % (user, password)).encode()).decode()}


@contextlib.contextmanager
def folder():
    base = tempfile.mkdtemp(prefix="rq-security-", dir=os.environ.get("RQ_TEST_DIR"))
    nodes = []
    try:
        yield base, nodes
    except BaseException:
        for node in nodes:
            if os.path.exists(node.log_path):
                print("---- log of %s (tail)\n%s" % (node.id, node.log()[-3000:]))
        raise
    finally:
        for node in nodes:
            node.kill()
        shutil.rmtree(base, ignore_errors=True)


def make(base, nodes, node_id, args=(), user=None, ca=None, client=None):
    node = SecureNode(base, node_id, args)
    node.user, node.ca, node.client = user, ca, client
    nodes.append(node)
    return node


def write_users(path, users):
    with open(path + ".new", "w") as f:
        json.dump(users, f)
    os.replace(path + ".new", path)
    return path


def user(name, *perms, **members):
    return dict({"username": name, "password": "pw-" + name, "perms": list(perms)}, **members)


# ---- credentials

ADMIN = ("admin", "pw-admin")


def test_every_endpoint_with_every_permission():
    """endpoint x permission x {none, wrong, right}, at the leader and through a follower."""
    with folder() as (base, nodes):
        users = [user("admin", "all"), user("nothing"), user("both", "query", "execute")] + [user("u-" + p, p) for p in PERMISSIONS]
        auth = write_users(os.path.join(base, "auth.json"), users)
        leader = make(base, nodes, "n1", ["-auth", auth], ADMIN).start().wait_ready()
        follower = make(base, nodes, "n2", ["-auth", auth, "-join-as", "admin"], ADMIN).start(join=[leader.raft_addr]).wait_ready()
        leader.execute("CREATE TABLE t(v)")
        asked = 0
        for node in (leader, follower):
            connection = node.connect()
            for name, perms in [("nothing", []), ("both", ["query", "execute"])] + [("u-" + p, [p]) for p in PERMISSIONS]:
                for method, path, body, needed in ENDPOINTS:
                    for password in (None, "wrong", "pw-" + name):
                        may = password == "pw-" + name and ("all" in perms or set(needed) <= set(perms))
                        headers = basic(name, password) if password else {}
                        if body is not None:
                            headers["Content-Type"] = "application/json"
                        connection.request(method, path, body, headers)
                        response = connection.getresponse()
                        text = response.read()
                        asked += 1
                        what = "%s %s as %s/%s at %s: %d %r" % (method, path, name, password, node.id, response.status, text[:80])
                        assert (response.status != 401) == may, what
                        assert may or text == b"", what
                        assert response.getheader("WWW-Authenticate") == 'Basic realm="rqlite"', what
            connection.close()
        print("     %d requests" % asked)
        assert leader.state() == "Leader" and len(leader.json("GET", "/nodes?ver=2")["nodes"]) == 2


def test_everybody_may_what_the_star_may():
    with folder() as (base, nodes):
        auth = write_users(os.path.join(base, "auth.json"), [{"username": "*", "perms": ["ready", "query"]}, user("admin", "all"), {"username": "v"}])
        node = make(base, nodes, "n1", ["-auth", auth]).start().wait_ready()
        for headers in ({}, basic("admin", "wrong"), basic("nobody", "x"), {"Authorization": "Bearer x"}, {"Authorization": "Basic !!"}):
            assert node.request("GET", "/db/query?q=SELECT%201", headers=headers)[0] == 200
            assert node.request("GET", "/status", headers=headers)[0] == 401
        for headers in (basic("v", "pw-admin"), basic("v", ""), basic("", ""), basic("*", "")):
            assert node.request("GET", "/status", headers=headers)[0] == 401, headers
        assert node.request("GET", "/status", headers=basic(*ADMIN))[0] == 200


def test_the_leader_checks_again():
    """A follower that would let everybody in doesn't help."""
    with folder() as (base, nodes):
        strict = write_users(os.path.join(base, "strict.json"), [user("admin", "all"), user("reader", "query")])
        lax = write_users(os.path.join(base, "lax.json"), [user("admin", "all"), user("reader", "all")])
        leader = make(base, nodes, "n1", ["-auth", strict], ADMIN).start().wait_ready()
        follower = make(base, nodes, "n2", ["-auth", lax, "-join-as", "admin"], ADMIN).start(join=[leader.raft_addr]).wait_ready()
        follower.user = ("reader", "pw-reader")
        for method, path, body, text in [
                ("POST", "/db/execute", '["CREATE TABLE no(v)"]', "remote Execute not authorized"),
                ("POST", "/db/request", '["CREATE TABLE no(v)"]', "remote Request not authorized"),
                ("GET", "/db/backup", None, "remote backup not authorized"),
                ("DELETE", "/remove", '{"id":"n1"}', "remote remove node not authorized"),
                ("POST", "/leader", None, "remote stepdown not authorized"),
                ("POST", "/db/load", "CREATE TABLE no(v);", "remote load not authorized")]:
            status, answer = follower.request(method, path, body)
            assert (status, answer) == (401, text + "\n"), (method, path, status, answer)
        assert follower.request("POST", "/db/query", '["SELECT 1"]')[0] == 200
        follower.user = None
        assert follower.request("POST", "/db/query", '["SELECT 1"]')[0] == 401
        assert leader.rows("SELECT count(*) FROM sqlite_schema") == [[0]]


def test_queued_writes_keep_their_callers_credentials():
    with folder() as (base, nodes):
        auth = write_users(os.path.join(base, "auth.json"), [user("admin", "all"), user("writer", "execute")])
        leader = make(base, nodes, "n1", ["-auth", auth], ADMIN).start().wait_ready()
        follower = make(base, nodes, "n2", ["-auth", auth, "-join-as", "admin"], ADMIN).start(join=[leader.raft_addr]).wait_ready()
        leader.execute("CREATE TABLE t(v)")
        for who in ("writer", "admin"):
            status, text = follower.request("POST", "/db/execute?queue&wait&timeout=10s", '["INSERT INTO t VALUES(1)"]', headers=basic(who, "pw-" + who))
            assert status == 200, (status, text)
        assert leader.rows("SELECT count(*) FROM t") == [[2]]


def join_result(node, join):
    """Exit code of a node that tries once to join; None: it joined and runs."""
    node.start(join=join, extra=["-join-attempts", "1"])
    wait_for(lambda: not node.alive() or node.ready(), node.id + " in or out", 30)
    return node.process.poll()


def test_joining_needs_its_permission():
    with folder() as (base, nodes):
        users = [user("admin", "all"), user("voter", "join"), user("reader", "join-read-only"), user("replica", "join-read-replica"), user("other", "query"),
                 {"username": "*", "perms": ["ready"]}]
        auth = write_users(os.path.join(base, "auth.json"), users)
        first = make(base, nodes, "n1", ["-auth", auth], ADMIN).start().wait_ready()
        cases = [("voter", False, True), ("reader", False, False), ("replica", False, False), ("other", False, False), (None, False, False), ("stranger", False, False),
                 ("voter", True, False), ("reader", True, True), ("replica", True, True)]
        for number, (name, read_only, may) in enumerate(cases):
            args = ["-auth", auth] + (["-join-as", name] if name else []) + (["-raft-non-voter"] if read_only else [])
            node = make(base, nodes, "j%d" % number, args)
            code = join_result(node, [first.raft_addr])
            assert (code is None) == may, (name, read_only, code, node.log()[-500:])
            if may:
                first.request("DELETE", "/remove", {"id": node.id})
                node.kill()
            else:
                assert code == 1 and "unauthorized" in node.log(), node.log()[-500:]
                assert name is not None or "did you forget to set -join-as?" in node.log()


def test_a_member_that_moves_announces_itself_with_credentials():
    with folder() as (base, nodes):
        auth = write_users(os.path.join(base, "auth.json"), [user("admin", "all")])
        first = make(base, nodes, "n1", ["-auth", auth], ADMIN).start().wait_ready()
        second = make(base, nodes, "n2", ["-auth", auth, "-join-as", "admin"], ADMIN).start(join=[first.raft_addr]).wait_ready()
        assert second.stop() == 0
        second.raft = free_port()
        second.start().wait_ready()
        wait_for(lambda: second.raft_addr in [n["addr"] for n in first.json("GET", "/nodes?ver=2")["nodes"]], "the new address is known")


HASHES = {  # of "pw-NAME", cheap on purpose
    "bcrypt": "$2b$04$abcdefghijklmnopqrstuurTZKnsCpdhPMNWlRdPk3q0UABjRqRLq",
    "yescrypt": "$y$j75$abcdefgh$mQddVOWH/NY7Yor62Niw/iAaHv4mEadwdHYvA77Kgz7",
}


def test_password_hashes():
    with folder() as (base, nodes):
        hashed = [{"username": name, "password_hash": value, "perms": ["query", "execute", "load"]} for name, value in HASHES.items()]
        auth = write_users(os.path.join(base, "auth.json"), [user("admin", "all")] + hashed)
        leader = make(base, nodes, "n1", ["-auth", auth], ADMIN).start().wait_ready()
        follower = make(base, nodes, "n2", ["-auth", auth, "-join-as", "admin"], ADMIN).start(join=[leader.raft_addr]).wait_ready()
        for name in HASHES:
            for node in (leader, follower):
                for _ in range(3):
                    assert node.request("POST", "/db/query", '["SELECT 1"]', headers=basic(name, "wrong"))[0] == 401
                    assert node.request("POST", "/db/query", '["SELECT 1"]', headers=basic(name, HASHES[name]))[0] == 401
                    status, text = node.request("POST", "/db/query", '["SELECT 1"]', headers=basic(name, "pw-" + name))
                    assert status == 200 and '"values":[[1]]' in text, (status, text)
                assert node.request("GET", "/status", headers=basic(name, "pw-" + name))[0] == 401
        # A body that is streamed waits for the slow check.
        os.utime(auth)
        node = follower
        node.process.send_signal(signal.SIGHUP)
        wait_for(lambda: "reloaded credentials" in node.log(), "reloaded")
        assert node.request("POST", "/db/load", "CREATE TABLE loaded(v);", headers=basic("bcrypt", "wrong"))[0] == 401
        status, text = node.request("POST", "/db/load", "CREATE TABLE loaded(v);", headers=basic("bcrypt", "pw-bcrypt"))
        assert status == 200, (status, text)
        assert leader.rows("SELECT count(*) FROM loaded") == [[0]]


def test_credentials_are_reloaded():
    with folder() as (base, nodes):
        path = os.path.join(base, "auth.json")
        node = make(base, nodes, "n1", ["-auth", write_users(path, [user("admin", "all"), user("u", "query")])], ADMIN).start().wait_ready()
        ask = lambda: node.request("GET", "/db/query?q=SELECT%201", headers=basic("u", "pw-u"))[0]  # noqa: E731
        assert ask() == 200
        write_users(path, [user("admin", "all")])
        wait_for(lambda: ask() == 401, "the user is gone, without a signal", 10)
        with open(path, "w") as f:
            f.write("[{")
        node.process.send_signal(signal.SIGHUP)
        wait_for(lambda: "failed to reload credentials (unexpected EOF), keeping those loaded before" in node.log(), "it says so")
        assert ask() == 401 and node.request("GET", "/status")[0] == 200
        write_users(path, [user("admin", "all"), user("u", "query")])
        node.process.send_signal(signal.SIGHUP)
        wait_for(lambda: ask() == 200, "the user is back")


def test_what_is_wrong_with_the_file_is_said():
    with folder() as (base, nodes):
        for text, why in [("", "EOF"), ("[", "EOF"), ("x", "invalid character 'x' looking for beginning of value"),
                          ("[5]", "json: cannot unmarshal number into Go value of type auth.Credential")]:
            path = os.path.join(base, "auth.json")
            with open(path, "w") as f:
                f.write(text)
            done = subprocess.run([BINARY, "-auth", path, "-http-addr", "127.0.0.1:%d" % free_port(), "-raft-addr", "127.0.0.1:%d" % free_port(),
                                   os.path.join(base, "d")], capture_output=True, timeout=20, text=True)
            assert done.returncode == 1 and "failed to get credential store: " + why + "\n" in done.stderr, (text, done.stderr[-300:])


def test_http_clients_are_in_a_sandbox():
    """Neither files nor the schema's text nor what concerns this node alone, on any way to SQLite."""
    with folder() as (base, nodes):
        node = make(base, nodes, "n1").start().wait_ready()
        node.execute("CREATE TABLE t(v)", "CREATE INDEX i ON t(v)", "INSERT INTO t VALUES(1)")
        target = os.path.join(base, "out.db")
        statements = [
            "ATTACH DATABASE '%s' AS x" % target, "ATTACH '%s' AS x" % target, "DETACH main", "VACUUM INTO '%s'" % target, "VACUUM main INTO '%s'" % target,
            "SELECT load_extension('%s')" % target, "SELECT load_extension('x','y')", "PRAGMA writable_schema=ON", "PRAGMA writable_schema(1)",
            "PRAGMA main.writable_schema=RESET", "UPDATE sqlite_schema SET sql='x'", "DELETE FROM sqlite_schema", "INSERT INTO sqlite_master VALUES(1,2,3,4,5)",
            "PRAGMA temp_store_directory='%s'" % base, "PRAGMA journal_mode=DELETE", "PRAGMA journal_mode(OFF)", "PRAGMA main.journal_mode(OFF)",
            "PRAGMA locking_mode=EXCLUSIVE", "PRAGMA locking_mode(EXCLUSIVE)", "PRAGMA hard_heap_limit=1", "PRAGMA soft_heap_limit=1", "PRAGMA query_only=OFF",
            "PRAGMA query_only(0)", "PRAGMA wal_checkpoint(TRUNCATE)", "PRAGMA mmap_size(0)", "PRAGMA cache_size(-1)", "PRAGMA synchronous(3)",
            "SELECT * FROM sqlite_dbpage", "SELECT fts3_tokenizer('simple', x'0000000000000000')", "SELECT readfile('/etc/passwd')", "SELECT writefile('%s','x')" % target,
            "CREATE TEMP TABLE x(v)", "CREATE VIRTUAL TABLE x USING csv(filename='/etc/passwd')", "SELECT edit('x')",
            "CREATE VIRTUAL TABLE x USING sqlite_dbpage",
        ]
        before = sorted(os.listdir(base))
        for sql in statements:
            for form in (sql, "SELECT 1; " + sql, "/* */ " + sql):
                for path in ("/db/execute", "/db/request", "/db/query", "/db/query?level=none", "/db/query?level=strong", "/db/request?transaction"):
                    status, text = node.request("POST", path, [form])
                    assert status == 200, (path, form, status, text)
                    answer = json.loads(text)
                    failed = "error" in answer or all("error" in r for r in answer["results"])
                    # On a read connection a setting ends with its request; that it was taken is no harm if it is no file's.
                    assert failed, "%s on %s: %s" % (form, path, text)
        assert node.alive() and sorted(os.listdir(base)) == before
        assert node.rows("PRAGMA journal_mode") == [["wal"]] and node.rows("SELECT v FROM t") == [[1]]
        node.execute("INSERT INTO t VALUES(2)")
        # A reader can't write, however it says it.
        for sql in ["DELETE FROM t", "INSERT INTO t VALUES(3)", "CREATE TABLE u(v)", "DROP TABLE t", "WITH x AS (SELECT 1) DELETE FROM t", "VACUUM", "REINDEX", "ANALYZE",
                    "PRAGMA user_version=7", "SELECT 1; DELETE FROM t", "BEGIN; COMMIT; DELETE FROM t", "DELETE FROM t RETURNING v",
                    "CREATE TRIGGER x AFTER INSERT ON t BEGIN SELECT 1; END"]:
            for path in ("/db/query", "/db/query?level=none", "/db/query?level=strong", "/db/query?level=linearizable", "/db/query?transaction"):
                status, text = node.request("POST", path, [sql])
                assert status == 200 and "error" in text, (path, sql, text)
        node.request("POST", "/db/query?level=strong", ["BEGIN; DELETE FROM t; COMMIT"])     # only the last one is run
        assert node.rows("SELECT v FROM t ORDER BY v") == [[1], [2]] and node.rows("PRAGMA user_version") == [[0]]


# ---- TLS

def plain_error(action):
    try:
        return action(), None
    except (ssl.SSLError, OSError, http.client.HTTPException) as error:
        return None, "%s %s" % (type(error).__name__, error)


def test_https_with_client_certificates():
    """mode x {right, wrong CA, wrong name, expired, no certificate}"""
    with folder() as (base, nodes):
        ours, foreign = Authority(base, "ours"), Authority(base, "foreign")
        cert, key = ours.issue("server")
        clients = {"right": ours.issue("right", cn="client", san=None), "wrong name": ours.issue("other", cn="another", san=None),
                   "wrong CA": foreign.issue("right", cn="client", san=None), "expired": ours.issue("expired", cn="client", san=None, expired=True), "none": None}
        tls = ["-http-cert", cert, "-http-key", key]
        modes = {
            "tls": (tls, set(clients)),
            "verify client": (tls + ["-http-ca-cert", ours.ca, "-http-verify-client"], {"right", "wrong name"}),
            "common name": (tls + ["-http-ca-cert", ours.ca, "-http-verify-client", "-http-verify-common-name", "client"], {"right"}),
        }
        for mode, (args, let_in) in modes.items():
            node = make(base, nodes, "n-" + mode.replace(" ", "-"), args, ca=ours.ca, client=clients["right"]).start().wait_ready()
            for kind, client in clients.items():
                node.client = client
                answer, error = plain_error(lambda: node.request("GET", "/readyz", timeout=10))
                assert (answer is not None) == (kind in let_in), (mode, kind, answer, error)
            node.client = clients["right"]
            assert node.json("GET", "/status?key=http.tls")["client_auth"] == ("NoClientCert" if mode == "tls" else "RequireAndVerifyClientCert")
            assert node.json("GET", "/nodes?ver=2")["nodes"][0]["api_addr"].startswith("https://")
            # Clients check the server: a foreign CA, another name.
            node.ca = foreign.ca
            assert "CERTIFICATE_VERIFY_FAILED" in plain_error(lambda: node.request("GET", "/readyz"))[1]
            node.ca = ours.ca
            wait_for(lambda: mode != "common name" or 'client did not provide any valid certificate that matches CN "client"' in node.log(), "the log says why")
            # Plain HTTP is told so; old versions of TLS are refused.
            with socket.create_connection(("127.0.0.1", node.http)) as s:
                s.sendall(b"GET /readyz HTTP/1.1\r\nHost: x\r\n\r\n")
                assert b"400 Bad Request\r\n\r\nClient sent an HTTP request to an HTTPS server.\n" in s.makefile("rb").read()
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
            context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
            warnings.simplefilter("ignore", DeprecationWarning)
            context.minimum_version = context.maximum_version = ssl.TLSVersion.TLSv1_1
            with socket.create_connection(("127.0.0.1", node.http)) as s:
                assert plain_error(lambda: context.wrap_socket(s))[1] is not None
            assert node.stop() == 0


def test_nodes_with_certificates():
    """What the first node shows and wants x what the second one shows: joined, or refused for the right reason."""
    with folder() as (base, nodes):
        ours, foreign = Authority(base, "ours"), Authority(base, "foreign")
        certs = {"right": ours.issue("right", cn="node"), "wrong name": ours.issue("elsewhere", cn="other", san="DNS:elsewhere"), "wrong CA": foreign.issue("right", cn="node"),
                 "expired": ours.issue("expired", cn="node", expired=True)}

        def flags(kind, *more):
            return ["-node-cert", certs[kind][0], "-node-key", certs[kind][1], "-node-ca-cert", ours.ca, *more]
        unknown = "tls: failed to verify certificate: x509: certificate signed by unknown authority"
        strict = ("-node-verify-client", "-node-verify-common-name", "node")
        cases = [  # flags of the first, flags of the second, None (joins) or a part of the second one's log
            (flags("right"), flags("right"), None),
            (flags("wrong CA"), flags("right"), unknown),
            (flags("wrong name"), flags("right"), "x509: cannot validate certificate for 127.0.0.1 because it doesn't contain any IP SANs"),
            (flags("expired"), flags("right"), "x509: certificate has expired or is not yet valid: current time"),
            (flags("wrong CA", "-node-no-verify"), flags("expired", "-node-no-verify"), None),
            (flags("wrong name", "-node-verify-server-name", "elsewhere"), flags("wrong name", "-node-verify-server-name", "elsewhere"), None),
            (flags("right", "-node-verify-client"), flags("right", "-node-verify-client"), None),
            (flags("right", "-node-verify-client", "-node-no-verify"), flags("wrong CA"), "remote error: tls: unknown certificate authority"),
            (flags("right", "-node-verify-client", "-node-no-verify"), flags("expired"), "remote error: tls: expired certificate"),
            (flags("right", "-node-no-verify", *strict), flags("wrong name"), "remote error: tls: bad certificate"),
            (flags("right", *strict), flags("right", *strict), None),
            (flags("right"), [], "EOF"),
            ([], flags("right"), "connection reset by peer|EOF"),
        ]
        for number, (mine, theirs, why) in enumerate(cases):
            first = make(base, nodes, "a%d" % number, mine).start().wait_ready()
            second = make(base, nodes, "b%d" % number, theirs)
            code = join_result(second, [first.raft_addr])
            assert (code is None) == (why is None), (number, code, why, second.log()[-800:])
            assert why is None or re.search(why if "|" in why else re.escape(why), second.log()), (number, why, second.log()[-800:])
            if why is None:
                second.execute("CREATE TABLE t(v)", "INSERT INTO t VALUES(1)")       # through the leader
                wait_for(lambda: second.rows("SELECT v FROM t", level="none") == [[1]], "replicated")
                assert first.status("mux")["tls"] == "enabled"
            second.kill()
            first.kill()


def peer_serial(port, ca):
    context = ssl.create_default_context(cafile=ca)
    context.check_hostname = False
    with socket.create_connection(("127.0.0.1", port), timeout=10) as s, context.wrap_socket(s) as secure:
        return int(secure.getpeercert()["serialNumber"], 16)


def test_certificates_are_reloaded():
    with folder() as (base, nodes):
        ours = Authority(base, "ours")
        cert, key = ours.issue("server")
        serial = ours.made
        args = ["-http-cert", cert, "-http-key", key, "-node-cert", cert, "-node-key", key, "-node-ca-cert", ours.ca]
        node = make(base, nodes, "n1", args, ca=ours.ca).start().wait_ready()
        kept = node.connect()                              # goes on with the old one
        kept.request("GET", "/readyz")
        kept.getresponse().read()
        assert {peer_serial(node.http, ours.ca), peer_serial(node.raft, ours.ca)} == {serial}
        new_cert, new_key = ours.issue("next")
        os.replace(new_cert, cert)                         # half replaced
        assert {peer_serial(node.http, ours.ca), peer_serial(node.raft, ours.ca)} == {serial}
        wait_for(lambda: "failed to reload certificate (tls: private key does not match public key), returning prior cert" in node.log(), "it says so")
        os.replace(new_key, key)
        assert {peer_serial(node.http, ours.ca), peer_serial(node.raft, ours.ca)} == {serial + 1}
        assert "reloading certificate at %s and key at %s" % (cert, key) in node.log()
        os.remove(cert)
        assert peer_serial(node.http, ours.ca) == serial + 1
        third_cert, third_key = ours.issue("third")
        os.replace(third_cert, cert)
        os.replace(third_key, key)
        said = node.log().count("reloading certificate")
        node.process.send_signal(signal.SIGHUP)
        wait_for(lambda: node.log().count("reloading certificate") >= said + 2, "reloaded by the signal, before any handshake")
        assert {peer_serial(node.http, ours.ca), peer_serial(node.raft, ours.ca)} == {serial + 2}
        kept.request("GET", "/readyz")
        assert kept.getresponse().read().startswith(b"[+]node ok")


def test_a_cluster_with_everything():
    """Three nodes with mutual TLS and credentials: formed, failing over, rejoining."""
    with folder() as (base, nodes):
        ours = Authority(base, "ours")
        cert, key = ours.issue("node", cn="node")
        auth = write_users(os.path.join(base, "auth.json"), [user("admin", "all"), {"username": "*", "perms": ["ready"]}])
        args = ["-http-cert", cert, "-http-key", key, "-http-ca-cert", ours.ca, "-http-verify-client", "-node-cert", cert, "-node-key", key, "-node-ca-cert", ours.ca,
                "-node-verify-client", "-node-verify-common-name", "node", "-auth", auth, "-join-as", "admin", "-bootstrap-expect", "3"]
        three = [make(base, nodes, "n%d" % i, args, ADMIN, ours.ca, (cert, key)) for i in (1, 2, 3)]
        for node in three:
            node.start(join=[n.raft_addr for n in three])
        for node in three:
            node.wait_ready()
        three[1].execute("CREATE TABLE t(v)", "INSERT INTO t VALUES(1)")
        leader = next(n for n in three if n.state() == "Leader")
        leader.kill()
        others = [n for n in three if n is not leader]
        wait_for(lambda: others[0].execute("INSERT INTO t VALUES(2)"), "written without the old leader", 15)
        leader.start().wait_ready()
        wait_for(lambda: leader.rows("SELECT count(*) FROM t", level="none") == [[2]], "caught up")


# ---- hostile traffic

def resident(node):
    with open("/proc/%d/status" % node.process.pid) as f:
        return int(re.search(r"VmRSS:\s+(\d+) kB", f.read()).group(1)) * 1024


def noise(node, port, until, rng):
    """Random bytes, and bytes that begin well."""
    starts = [b"", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", b"POST /db/execute HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999999999999999\r\n\r\n",
              b"POST /db/execute HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nffffffffffffffff\r\n", b"GET / HTTP/1.1\r\n", b"\x00\x00\x10\x00"]
    while time.monotonic() < until:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=5) as s:
            s.settimeout(0.2)
            s.sendall(rng.choice(starts) + rng.randbytes(rng.choice([10, 1000, 100000])))
            s.recv(1000)


def header_bomb(node, until):
    while time.monotonic() < until:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", node.http), timeout=5) as s:
            s.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n")
            for i in range(200):
                s.sendall(b"X-%d: %s\r\n" % (i, b"a" * 16000))


def body_of_a_gigabyte(node, until, chunked, answers):
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", node.http), timeout=10) as s:
        s.sendall(b"POST /db/execute HTTP/1.1\r\nHost: x\r\n" + (b"Transfer-Encoding: chunked\r\n\r\n" if chunked else b"Content-Length: 1073741824\r\n\r\n"))
        piece = b"a" * (1 << 20)
        for _ in range(1024):
            if time.monotonic() > until:
                return
            try:
                s.sendall(b"100000\r\n" + piece + b"\r\n" if chunked else piece)
            except OSError:
                break
        answers.append(s.recv(100))


def handshakes(node, until):
    """Handshakes that are paid for and not used, or left in the middle."""
    context = ssl.create_default_context(cafile=node.ca)
    hello = ssl.MemoryBIO()
    half = context.wrap_bio(ssl.MemoryBIO(), hello, server_hostname="127.0.0.1")
    with contextlib.suppress(ssl.SSLWantReadError):
        half.do_handshake()
    client_hello = hello.read()
    while time.monotonic() < until:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", node.http), timeout=5) as s:
            s.sendall(client_hello)
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", node.http), timeout=5) as s:
            context.wrap_socket(s, server_hostname="127.0.0.1").close()


def hostile_traffic(https):
    seconds, connections = int(os.environ.get("RQ_HOSTILE_SECONDS", "12")) // (1 if "RQ_HOSTILE_SECONDS" in os.environ or not https else 2), 5000
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    with folder() as (base, nodes):
        if https:
            ours = Authority(base, "ours")
            cert, key = ours.issue("server")
            node = make(base, nodes, "n1", ["-http-cert", cert, "-http-key", key], ca=ours.ca).start().wait_ready()
        else:
            node = make(base, nodes, "n1").start().wait_ready()
        node.execute("CREATE TABLE t(v)")
        before = resident(node)
        until = time.monotonic() + seconds
        held, took, answers, peak = [], [], [], [0]
        for i in range(min(connections, hard - 1000)):
            s = socket.create_connection(("127.0.0.1", node.http), timeout=10)
            if i % 2:
                s.sendall(b"\x16\x03\x01\x02\x00\x01" if https else b"GET /readyz HTTP/1.1\r\nHo")
            held.append(s)
        silent = [socket.create_connection(("127.0.0.1", node.raft), timeout=10) for _ in range(600)]
        threads = [threading.Thread(target=noise, args=(node, port, until, random.Random(i)), daemon=True) for i, port in enumerate([node.http, node.raft] * 2)]
        if https:
            threads += [threading.Thread(target=handshakes, args=(node, until), daemon=True) for _ in range(2)]
        else:
            threads += [threading.Thread(target=header_bomb, args=(node, until), daemon=True)]
            threads += [threading.Thread(target=body_of_a_gigabyte, args=(node, until, chunked, answers), daemon=True) for chunked in (False, True)]
        for thread in threads:
            thread.start()
        count = 0
        while time.monotonic() < until:
            begun = time.monotonic()
            node.execute("INSERT INTO t VALUES(1)")
            assert node.rows("SELECT count(*) FROM t") == [[count + 1]]
            count += 1
            took.append(time.monotonic() - begun)
            peak[0] = max(peak[0], resident(node))
        for thread in threads:
            thread.join(15)
        for s in held + silent:
            s.close()
        took.sort()
        print("     %s: %d connections, %d writes and reads beside them, p50 %.1f ms, p99 %.1f ms, resident %d -> at most %d MiB" %
              ("https" if https else "http", len(held), count, took[len(took) // 2] * 1000, took[len(took) * 99 // 100] * 1000, before >> 20, peak[0] >> 20))
        assert count > 20 and took[len(took) * 99 // 100] < 2
        assert peak[0] - before < 1400 << 20, peak[0]
        assert all(b" 413 " in a for a in answers if a), answers
        assert node.ready() and node.stop() == 0
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_hostile_traffic_hurts_nobody_else():
    """Silent connections, half headers, header bombs, huge bodies, noise on both ports; a client goes on meanwhile. For longer: RQ_HOSTILE_SECONDS."""
    hostile_traffic(https=False)


def test_hostile_traffic_over_tls_hurts_nobody_else():
    """The same with TLS: half handshakes, whole ones for nothing, noise."""
    hostile_traffic(https=True)


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
    print("security: %d passed, %d failed" % (len(tests) - failed, failed))
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
