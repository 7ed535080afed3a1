#!/usr/bin/env python3
"""Client libraries that people use, installed by their names, against this server: `./dev clients [NAME...]`.

Each client has a program here that gets the addresses of a single node, of the leader and a follower of three nodes, and of a
node with users, runs its basic flows and prints one line a flow: `ok   NAME` or `FAIL NAME: why`. Where a client can't do a thing
with any server, its program goes around it and says so. Installed packages and built programs stay in build/clients: delete
that folder for the newest versions. What the machine lacks (a toolchain, a package) is said and skipped; a client whose program
ran no flow has failed.
"""
import argparse
import contextlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(HERE, "../cluster"))
from harness import BINARY, Cluster, Node  # noqa: E402

FOLDER = os.path.abspath(os.environ.get("RQ_CLIENTS_DIR", os.path.join(HERE, "../../build/clients")))


class Missing(Exception):
    """Something that this machine doesn't have."""


def tool(name):
    path = shutil.which(name)
    if not path:
        raise Missing("no %s on this machine" % name)
    return path


def call(what, command, cwd):
    """Runs a step of an installation; a package that is not to be had is not a failure of ours."""
    try:
        done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=600, check=False)
    except subprocess.TimeoutExpired:
        raise Missing("%s did not end within ten minutes" % what) from None
    if done.returncode != 0:
        tail = (done.stderr.strip() or done.stdout.strip()).splitlines()[-8:]
        raise Missing("%s failed:\n    %s" % (what, "\n    ".join(tail)))
    return done.stdout


class Python:
    """PyPI packages in a virtual environment."""

    def __init__(self, program, *packages):
        self.program, self.packages = program, packages

    def install(self, folder):
        python = os.path.join(folder, "venv/bin/python")
        if not os.path.exists(os.path.join(folder, "installed")):
            call("python3 -m venv", [sys.executable, "-m", "venv", os.path.join(folder, "venv")], folder)
            call("pip install", [python, "-m", "pip", "install", "-q", *self.packages], folder)
            open(os.path.join(folder, "installed"), "w").close()
        versions = {p["name"].lower().replace("_", "-"): p["version"] for p in json.loads(call("pip list", [python, "-m", "pip", "list", "--format=json"], folder))}
        name = self.packages[0].lower()
        return [python, os.path.join(HERE, self.program)], versions.get(name, "?")


class Npm:
    def __init__(self, source, package, *more):
        self.source, self.package, self.more = source, package, more

    def install(self, folder):
        node = tool("node")
        if not os.path.exists(os.path.join(folder, "node_modules", self.package)):
            patience = ["--fetch-retries=1", "--fetch-timeout=60000"]
            call("npm install", [tool("npm"), "install", "--no-audit", "--no-fund", *patience, "--prefix", folder, self.package, *self.more], folder)
        program = shutil.copy(os.path.join(HERE, self.source, "main.js"), folder)
        with open(os.path.join(folder, "node_modules", self.package, "package.json"), encoding="utf-8") as f:
            return [node, program], json.load(f)["version"]


class Go:
    def __init__(self, source, module):
        self.source, self.module = source, module

    def install(self, folder):
        go = tool("go")
        shutil.copy(os.path.join(HERE, self.source, "main.go"), folder)
        if not os.path.exists(os.path.join(folder, "go.sum")):
            with contextlib.suppress(FileNotFoundError):
                os.remove(os.path.join(folder, "go.mod"))
            call("go mod init", [go, "mod", "init", "clients.test/" + self.source], folder)
            call("go get", [go, "get", self.module], folder)
        build(["go", "build", "-o", "program", "."], folder)
        version = call("go list", [go, "list", "-m", "-f", "{{.Version}}", self.module], folder).strip()
        return [os.path.join(folder, "program")], version


class Cargo:
    def __init__(self, source, crate):
        self.source, self.crate = source, crate

    def install(self, folder):
        cargo = tool("cargo")
        shutil.copytree(os.path.join(HERE, self.source), folder, dirs_exist_ok=True)
        call("cargo fetch", [cargo, "fetch"] if not os.path.exists(os.path.join(folder, "Cargo.lock")) else [cargo, "fetch", "--locked", "--offline"], folder)
        build([cargo, "build", "-q", "--offline"], folder)
        tree = call("cargo tree", [cargo, "tree", "--offline", "--depth", "1", "--prefix", "none"], folder)
        version = next((line.split()[1].lstrip("v") for line in tree.splitlines() if line.startswith(self.crate + " ")), "?")
        return [os.path.join(folder, "target/debug/clients-" + self.source)], version


