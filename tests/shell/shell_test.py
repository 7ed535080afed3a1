"""The shell against a server that fails on purpose: exit codes, failover, transfers of any size, imports, the terminal."""
import base64
import json
import os
import pty
import re
import select
import shutil
import signal
import socket
import ssl
import stat
import subprocess
import tempfile
import threading
import time
import unittest

from fake_server import FakeServer

BINARY = os.path.abspath(os.environ.get("RQLITE", os.path.join(os.path.dirname(__file__), "../../build/dev/bin/rqlite")))
ONE = {"results": [{"columns": ["1"], "types": ["integer"], "values": [[1]]}]}
TABLE_OF_ONE = "+---+\n| 1 |\n+---+\n| 1 |\n+---+\n"
MEGABYTE = 1 << 20
MEMORY_MAX_KB = 60_000        # of the shell, whatever it transfers


def dead_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


class ShellTest(unittest.TestCase):
    def setUp(self):
        self.dir = tempfile.mkdtemp(prefix="shell-")
        self.addCleanup(shutil.rmtree, self.dir)
        self.environment = {"HOME": self.dir, "TERM": "xterm", "PATH": os.environ["PATH"]}

    def path(self, name, content=None):
        path = os.path.join(self.dir, name)
        if content is not None:
            with open(path, "w") as file:
                file.write(content)
        return path

    def server(self, routes, **more):
        server = FakeServer(routes, **more)
        self.addCleanup(server.close)
        return server

    def shell(self, port, *arguments, stdin="", **environment):
        done = subprocess.run([BINARY, "-p", str(port)] + list(arguments), input=stdin, capture_output=True, text=True, cwd=self.dir,
                              env=dict(self.environment, **environment), timeout=60)
        return done.returncode, done.stdout, done.stderr


class Scripts(ShellTest):
    def test_exit_codes(self):
        server = self.server({"/db/request": ONE, "/readyz": lambda h, r: h.give(503)})
        self.assertEqual(self.shell(server.port, "-e", "SELECT 1"), (0, TABLE_OF_ONE, ""))
        self.assertEqual(self.shell(server.port, "-e", ".ready")[0], 1)
        self.assertEqual(self.shell(server.port, "-e", ".mode bogus")[0], 1)
        self.assertEqual(self.shell(server.port, "--bogus")[0], 2)
        self.assertEqual(self.shell(dead_port(), "-e", "SELECT 1")[0], 2)
        server.routes["/db/request"] = {"results": [{"error": "no such table: t"}]}
        self.assertEqual(self.shell(server.port, "-e", "SELECT 1"), (1, "", "Error: no such table: t\n"))
        server.routes["/db/request"] = lambda h, r: h.give(503, b"leader not found")
        code, out, error = self.shell(server.port, "-e", "SELECT 1")
        self.assertEqual((code, out), (2, ""))
        self.assertIn("503 Service Unavailable: leader not found", error)

    def test_bail_stops_at_the_first_error(self):
        server = self.server({"/db/request": {"results": [{"error": "wrong"}]}})
        self.assertEqual(self.shell(server.port, "-e", "SELECT 1; SELECT 2", "-e", "SELECT 3")[0], 1)
        self.assertEqual(len(server.requests), 3)
        self.assertEqual(self.shell(server.port, "--bail", "-e", "SELECT 1; SELECT 2", "-e", "SELECT 3")[0], 1)
        self.assertEqual(len(server.requests), 4)

    def test_statements_of_files_and_pipes(self):
        server = self.server({"/db/request": ONE})
        script = "-- a comment\nSELECT *\nFROM t;\nBEGIN;\nINSERT INTO t VALUES(1);\nCOMMIT;\nDELETE FROM t\nWHERE id = 1\nSELECT 2"
        wanted = ["SELECT *\nFROM t;", "BEGIN;\nINSERT INTO t VALUES(1);\nCOMMIT;", "DELETE FROM t\nWHERE id = 1", "SELECT 2"]
        self.path("in.sql", script)
        for arguments, stdin in ((["-f", "in.sql"], ""), (["-f", "-"], script), (["-q"], script), (["-e", ".read in.sql"], "")):
            server.requests.clear()
            self.assertEqual(self.shell(server.port, *arguments, stdin=stdin), (0, TABLE_OF_ONE * 4, ""))
            self.assertEqual([json.loads(r.body)[0] for r in server.requests], wanted)

    def test_a_line_may_be_long(self):
        server = self.server({"/db/request": ONE})
        text = "SELECT '" + "x" * 700_000 + "'"
        self.assertEqual(self.shell(server.port, "-q", stdin=text)[0], 0)
        self.assertEqual(json.loads(server.requests[0].body), [text])

    def test_read_level_and_freshness_go_with_typed_sql(self):
        server = self.server({"/db/request": ONE})
        self.shell(server.port, "--consistency", "none", "-e", ".freshness 1s", "-e", "SELECT 1", "-e", ".blobarray on", "-e", "SELECT 2")
        self.assertEqual(server.paths(), ["/db/request?freshness=1s&level=none", "/db/request?blob_array=&freshness=1s&level=none"])

    def test_credentials_of_the_environment(self):
        server = self.server({"/db/request": ONE})
        self.shell(server.port, "-e", "SELECT 1", RQLITE_USER="bob", RQLITE_PASSWORD="a:b")
        self.shell(server.port, "-u", "mary:c:d", "-e", "SELECT 1")
        self.assertEqual([base64.b64decode(r.headers["Authorization"][6:]).decode() for r in server.requests], ["bob:a:b", "mary:c:d"])

    def test_output_and_once(self):
        server = self.server({"/db/request": ONE})
        self.assertEqual(self.shell(server.port, "-o", "all.txt", "-e", "SELECT 1", "-e", ".once one.csv", "-m", "csv", "-e", "SELECT 2"), (0, "", ""))
        with open(self.path("all.txt")) as all_, open(self.path("one.csv")) as one:
            self.assertEqual((all_.read(), one.read()), ("1\n1\n", "1\n1\n"))


