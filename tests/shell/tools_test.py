#!/usr/bin/env python3
"""rqbench against a real node, and the completions against what the programs say of themselves.

usage: tools_test.py [unittest arguments]     (RQLITED, RQLITE, RQBENCH: the programs)
"""
import os
import re
import shutil
import socket
import subprocess
import sys
import time
import unittest

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "cluster"))
from harness import Cluster   # noqa: E402
from security_test import Authority, folder, make, user, write_users   # noqa: E402

TOP = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
PROGRAMS = {name: os.environ.get(name.upper(), os.path.join(TOP, "build/dev/bin", name)) for name in ("rqlited", "rqlite", "rqbench")}


def bench(node, *arguments):
    return subprocess.run([PROGRAMS["rqbench"], "-a", "127.0.0.1:%d" % node.http, *arguments], capture_output=True, text=True, timeout=60)


class Rqbench(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.cluster = Cluster(1)
        cls.cluster.__enter__()
        cls.node = cls.cluster.nodes[0].start().wait_ready()

    @classmethod
    def tearDownClass(cls):
        cls.cluster.__exit__(None, None, None)

    def rows(self):
        return self.node.rows("SELECT count(*) FROM t")[0][0]

    def test_sends_what_it_is_told(self):
        done = bench(self.node, "-o", "CREATE TABLE IF NOT EXISTS t(v)", "-n", "30", "-b", "4", "-m", "10", "INSERT INTO t VALUES('x')")
        self.assertEqual((done.returncode, done.stderr), (0, ""))
        self.assertRegex(done.stdout, r"\A10 requests completed\n20 requests completed\n30 requests completed\nTotal duration: \S+\n"
                                      r"Requests/sec: \d+\.\d\d\nStatements/sec: \d+\.\d\d\nLatency: mean \S+, p50 \S+, p90 \S+, p99 \S+, p99\.9 \S+, max \S+\n\Z")
        before = self.rows()
        self.assertGreaterEqual(before, 120)
        self.assertEqual(bench(self.node, "-n", "50", "-c", "7", "-x", "INSERT INTO t VALUES('x')").returncode, 0)
        self.assertEqual(self.rows() - before, 50)
        self.assertEqual(bench(self.node, "-d", "200ms", "-c", "3", "-q", "INSERT INTO t VALUES('x')").returncode, 0)
        self.assertEqual(bench(self.node, "-p", "/db/query", "-n", "5", "SELECT 1").returncode, 0)

    def test_counts_errors(self):
        done = bench(self.node, "-n", "3", "INSERT INTO nowhere VALUES(1)")
        self.assertEqual(done.returncode, 1)
        self.assertIn("Errors: 3 of 3 requests, the first one: no such table: nowhere\n", done.stdout)
        done = bench(self.node, "-o", "nonsense", "SELECT 1")
        self.assertEqual((done.returncode, done.stdout), (1, 'failed to run benchmark: near "nonsense": syntax error\n'))

    def test_gives_up_when_nobody_answers(self):
        done = subprocess.run([PROGRAMS["rqbench"], "-a", "127.0.0.1:1", "-n", "1000", "SELECT 1"], capture_output=True, text=True, timeout=60)
        self.assertEqual(done.returncode, 1)
        self.assertIn("connection refused", done.stdout)

    def test_ends_in_time_when_an_answer_never_comes(self):
        with socket.socket() as silent:
            silent.bind(("127.0.0.1", 0))
            silent.listen()
            begun = time.monotonic()
            done = subprocess.run([PROGRAMS["rqbench"], "-a", "127.0.0.1:%d" % silent.getsockname()[1], "-d", "100ms", "SELECT 1"], capture_output=True, text=True, timeout=60)
            self.assertEqual(done.returncode, 1)
            self.assertLess(time.monotonic() - begun, 20)

    def test_speaks_tls_and_names_a_user(self):
        with folder() as (base, nodes):
            ours, theirs = Authority(base, "ours"), Authority(base, "theirs")
            cert, key = ours.issue("node")
            client = ours.issue("client", cn="client")
            auth = write_users(os.path.join(base, "auth.json"), [user("admin", "all"), user("reader", "query")])
            node = make(base, nodes, "n1", ["-auth", auth, "-http-cert", cert, "-http-key", key, "-http-ca-cert", ours.ca, "-http-verify-client"],
                        user=("admin", "pw-admin"), ca=ours.ca, client=client).start().wait_ready()
            node.execute("CREATE TABLE t(v)")
            insert = ("-n", "20", "-b", "3", "-c", "4", "INSERT INTO t VALUES(1)")
            identity = ("-client-cert", client[0], "-client-key", client[1])
            admin = ("-s", "-u", "admin:pw-admin")
            for trust in (("-ca-cert", ours.ca), ("-insecure",)):
                done = bench(node, *admin, *identity, *trust, *insert)
                self.assertEqual((done.returncode, done.stderr), (0, ""), done.stdout)
            self.assertEqual(node.rows("SELECT count(*) FROM t"), [[120]])
            for wrong, text in (((*admin, *identity, "-ca-cert", theirs.ca), "the server's certificate is not trusted"),
                                ((*admin, "-ca-cert", ours.ca), "client certificate"),
                                (("-s", *identity, "-ca-cert", ours.ca), "status 401 Unauthorized"),
                                (("-s", "-u", "reader:pw-reader", *identity, "-ca-cert", ours.ca), "status 401 Unauthorized")):
                done = bench(node, *wrong, *insert)
                self.assertEqual(done.returncode, 1, wrong)
                self.assertIn(text, done.stdout)
            self.assertEqual(node.rows("SELECT count(*) FROM t"), [[120]])
            self.assertEqual(bench(node, "-s", "-u", "reader:pw-reader", *identity, "-ca-cert", ours.ca, "-p", "/db/query", "SELECT v FROM t").returncode, 0)

    def test_refuses_wrong_flags(self):
        for arguments, text in ((["-n", "0", "x"], "-n must be at least 1"), (["-c", "0", "x"], "-c must be between 1 and 4096"), (["-nope", "x"], "flag provided but not defined"),
                                ([], "Usage: rqbench"), (["a", "b"], "Usage: rqbench"), (["-p", "db", "x"], "-p must begin with /"),
                                (["-a", "host:port", "x"], "invalid port in address host:port"), (["-a", "http://host:4001", "x"], "-a is HOST:PORT, without http://")):
            done = bench(self.node, *arguments)
            self.assertEqual(done.returncode, 2, arguments)
            self.assertIn(text, done.stderr)


class Completions(unittest.TestCase):
    def flags(self, program):
        script = ". %s/packaging/completions/rqlite.bash; _rqlite_flags %s" % (TOP, PROGRAMS[program])
        return subprocess.run(["bash", "-c", script], capture_output=True, text=True, check=True).stdout.split()

    def test_know_every_flag(self):
        for program in PROGRAMS:
            done = subprocess.run([PROGRAMS[program], "-h"], capture_output=True, text=True)
            listed = re.findall(r"^  +(--?[A-Za-z0-9][\w-]*)", done.stdout + done.stderr, re.M)
            self.assertGreater(len(listed), 10, program)
            self.assertLessEqual(set(listed), set(self.flags(program)), program)
        self.assertIn("--ca-cert", self.flags("rqlite"))
        self.assertIn("-raft-snap", self.flags("rqlited"))

    def test_complete_what_was_begun(self):
        script = """. %s/packaging/completions/rqlite.bash
            COMP_WORDS=(%s -raft-sn) COMP_CWORD=1; _rqlite %s; echo "${COMPREPLY[@]}"
            COMP_WORDS=(rqlited do) COMP_CWORD=1; _rqlite rqlited; echo "${COMPREPLY[@]}" """ % (TOP, PROGRAMS["rqlited"], PROGRAMS["rqlited"])
        done = subprocess.run(["bash", "-c", script], capture_output=True, text=True, cwd="/")
        self.assertEqual(done.stdout.splitlines(), ["-raft-snap -raft-snap-int -raft-snap-wal-size", "doctor"])

    def test_scripts_parse(self):
        for shell, script in (("bash", "rqlite.bash"), ("zsh", "_rqlite"), ("fish", "rqlite.fish")):
            if shutil.which(shell):
                subprocess.run([shell, "-n", os.path.join(TOP, "packaging/completions", script)], check=True)


if __name__ == "__main__":
    unittest.main()
