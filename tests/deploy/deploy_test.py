#!/usr/bin/env python3
"""What surrounds the programs: the container's entry script, the examples, the unit. With stubs where a container would be needed.

usage: deploy_test.py [unittest arguments]     (RQLITED, RQLITE: the programs)
"""
import base64
import contextlib
import fcntl
import json
import os
import re
import shutil
import signal
import socket
import ssl
import struct
import subprocess
import sys
import tempfile
import time
import unittest
import urllib.error
import urllib.request

TOP = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
RQLITED = os.environ.get("RQLITED", os.path.join(TOP, "build/dev/bin/rqlited"))
RQLITE = os.environ.get("RQLITE", os.path.join(TOP, "build/dev/bin/rqlite"))
ENTRY = os.path.join(TOP, "packaging/docker/docker-entrypoint.sh")
PORT = int(os.environ.get("RQ_TEST_PORT_LOW", "10500"))


def known_flags():
    done = subprocess.run([RQLITED, "-h"], capture_output=True, text=True)
    return set(re.findall(r"^  -([a-z-]+)", done.stdout + done.stderr, re.M))


class Entrypoint(unittest.TestCase):
    """The script with an rqlited that prints its arguments."""

    def setUp(self):
        self.dir = tempfile.mkdtemp(prefix="rq-deploy-")
        self.addCleanup(shutil.rmtree, self.dir)
        for name, text in (("rqlited", 'echo "$@"'), ("hostname", 'if [ "${1:-}" = -f ]; then echo pod.example; else echo pod; fi'), ("sleep", 'echo "sleep $1"')):
            path = os.path.join(self.dir, name)
            with open(path, "w") as f:
                f.write("#!/bin/sh\n" + text + "\n")
            os.chmod(path, 0o755)

    def entry(self, *arguments, **environment):
        return subprocess.run(["sh", ENTRY, *arguments], capture_output=True, text=True, timeout=20,
                              env={"PATH": self.dir + ":/usr/bin:/bin", **environment})

    DEFAULTS = "-http-addr 0.0.0.0:4001 -http-adv-addr pod.example:4001 -raft-addr 0.0.0.0:4002 -raft-adv-addr pod.example:4002 -node-id pod"

    def test_defaults(self):
        for arguments in ((), ("run",)):
            self.assertEqual(self.entry(*arguments).stdout, self.DEFAULTS + " /rqlite/file/data\n")

    def test_settings(self):
        done = self.entry("run", HTTP_ADDR="1:1", HTTP_ADV_ADDR="2:2", RAFT_ADDR="3:3", RAFT_ADV_ADDR="4:4", NODE_ID="five", ENABLE_FK="1",
                          DATA_DIR="/six", START_DELAY="7")
        self.assertEqual(done.stdout, "sleep 7\n-http-addr 1:1 -http-adv-addr 2:2 -raft-addr 3:3 -raft-adv-addr 4:4 -node-id five -fk /six\n")

    def test_kubernetes_waits(self):
        self.assertTrue(self.entry(KUBERNETES_SERVICE_HOST="x").stdout.startswith("sleep 5\n"))
        self.assertTrue(self.entry(KUBERNETES_SERVICE_HOST="x", START_DELAY="1").stdout.startswith("sleep 1\n"))

    def test_arguments_win(self):
        done = self.entry("-node-id=n", "--http-addr", "h:1", "-fk=false", "-join", "a b", NODE_ID="other", HTTP_ADDR="other", ENABLE_FK="1")
        self.assertEqual(done.stdout, "-http-adv-addr pod.example:4001 -raft-addr 0.0.0.0:4002 -raft-adv-addr pod.example:4002 "
                                      "-node-id=n --http-addr h:1 -fk=false -join a b /rqlite/file/data\n")
        self.assertEqual(self.entry("run", "-fk").stdout, self.DEFAULTS + " -fk /rqlite/file/data\n")

    def test_other_commands_are_executed(self):
        self.assertEqual(self.entry("echo", "a b").stdout, "a b\n")
        self.assertEqual(self.entry("sh", "-c", "exit 7").returncode, 7)

    def test_extensions(self):
        self.assertEqual(self.entry(CUSTOM_SQLITE_EXTENSIONS_PATH="/x").stdout, self.DEFAULTS + " -extensions-path /x /rqlite/file/data\n")
        done = self.entry(SQLITE_EXTENSIONS="nope, other")
        self.assertEqual((done.returncode, done.stderr), (1, "SQLite extension nope does not exist\n"))
        done = self.entry("-extensions-path", "/y", CUSTOM_SQLITE_EXTENSIONS_PATH="/x")
        self.assertEqual((done.returncode, done.stderr), (1, "Setting both -extensions-path and CUSTOM_SQLITE_EXTENSIONS_PATH is not allowed\n"))

    def test_the_real_one_serves_and_stops(self):
        os.remove(os.path.join(self.dir, "rqlited"))
        os.symlink(RQLITED, os.path.join(self.dir, "rqlited"))
        os.remove(os.path.join(self.dir, "sleep"))
        data = os.path.join(self.dir, "data")
        process = subprocess.Popen(["sh", ENTRY, "-http-addr", "127.0.0.1:%d" % PORT, "-http-adv-addr", "127.0.0.1:%d" % PORT, "-raft-addr", "127.0.0.1:%d" % (PORT + 1),
                                    "-raft-adv-addr", "127.0.0.1:%d" % (PORT + 1)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
                                   env={"PATH": self.dir + ":/usr/bin:/bin", "DATA_DIR": data, "NODE_ID": "x"})
        try:
            end = time.monotonic() + 30
            while True:
                try:
                    with urllib.request.urlopen("http://127.0.0.1:%d/readyz" % PORT) as answer:
                        self.assertEqual(answer.status, 200)
                        break
                except OSError:
                    self.assertLess(time.monotonic(), end, "it never became ready")
                    time.sleep(0.05)
            begun = time.monotonic()
            process.send_signal(signal.SIGTERM)      # the shell is gone: exec
            self.assertEqual(process.wait(10), 0)
            self.assertLess(time.monotonic() - begun, 5)
        finally:
            process.kill()
            process.wait()


class Examples(unittest.TestCase):
    def test_every_flag_exists(self):
        flags = known_flags()
        self.assertIn("bootstrap-expect", flags)
        for name in ("examples/kubernetes/rqlite.yaml", "examples/three-nodes/rqlited.default", "examples/three-nodes/run.sh", "packaging/debian/rqlited.default"):
            with open(os.path.join(TOP, name)) as f:
                text = f.read()
            used = set(re.findall(r'(?:^| |")-([a-z]+(?:-[a-z]+)+)(?=[ =])', text, re.M))
            self.assertTrue(used, name)
            self.assertLessEqual(used - {"from-file"}, flags, name)

    def test_yaml(self):
        try:
            import yaml
        except ImportError:
            self.skipTest("no YAML parser here")
        with open(os.path.join(TOP, "examples/kubernetes/rqlite.yaml")) as f:
            kinds = [document["kind"] for document in yaml.safe_load_all(f)]
        self.assertEqual(kinds, ["Service", "Service", "PodDisruptionBudget", "StatefulSet"])

    def test_kubernetes(self):
        """Three pods' commands, as the YAML says, with the entry script and the example's users and certificates."""
        for program in ("openssl", "curl", "unshare"):
            if shutil.which(program) is None:
                self.skipTest("no " + program)
        if subprocess.run(["unshare", "-n", "-m", "true"], capture_output=True).returncode != 0:
            self.skipTest("no right to make namespaces")
        done = subprocess.run(["unshare", "-n", "-m", sys.executable, os.path.abspath(__file__), "Pods.inside"], capture_output=True, text=True, timeout=200)
        self.assertEqual(done.returncode, 0, done.stdout[-3000:] + done.stderr[-3000:])

    def test_users_of_the_example(self):
        with open(os.path.join(TOP, "examples/three-nodes/users.json")) as f:
            users = {user["username"]: user["perms"] for user in json.load(f)}
        self.assertEqual(users["nodes"], ["join"])

    def test_three_nodes(self):
        for program in ("openssl", "curl"):
            if shutil.which(program) is None:
                self.skipTest("no " + program)
        with tempfile.TemporaryDirectory(prefix="rq-deploy-") as folder:
            process = subprocess.Popen([os.path.join(TOP, "examples/three-nodes/run.sh"), folder], stdout=subprocess.PIPE, text=True,
                                       env={**os.environ, "RQLITED": RQLITED, "RQLITE": RQLITE, "PORT": str(PORT + 10)})
            try:
                shown = ""
                while "Ctrl-C" not in shown:
                    line = process.stdout.readline()
                    self.assertTrue(line, "run.sh ended: " + shown)
                    shown += line
                context = ssl.create_default_context(cafile=folder + "/tls/ca.pem")
                def ask(node, path, body=None, user="app:change-me-app"):
                    request = urllib.request.Request("https://127.0.0.1:%d%s" % (PORT + 10 + 2 * node, path), body)
                    request.add_header("Content-Type", "application/json")
                    if user:
                        request.add_header("Authorization", "Basic " + base64.b64encode(user.encode()).decode())
                    try:
                        with urllib.request.urlopen(request, context=context, timeout=20) as answer:
                            return answer.status, answer.read()
                    except urllib.error.HTTPError as error:
                        return error.code, error.read()
                self.assertIn(b'"rows_affected":1', ask(1, "/db/execute", b'["CREATE TABLE t(v)", "INSERT INTO t VALUES(1)"]')[1])
                self.assertIn(b"[[1]]", ask(2, "/db/query?level=strong&q=SELECT%20v%20FROM%20t")[1])
                self.assertEqual(ask(0, "/db/query?q=SELECT%201", user=None)[0], 401)
                self.assertEqual(ask(0, "/db/backup")[0], 401)
                self.assertTrue(ask(0, "/db/backup", user="backup:change-me-backup")[1].startswith(b"SQLite format 3"))
                with socket.create_connection(("127.0.0.1", PORT + 11)) as plain:      # nodes talk TLS only
                    plain.sendall(b"\0" * 64)
                    plain.settimeout(10)
                    self.assertNotIn(b"rqlite", plain.recv(100))
            finally:
                process.send_signal(signal.SIGTERM)
                self.assertEqual(process.wait(20), 0)
                process.stdout.close()


class Pods(unittest.TestCase):
    """Runs in a network and a mount namespace of its own (Examples.test_kubernetes): the pods have an address each on loopback, /etc/hosts
    is their DNS."""

    def inside(self):
        with contextlib.closing(socket.socket(socket.AF_INET, socket.SOCK_DGRAM)) as s:
            fcntl.ioctl(s, 0x8914, struct.pack("16sh14x", b"lo", 0x49))       # SIOCSIFFLAGS: up, loopback, running
        subprocess.check_call(["mount", "--make-rprivate", "/"])
        folder = tempfile.mkdtemp(prefix="rq-deploy-")
        self.addCleanup(shutil.rmtree, folder)
        pods = ["rqlite-%d" % n for n in range(3)]
        names = ["%s.rqlite-nodes" % pod for pod in pods]
        with open(folder + "/hosts", "w") as f:
            f.write("127.0.0.1 localhost\n" + "".join("127.0.9.%d %s\n" % (n + 1, name) for n, name in enumerate(names)) + "127.0.9.3 rqlite\n")
        subprocess.check_call(["mount", "--bind", folder + "/hosts", "/etc/hosts"])
        subprocess.check_call([os.path.join(TOP, "examples/three-nodes/make-certificates.sh"), folder + "/made", ",".join(["rqlite-nodes", "rqlite"] + names)],
                              stdout=subprocess.DEVNULL)
        for name, file in (("ca.pem", "ca.pem"), ("node.pem", "rqlite-nodes.pem"), ("node.key", "rqlite-nodes.key")):
            os.makedirs(folder + "/tls", exist_ok=True)
            os.rename(folder + "/made/" + file, folder + "/tls/" + name)
        os.makedirs(folder + "/users")
        shutil.copy(os.path.join(TOP, "examples/three-nodes/users.json"), folder + "/users")
        with open(os.path.join(TOP, "examples/kubernetes/rqlite.yaml")) as f:
            arguments = re.findall(r"^ {12}- (-\S+)$", f.read(), re.M)
        self.assertGreater(len(arguments), 10)
        os.symlink(RQLITED, folder + "/rqlited")
        processes = []
        try:
            for n, pod in enumerate(pods):
                environment = {"PATH": folder + ":/usr/bin:/bin", "DATA_DIR": "%s/%s" % (folder, pod), "NODE_ID": pod,
                               "HTTP_ADDR": "127.0.9.%d:4001" % (n + 1), "RAFT_ADDR": "127.0.9.%d:4002" % (n + 1)}
                command = [a.replace("$(POD)", pod).replace("/etc/rqlite", folder) for a in arguments]
                log = open("%s/%s.log" % (folder, pod), "wb")
                processes.append(subprocess.Popen(["sh", ENTRY, *command], stdout=log, stderr=log, env=environment))
                log.close()
            end = time.monotonic() + 60
            while any(self.curl(folder, "-w", "%{http_code}", "-o", folder + "/ready", "https://%s:4001/readyz" % name) != "200" for name in names):
                if time.monotonic() > end or any(p.poll() is not None for p in processes):
                    self.fail("not ready:\n" + "".join(open("%s/%s.log" % (folder, pod)).read()[-1500:] for pod in pods))
                time.sleep(0.1)
            written = self.curl(folder, "-u", "app:change-me-app", "-H", "Content-Type: application/json", "-d", '["CREATE TABLE t(v)", "INSERT INTO t VALUES(7)"]',
                                "https://rqlite:4001/db/execute")
            self.assertIn('"rows_affected":1', written)
            for name in names:
                self.assertIn("[[7]]", self.curl(folder, "-u", "app:change-me-app", "https://%s:4001/db/query?level=linearizable&q=SELECT%%20v%%20FROM%%20t" % name))
            self.assertIn("rqlite_raft", self.curl(folder, "-u", "prometheus:change-me-prometheus", "https://rqlite:4001/metrics"))
            nodes = json.loads(self.curl(folder, "-u", "admin:change-me-admin", "https://rqlite:4001/nodes?ver=2"))["nodes"]
            self.assertEqual([(node["id"], node["reachable"]) for node in nodes], [(pod, True) for pod in pods])
        finally:
            for process in processes:
                process.send_signal(signal.SIGTERM)
            begun = time.monotonic()
            codes = [process.wait(20) for process in processes]
        self.assertEqual(codes, [0, 0, 0])
        self.assertLess(time.monotonic() - begun, 5)

    def curl(self, folder, *arguments):
        return subprocess.run(["curl", "-s", "--cacert", folder + "/tls/ca.pem", *arguments], capture_output=True, text=True, timeout=30).stdout


class Installation(unittest.TestCase):
    def test_modes_and_contents(self):
        build = os.path.dirname(os.path.dirname(os.path.abspath(RQLITED)))
        if not os.path.exists(build + "/cmake_install.cmake"):
            self.skipTest("the programs lie in no build folder")
        with tempfile.TemporaryDirectory(prefix="rq-deploy-") as prefix:
            done = subprocess.run(["sh", "-c", 'umask 077 && exec cmake --install "$1" --prefix "$2"', "sh", build, prefix + "/usr"], capture_output=True, text=True)
            self.assertEqual(done.returncode, 0, done.stderr)
            found = {}          # folders are as the umask says, files are not
            for folder, _, names in os.walk(prefix + "/usr"):
                for name in names:
                    path = os.path.join(folder, name)
                    found[os.path.relpath(path, prefix)] = os.stat(path).st_mode & 0o777
            programs = {"usr/bin/rqlited", "usr/bin/rqlite", "usr/bin/rqbench"}
            self.assertLessEqual(programs | {"usr/lib/systemd/system/rqlited.service", "usr/share/doc/rqlite/copyright"}, set(found))
            for path, mode in found.items():
                self.assertEqual(mode, 0o755 if path in programs or path.endswith(".sh") else 0o644, path)
            with open(prefix + "/usr/share/doc/rqlite/copyright") as f:
                text = f.read()
            for words in ("MIT", "OpenSSL", "Boost", "zlib", "crate raft"):
                self.assertIn(words, text)
            self.check_example(prefix + "/usr")

    def check_example(self, usr):
        """The installed example finds the installed programs."""
        script = usr + "/share/doc/rqlite/examples/three-nodes/run.sh"
        done = subprocess.run([script, "-h"], capture_output=True, text=True, env={"PATH": usr + "/bin:/usr/bin:/bin"})
        self.assertEqual((done.returncode, done.stderr), (0, ""))
        self.assertIn("rqlited: %s/bin/rqlited" % usr, done.stdout)


class Unit(unittest.TestCase):
    def test_is_well_formed(self):
        if shutil.which("systemd-analyze") is None:
            self.skipTest("no systemd-analyze")
        path = os.path.join(TOP, "packaging/rqlited.service")
        done = subprocess.run(["systemd-analyze", "verify", path], capture_output=True, text=True)
        wrong = [line for line in done.stderr.splitlines() if "rqlited.service" in line and "is not executable" not in line]
        self.assertEqual(wrong, [])


if __name__ == "__main__":
    unittest.main(argv=sys.argv)