class Failover(ShellTest):
    def test_a_refused_write_goes_to_the_next_host(self):
        server = self.server({"/db/request": {"results": [{"rows_affected": 1}]}})
        code, out, error = self.shell(dead_port(), "-a", server.address, "-e", "INSERT INTO t VALUES(1)")
        self.assertEqual((code, out), (0, "1 row affected\n"))
        self.assertIn("continuing with host '%s'" % server.address, error)
        self.assertEqual(server.requests[0].body, '["INSERT INTO t VALUES(1)"]')

    def test_a_write_that_may_have_run_is_not_sent_again(self):
        first = self.server({"/db/request": lambda h, r: h.hang_up()})
        second = self.server({"/db/request": ONE})
        code, _, error = self.shell(first.port, "-a", second.address, "-e", "INSERT INTO t VALUES(1)")
        self.assertEqual(code, 2)
        self.assertIn("may have been executed", error)
        self.assertEqual((len(first.requests), second.requests), (1, []))

    def test_a_typed_read_goes_on_with_the_next_host(self):
        first = self.server({"/db/request": lambda h, r: h.hang_up()})
        second = self.server({"/db/request": ONE})
        self.assertEqual(self.shell(first.port, "-a", second.address, "-e", "SELECT 1")[:2], (0, TABLE_OF_ONE))
        self.assertEqual((len(first.requests), len(second.requests)), (1, 1))

    def test_a_read_goes_on_with_the_next_host(self):
        first = self.server({"/status": lambda h, r: h.hang_up()})
        second = self.server({"/status": {"a": 1}})
        self.assertEqual(self.shell(first.port, "-a", " , %s," % second.address, "-e", ".status")[:2], (0, "a: 1\n"))

    def test_starts_on_the_next_host(self):
        server = self.server({"/status": {}, "/db/request": ONE})
        code, out, _ = self.shell(dead_port(), "-a", server.address, stdin="SELECT 1\n")
        self.assertEqual(code, 0)
        self.assertIn("Connected to http://%s running version unknown\n%s> +---+" % (server.address, server.address), out)

    def test_redirects_take_the_body_along(self):
        leader = self.server({"/db/request": ONE})
        for status in (301, 302, 307, 308):
            follower = self.server({"/db/request": lambda h, r: h.give(status, Location="http://%s/db/request?x" % leader.address)})
            self.assertEqual(self.shell(follower.port, "-e", "SELECT 1")[:2], (0, TABLE_OF_ONE))
            self.assertEqual((leader.requests[-1].method, leader.requests[-1].body), ("POST", '["SELECT 1"]'))

    def test_endless_redirects_end(self):
        server = self.server({"/status": lambda h, r: h.give(301, Location="/status")})
        code, _, error = self.shell(server.port, "-e", ".status")
        self.assertEqual(code, 2)
        self.assertIn("too many redirects from host: '%s'" % server.address, error)
        self.assertEqual(len(server.requests), 22)

    def test_tells_why(self):
        self.assertIn("connection refused", self.shell(dead_port(), "-e", "SELECT 1")[2])
        server = self.server({"/db/request": lambda h, r: time.sleep(2)})
        self.assertIn("no answer within 300ms", self.shell(server.port, "-t", "300ms", "-e", "SELECT 1")[2])
        self.assertIn("TLS: the server doesn't speak HTTPS", self.shell(server.port, "-s", "https", "-e", "SELECT 1")[2])