def build(command, folder):
    """Our own program doesn't compile: that is a failure."""
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise AssertionError("%s:\n%s" % (" ".join(command), done.stderr[-3000:]))


CLIENTS = {
    "pyrqlite": Python("pyrqlite_test.py", "pyrqlite"),
    "rqdb": Python("rqdb_test.py", "rqdb"),
    "sqlalchemy-rqlite": Python("sqlalchemy_test.py", "sqlalchemy-rqlite"),
    "rqlite-js": Npm("rqlite-js", "rqlite-js", "@babel/runtime"),  # it needs that and doesn't say so
    "gorqlite": Go("gorqlite", "github.com/rqlite/gorqlite"),
    "rqlite-rs": Cargo("rqlite-rs", "rqlite-rs"),
}

USERS = [{"username": "app", "password": "pw-app", "perms": ["all"]}, {"username": "reader", "password": "pw-reader", "perms": ["query"]}]


@contextlib.contextmanager
def servers():
    """Addresses for the programs' environment; all nodes are new."""
    base = tempfile.mkdtemp(prefix="rq-clients-")
    auth = os.path.join(base, "auth.json")
    with open(auth, "w", encoding="utf-8") as f:
        json.dump(USERS + [{"username": "*", "perms": ["ready"]}], f)
    with Cluster(3, base=base) as cluster:
        single, guarded = Node(base, "single"), Node(base, "guarded", ["-auth", auth])
        try:
            cluster.start()
            for node in (single, guarded):
                node.start().wait_ready()
            yield {"RQ_SINGLE": single.http_addr, "RQ_AUTH": guarded.http_addr, "RQ_LEADER": cluster.leader().http_addr,
                   "RQ_FOLLOWER": cluster.followers()[0].http_addr, "RQLITED_PATH": BINARY}
        finally:
            single.kill()
            guarded.kill()


def run(name, client):
    """(outcome, version, flows passed, flows failed, seconds)"""
    begun = time.monotonic()
    folder = os.path.join(FOLDER, name)
    os.makedirs(folder, exist_ok=True)
    try:
        command, version = client.install(folder)
    except Missing as reason:
        print("skipped: %s" % reason, flush=True)
        return "skipped", "-", 0, 0, time.monotonic() - begun
    except AssertionError as reason:
        print("FAIL %s" % reason, flush=True)
        return "failed", "-", 0, 1, time.monotonic() - begun
    with servers() as addresses:
        environment = {k: v for k, v in os.environ.items() if not k.lower().endswith("_proxy")}
        done = subprocess.run(command, cwd=folder, env={**environment, **addresses}, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=300, check=False)
    text = done.stdout.decode("utf-8", "replace")
    print(text, end="", flush=True)
    count = lambda mark: sum(1 for line in text.splitlines() if line.startswith(mark + " "))  # noqa: E731
    passed, failed = count("ok"), count("FAIL")
    if done.returncode != 0 and failed == 0 or passed == 0:
        failed += 1
        print("FAIL the program ended with code %d" % done.returncode)
    return "failed" if failed else "passed", version, passed, failed, time.monotonic() - begun


def main():
    parser = argparse.ArgumentParser(description="Client libraries against this server.")
    parser.add_argument("--install", action="store_true", help="install and build only")
    parser.add_argument("name", nargs="*", help="which clients (all): " + ", ".join(CLIENTS))
    arguments = parser.parse_args()
    unknown = [n for n in arguments.name if n not in CLIENTS]
    if unknown:
        parser.error("unknown: %s" % ", ".join(unknown))
    table = []
    for name in arguments.name or CLIENTS:
        print("==> %s" % name, flush=True)
        if arguments.install:
            os.makedirs(os.path.join(FOLDER, name), exist_ok=True)
            try:
                print(CLIENTS[name].install(os.path.join(FOLDER, name))[1])
            except Missing as reason:
                print("skipped: %s" % reason, flush=True)
            continue
        table.append((name, *run(name, CLIENTS[name])))
    if not arguments.install:
        print("\n%-20s %-40s %-8s %6s %6s %7s" % ("client", "version", "outcome", "passed", "failed", "seconds"))
        for name, outcome, version, passed, failed, seconds in table:
            print("%-20s %-40s %-8s %6d %6d %7.1f" % (name, version, outcome, passed, failed, seconds))
        outcomes = [row[1] for row in table]
        print("clients: %d passed, %d failed, %d skipped" % tuple(outcomes.count(o) for o in ("passed", "failed", "skipped")))
        sys.exit(1 if "failed" in outcomes else 0)


if __name__ == "__main__":
    main()