class Tls(ShellTest):
    def certificate(self, name, common_name, extension):
        def openssl(*arguments):
            subprocess.run(("openssl",) + arguments, check=True, cwd=self.dir, capture_output=True)
        key = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-keyout", name + "-key.pem")
        if name == "ca":
            return openssl("req", "-x509", *key, "-out", "ca.pem", "-days", "2", "-subj", "/CN=test CA", "-addext", "basicConstraints=critical,CA:TRUE")
        openssl("req", *key, "-out", name + ".csr", "-subj", "/CN=" + common_name)
        self.path("extension", extension)
        openssl("x509", "-req", "-in", name + ".csr", "-CA", "ca.pem", "-CAkey", "ca-key.pem", "-CAcreateserial", "-days", "2", "-out", name + ".pem", "-extfile", "extension")

    def test_each_way_to_be_refused_says_why(self):
        self.certificate("ca", "", "")
        self.certificate("server", "localhost", "subjectAltName=DNS:localhost\n")
        self.certificate("client", "someone", "extendedKeyUsage=clientAuth\n")
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self.path("server.pem"), self.path("server-key.pem"))
        context.load_verify_locations(self.path("ca.pem"))
        context.verify_mode = ssl.CERT_REQUIRED
        server = self.server({"/db/request": ONE}, tls=context)
        trusted, named, own = ["-c", "ca.pem"], ["-H", "localhost"], ["-d", "client.pem", "-k", "client-key.pem"]
        run = ["-s", "https", "-e", "SELECT 1"]
        self.assertEqual(self.shell(server.port, *run, *trusted, *named, *own), (0, TABLE_OF_ONE, ""))
        self.assertEqual(self.shell(server.port, *run, "-i", *own)[:2], (0, TABLE_OF_ONE))
        for flags, reason in ((named + own, "not trusted: self-signed certificate in certificate chain"), (trusted + own, "not trusted: IP address mismatch"),
                              (trusted + named, "requires a client certificate|connection reset")):      # a reset may overtake the alert
            code, out, error = self.shell(server.port, *run, *flags)
            self.assertEqual((code, out), (2, ""))
            self.assertRegex(error, reason)
        code, _, error = self.shell(server.port, *run, "-c", "missing.pem")
        self.assertEqual((code, error), (2, "ERR! open missing.pem: no such file or directory\n"))
        self.assertEqual(len(server.requests), 2)


class Transfers(ShellTest):
    def run_measured(self, port, *arguments):
        """Also the most memory the shell had, in kB."""
        process = subprocess.Popen([BINARY, "-p", str(port)] + list(arguments), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, cwd=self.dir, env=self.environment)
        out = process.stdout.read()
        process.stdout.close()
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        return process.returncode, out, usage.ru_maxrss

    @staticmethod
    def chunks(count, size, pause=0.0):
        def answer(handler, request):
            handler.send_response(200)
            handler.send_header("Transfer-Encoding", "chunked")
            handler.end_headers()
            for _ in range(count):
                handler.wfile.write(b"%x\r\n" % size + b"b" * size + b"\r\n")
                time.sleep(pause)
            handler.wfile.write(b"0\r\n\r\n")
        return answer

    def test_a_large_backup_takes_little_memory(self):
        server = self.server({"/db/backup": self.chunks(150, MEGABYTE)})
        code, out, memory = self.run_measured(server.port, "-e", ".backup b.db")
        self.assertEqual((code, out, os.path.getsize(self.path("b.db"))), (0, "backup file written successfully\n", 150 * MEGABYTE))
        self.assertLess(memory, MEMORY_MAX_KB)

    def test_a_large_restore_takes_little_memory(self):
        server = self.server({"/status": {}, "/db/load": {"results": []}, "/boot": b""})
        with open(self.path("in.db"), "wb") as file:
            file.write(b"SQLite format 3\0")
            file.truncate(150 * MEGABYTE)
        for command, path, said in ((".restore in.db", "/db/load", "Database restored successfully.\n"), (".boot in.db", "/boot", "Node booted successfully.\n")):
            code, out, memory = self.run_measured(server.port, "-e", command)
            self.assertEqual((code, out), (0, said))
            self.assertEqual((server.requests[-1].path, server.requests[-1].size), (path, 150 * MEGABYTE))
            self.assertLess(memory, MEMORY_MAX_KB)

    def test_the_timeout_is_for_silence_while_a_backup_comes(self):
        server = self.server({"/db/backup": self.chunks(8, 1000, pause=0.1)})
        self.assertEqual(self.shell(server.port, "-t", "400ms", "-e", ".backup b.db")[0], 0)
        server.routes["/db/backup"] = self.chunks(2, 1000, pause=1.0)
        code, _, error = self.shell(server.port, "-t", "400ms", "-e", ".backup c.db")
        self.assertEqual(code, 2)
        self.assertIn("no answer within 400ms", error)
        self.assertFalse(os.path.exists(self.path("c.db")))

    def test_a_broken_backup_leaves_the_old_file(self):
        def half(handler, request):
            handler.send_response(200)
            handler.send_header("Content-Length", "1000")
            handler.end_headers()
            handler.wfile.write(b"half")
            handler.hang_up()
        server = self.server({"/db/backup": half})
        self.path("b.db", "the old one")
        self.assertEqual(self.shell(server.port, "-e", ".backup b.db")[0], 2)
        with open(self.path("b.db")) as file:
            self.assertEqual(file.read(), "the old one")
        self.assertEqual(os.listdir(self.dir), ["b.db"])

    def test_a_shorter_backup_leaves_nothing_of_the_old_one(self):
        server = self.server({"/db/backup": b"new"})
        self.path("b.db", "the old and longer one")
        self.shell(server.port, "-e", ".backup b.db")
        with open(self.path("b.db")) as file:
            self.assertEqual(file.read(), "new")

    def test_the_answer_to_an_early_refusal_is_shown(self):
        def refuse(handler, request):
            handler.close_connection = True
            handler.give(503, b"no leader", Connection="close")
            handler.wfile.flush()
            time.sleep(0.5)          # the client reads before the connection is reset
        server = self.server({"/status": {}, "/db/load": refuse}, refuse_body=("/db/load",))
        with open(self.path("in.db"), "wb") as file:
            file.write(b"SQLite format 3\0")
            file.truncate(50 * MEGABYTE)
        code, _, error = self.shell(server.port, "-e", ".restore in.db")
        self.assertEqual((code, error), (2, "ERR! server responded with: 503 Service Unavailable: no leader\n"))

    def test_a_restore_keeps_the_foreign_keys_of_the_node(self):
        server = self.server({"/db/load": {"results": [{}]}})
        self.path("in.sql", "SELECT 1;\n")
        for status, body in (({}, "SELECT 1;\n"), ({"store": {"db_conf": {"fk_constraints": True}}}, "SELECT 1;\nPRAGMA foreign_keys=ON;"),
                             ({"store": {"db_conf": {"fk_constraints": False}}}, "SELECT 1;\n")):
            server.routes["/status"] = status
            self.assertEqual(self.shell(server.port, "-e", ".restore in.sql")[0], 0)
            self.assertEqual(server.requests[-1].body, body)


class Import(ShellTest):
    def importer(self, tables=()):
        columns = {"results": [{"columns": ["name", "name"], "types": ["text", "text"], "values": [[t, "a"] for t in tables]}]}
        return self.server({"/db/query": columns, "/db/execute": {"results": [{}]}})

    @staticmethod
    def bodies(server):
        return [json.loads(r.body) for r in server.requests if r.method == "POST"]

    def test_a_new_table_takes_its_columns_from_the_header(self):
        server = self.importer()
        self.path("in.csv", '\ufeffid,"full ""name"""\r\n1,"x, y"\r\n\r\n2,"two\nlines"\n')
        self.assertEqual(self.shell(server.port, "-e", ".import in.csv people"), (0, "2 rows imported\n", ""))
        self.assertEqual(self.bodies(server), [
            ['CREATE TABLE "people"("id" TEXT,"full ""name""" TEXT)'],
            [['INSERT INTO "people"("id","full ""name""") VALUES(?,?),(?,?)', "1", "x, y", "2", "two\nlines"]]])

    def test_an_existing_table(self):
        server = self.importer(["People"])
        self.path("in.csv", "id;name\n1;\n")
        self.assertEqual(self.shell(server.port, "-e", '.import in.csv people --skip 1 --sep ; --null ""')[0], 0)
        self.assertEqual(self.shell(server.port, "-e", '.import in.csv people --header --sep ;')[0], 0)
        self.assertEqual(self.bodies(server), [[['INSERT INTO "people" VALUES(?,?)', "1", None]], [['INSERT INTO "people"("id","name") VALUES(?,?)', "1", ""]]])

    def test_rows_go_in_batches_and_an_error_says_where(self):
        server = self.importer(["t"])
        self.path("in.csv", "".join("%d,x\n" % i for i in range(2500)))
        self.assertEqual(self.shell(server.port, "-e", ".import in.csv t")[:2], (0, "2500 rows imported\n"))
        self.assertEqual([len(b[0]) - 1 for b in self.bodies(server)], [2000, 2000, 1000])
        answers = iter([{"results": [{}]}, {"results": [{"error": "UNIQUE constraint failed: t.a"}]}])
        server.routes["/db/execute"] = lambda h, r: h.give(200, json.dumps(next(answers)).encode())
        code, _, error = self.shell(server.port, "-e", ".import in.csv t")
        self.assertEqual(code, 1)
        self.assertIn("in.csv: rows from line 1001: UNIQUE constraint failed: t.a", error)
        self.assertIn("1000 rows were imported before", error)

    def test_uneven_rows_and_open_quotes_are_refused(self):
        server = self.importer(["t"])
        self.path("in.csv", "1,2\n3\n")
        self.assertIn("line 2 has 1 fields, expected 2", self.shell(server.port, "-e", ".import in.csv t")[2])
        self.path("in.csv", '1,"2\n')
        self.assertIn("line 1: a quote is not closed", self.shell(server.port, "-e", ".import in.csv t")[2])


class Cluster(ShellTest):
    def test_roles_and_lag(self):
        def status(applied):
            return {"build": {"version": "10"}, "store": {"raft": {"applied_index": applied}}}
        leader, follower = self.server({"/status": status(9007199254740995)}), self.server({"/status": status(9007199254740990)})
        leader.routes["/nodes"] = {"nodes": [
            {"id": "n1", "api_addr": "http://" + leader.address, "leader": True, "voter": True, "reachable": True},
            {"id": "n2", "api_addr": "http://" + follower.address, "leader": False, "voter": False, "reachable": True},
            {"id": "n3", "api_addr": "", "leader": False, "voter": True, "reachable": False}]}
        code, out, _ = self.shell(leader.port, "-m", "csv", "-e", ".cluster")
        self.assertEqual(code, 0)
        lines = [re.sub(r",\d+\.\d,", ",L,", line) for line in out.splitlines()]
        self.assertEqual(lines, ["id,role,api_addr,version,applied,lag,latency_ms,state",
                                 "n1,leader,http://%s,10,9007199254740995,0,L,ok" % leader.address,
                                 "n2,read replica,http://%s,10,9007199254740990,5,L,ok" % follower.address,
                                 "n3,voter,NULL,NULL,NULL,NULL,NULL,unreachable"])


class Terminal(ShellTest):
    def start(self, port):
        try:
            self.pid, self.fd = pty.fork()
        except OSError as error:
            self.skipTest("no terminal devices here (/dev/pts): %s" % error)
        if self.pid == 0:
            os.chdir(self.dir)
            os.execve(BINARY, [BINARY, "-p", str(port)], self.environment)
        self.seen = ""
        self.addCleanup(self.end)
        self.wait("> $")

    def end(self):
        try:
            os.kill(self.pid, signal.SIGKILL)
            os.waitpid(self.pid, 0)
        except (ProcessLookupError, ChildProcessError):
            pass
        os.close(self.fd)

    def wait(self, pattern, seconds=15):
        end = time.monotonic() + seconds
        while not re.search(pattern, self.seen, re.S):
            if time.monotonic() > end:
                self.fail("waited in vain for %r, got %r" % (pattern, self.seen))
            if select.select([self.fd], [], [], 0.1)[0]:
                self.seen += os.read(self.fd, 65536).decode("utf-8", "replace")
        before, self.seen = self.seen, ""
        return before

    def keys(self, text, pattern):
        os.write(self.fd, text.encode())
        return self.wait(pattern)

    def leave(self):
        self.keys("\x04", "bye~")
        _, status = os.waitpid(self.pid, 0)
        self.assertEqual(os.waitstatus_to_exitcode(status), 0)

    def server_with_table(self):
        return self.server({"/db/request": ONE, "/db/query": {"results": [{"columns": ["name", "name"], "types": ["text", "text"], "values": [["people", "full_name"]]}]}})

    def test_a_statement_over_lines(self):
        server = self.server_with_table()
        self.start(server.port)
        self.keys("SELECT *\r", r"\.\.\.> $")
        self.keys("FROM people\r", r"\| 1 \|.*> $")
        self.leave()
        self.assertEqual(json.loads(server.requests[-1].body), ["SELECT *\nFROM people"])
        with open(self.path(".rqlite_history")) as file:
            self.assertEqual(file.read(), "SELECT * FROM people\n")
        self.assertEqual(stat.S_IMODE(os.stat(self.path(".rqlite_history")).st_mode), 0o600)

    def test_tab_completes_tables_columns_and_commands(self):
        server = self.server_with_table()
        self.start(server.port)
        self.keys("SELECT * FROM pe\t", "ople $")
        self.keys("WHERE full_\t", "name $")
        self.keys("IS 1\r", r"\| 1 \|.*> $")
        self.keys(".nul\t", r"value $")
        self.keys("-\r", "> $")
        self.assertEqual(json.loads(server.requests[-1].body), ["SELECT * FROM people WHERE full_name IS 1"])
        self.leave()

    def test_ctrl_c_gives_up_a_line_a_statement_and_a_request(self):
        asked = threading.Event()

        def silent(handler, request):
            asked.set()
            time.sleep(30)
        server = self.server_with_table()
        self.start(server.port)
        self.keys("SELECT 5\x03", r"\^C\r\n[^\n]*:\d+> $")
        self.keys("SELECT (\r", r"\.\.\.> $")
        self.keys("\x03", r"\^C\r\n[^\n]*:\d+> $")
        server.routes["/db/request"] = silent
        os.write(self.fd, b"SELECT 6\r")
        self.assertTrue(asked.wait(10))
        self.keys("\x03", "interrupted.*> $")
        server.routes["/db/request"] = ONE
        self.keys("SELECT 7\r", r"\| 1 \|.*> $")
        self.leave()

    def test_ctrl_d_typed_while_a_statement_runs_ends_the_shell_behind_it(self):
        asked, answer = threading.Event(), threading.Event()

        def slow(handler, request):
            asked.set()
            answer.wait(10)
            handler.give(200, json.dumps(ONE).encode())
        server = self.server_with_table()
        self.start(server.port)
        server.routes["/db/request"] = slow
        os.write(self.fd, b"SELECT 9\r")
        self.assertTrue(asked.wait(10))
        os.write(self.fd, b"\x04")
        answer.set()
        self.wait(r"\| 1 \|.*bye~")
        _, status = os.waitpid(self.pid, 0)
        self.assertEqual(os.waitstatus_to_exitcode(status), 0)

    def test_pasted_lines_become_one_statement(self):
        server = self.server_with_table()
        self.start(server.port)
        self.keys("DELETE FROM people\rWHERE id = 1;\rSELECT 8\r", r"\| 1 \|.*SELECT 8.*\| 1 \|.*> $")
        self.leave()
        self.assertEqual([json.loads(r.body)[0] for r in server.requests if r.method == "POST"], ["DELETE FROM people\nWHERE id = 1;", "SELECT 8"])

    def test_the_history_keeps_its_size(self):
        self.environment["RQLITE_HISTFILESIZE"] = "2"
        self.path(".rqlite_history", "one\ntwo\nthree\n")
        self.start(self.server_with_table().port)
        self.leave()
        with open(self.path(".rqlite_history")) as file:
            self.assertEqual(file.read(), "two\nthree\n")


if __name__ == "__main__":
    unittest.main()
