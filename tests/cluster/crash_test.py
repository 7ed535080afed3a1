#!/usr/bin/env python3
"""kill -9 at every n-th call that changes a file, in everything that moves whole databases or cuts logs. strace does the killing: the product
knows nothing of it. After each kill the node must start as if nothing had been, with every acknowledged write done once.

usage: crash_test.py [--stride N] [name...]     (--stride 5: every fifth call, from a random one on)
"""
import argparse
import contextlib
import json
import os
import random
import shutil
import sqlite3
import subprocess
import sys
import time

from harness import BINARY, Cluster, assert_equal_databases, wait_for

CALLS = ["pwrite64", "pwritev", "fdatasync", "fsync", "ftruncate", "fallocate", "rename", "unlink", "link", "mkdir"]
KILLS_MAX = 1000                       # of one call; no action makes so many in one thread: then something loops


def killer(when):
    """Of each thread, the n-th call of that kind is the last one."""
    call, n = when
    return ["strace", "-f", "-o", "/dev/null", "-e", "trace=" + call, "-e", "inject=%s:signal=SIGKILL:when=%d" % (call, n)]


@contextlib.contextmanager
def killed_at(node, when):
    """For a node that runs already."""
    tracer = subprocess.Popen(killer(when) + ["-p", str(node.process.pid)], stderr=subprocess.PIPE, text=True)
    assert "attached" in tracer.stderr.readline()
    try:
        yield
    finally:
        # It may wait for a leader of threads that is a zombie already; the kernel lets go of all when it dies.
        tracer.kill()
        tracer.wait()
        tracer.stderr.close()


def is_dead(node):
    """A process that was killed takes a moment to be gone."""
    def settled():
        return not node.alive() or node.ready()
    wait_for(settled, "the node to be dead or well")
    return not node.alive()


class Ledger:
    """A counter and a chain that move together, one acknowledged step at a time."""

    def __init__(self, node):
        self.count = 0
        node.execute("CREATE TABLE c(n)", "INSERT INTO c VALUES(0)", "CREATE TABLE chain(id INTEGER PRIMARY KEY, before, filler)",
                     "INSERT INTO chain VALUES(0, -1, '')")

    def step(self, node):
        """True: acknowledged."""
        try:
            status, body = node.request("POST", "/db/execute?transaction",
                                        ["UPDATE c SET n=n+1", "INSERT INTO chain SELECT max(id)+1, max(id), randomblob(3000) FROM chain"], timeout=10)
        except OSError:
            return False
        if status != 200 or "error" in body:
            return False
        self.count += 1
        return True

    def check(self, node, maybe):
        """`maybe`: a step whose answer didn't come may have been done."""
        [[n, last, rows, links]] = node.rows("SELECT (SELECT n FROM c), max(id), count(*), sum(before = id - 1) FROM chain", level="strong")
        assert n == last == rows - 1 == links - 1, (n, last, rows, links)
        assert n == self.count or (maybe and n == self.count + 1), "%d acknowledged, %d there" % (self.count, n)
        self.count = n
        assert node.rows("PRAGMA integrity_check") == [["ok"]]


def each_call(stride, attempt):
    """Tries (call, 1), (call, 2) ... of each call until the process survives: then it makes no more of them. The number of kills."""
    kills = 0
    for call in CALLS:
        n = 1 if stride == 1 else random.randrange(1, stride + 1)
        while attempt((call, n)):
            kills += 1
            n += stride
            assert n < KILLS_MAX
    return kills


def single(act):
    """act(node, ledger) on a running node, killed somewhere in it; the value: whether a step may be done unacknowledged."""
    def run(stride):
        with Cluster(1) as c:
            node = c.start().nodes[0]
            ledger = Ledger(node)
            def attempt(when):
                with killed_at(node, when):
                    maybe = act(node, ledger)
                died = is_dead(node)
                if died:
                    node.start().wait_ready()
                ledger.check(node, maybe and died)
                return died
            return each_call(stride, attempt)
    return run


def snapshot(node, ledger):
    maybe = not all([ledger.step(node) for _ in range(3)])
    with contextlib.suppress(OSError):
        node.request("POST", "/snapshot?trailing_logs=1", timeout=20)
    return maybe or not ledger.step(node)


def vacuum(node, ledger):
    with contextlib.suppress(OSError):
        node.request("POST", "/db/execute", ["VACUUM"], timeout=20)
    return not ledger.step(node)


def load_by(path):
    """The database is replaced by an image in which the counter stands elsewhere: old or new, nothing between."""
    def act(node, ledger):
        image = node.dir + "-image"
        with contextlib.suppress(FileNotFoundError):
            os.remove(image)
        target = ledger.count + 1000
        with contextlib.closing(sqlite3.connect(image)) as db:
            db.executescript("CREATE TABLE c(n); INSERT INTO c VALUES(%d); CREATE TABLE chain(id INTEGER PRIMARY KEY, before, filler);"
                             "WITH RECURSIVE s(i) AS (SELECT 0 UNION ALL SELECT i+1 FROM s WHERE i<%d) INSERT INTO chain SELECT i, i-1, '' FROM s" % (target, target))
        with open(image, "rb") as f:
            data = f.read()
        try:
            status, body = node.request("POST", path, data, timeout=20)
            done = status == 200
        except OSError:
            done = False
        if done:
            ledger.count = target
        else:
            wait_for(lambda: not node.alive(), "the death of the node that didn't answer")
            node.start().wait_ready()
            if node.rows("SELECT n FROM c", level="strong") == [[target]]:
                ledger.count = target
            ledger.check(node, False)
            node.kill()
        return False
    return act


def stop(stride):
    with Cluster(1) as c:
        node = c.start().nodes[0]
        ledger = Ledger(node)
        def attempt(when):
            ledger.step(node)
            with killed_at(node, when):
                code = node.stop()
            node.start().wait_ready()
            ledger.check(node, False)
            return code != 0
        return each_call(stride, attempt)


def start(stride):
    """A start behind a kill -9, killed itself; then the next one."""
    with Cluster(1) as c:
        node = c.start().nodes[0]
        ledger = Ledger(node)
        def attempt(when):
            for _ in range(3):
                assert ledger.step(node)
            node.kill()
            node.start(prefix=killer(when))
            died = is_dead(node)
            if not died:
                subprocess.run(["pkill", "-KILL", "-P", str(node.process.pid)], check=True)
                node.process.wait()
            node.start().wait_ready()
            ledger.check(node, False)
            return died
        return each_call(stride, attempt)


def install(stride):
    """A member with an empty disk joins, fetches the database, and dies while it does."""
    with Cluster(3) as c:
        leader, _, other = c.start().nodes
        ledger = Ledger(leader)
        for _ in range(70):
            assert ledger.step(leader)
        def attempt(when):
            assert ledger.step(leader)
            if other.alive():
                other.stop()
            shutil.rmtree(other.dir)
            def follows():
                return other.alive() and other.ready() and other.applied() >= leader.applied()
            other.start(join=[leader.raft_addr], prefix=killer(when))
            wait_for(lambda: not other.alive() or follows(), "the member to die or to follow", 60)
            died = not other.alive()
            if not died:
                subprocess.run(["pkill", "-KILL", "-P", str(other.process.pid)], check=True)
                other.process.wait()
            other.start(join=[leader.raft_addr]).wait_ready(60)
            wait_for(follows, "the member follows", 30)
            ledger.check(leader, False)
            assert other.rows("SELECT n FROM c", level="none") == [[ledger.count]]
            return died
        kills = each_call(stride, attempt)
        assert_equal_databases(c)
        return kills


def recover(stride):
    """`rqlited recover -peers` dies anywhere: it is run again, and the node starts alone with all that it knew."""
    with Cluster(2) as c:
        survivor, lost = c.start().nodes
        ledger = Ledger(survivor)
        for _ in range(5):
            assert ledger.step(survivor)
        c.wait_equal_index()
        lost.kill()
        survivor.kill()
        peers = os.path.join(c.base, "peers")
        with open(peers, "w") as f:
            json.dump([{"id": survivor.id, "address": survivor.raft_addr, "non_voter": False}], f)
        original = survivor.dir + "-original"
        shutil.copytree(survivor.dir, original)
        def attempt(when):
            shutil.rmtree(survivor.dir)
            shutil.copytree(original, survivor.dir)
            command = [BINARY, "recover", "-peers", peers, survivor.dir]
            died = subprocess.run(killer(when) + command, capture_output=True, timeout=60).returncode != 0
            if died:
                again = subprocess.run(command, capture_output=True, text=True, timeout=60)
                assert again.returncode == 0, again.stderr
            survivor.start().wait_ready()
            ledger.check(survivor, False)
            survivor.kill()
            return died
        return each_call(stride, attempt)


ACTIONS = {"snapshot": single(snapshot), "vacuum": single(vacuum), "load": single(load_by("/db/load")), "boot": single(load_by("/boot")),
           "stop": stop, "start": start, "install": install, "recover": recover}


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--stride", type=int, default=1)
    parser.add_argument("names", nargs="*")
    a = parser.parse_args()
    if shutil.which("strace") is None or subprocess.run(killer(("mkdir", 1000)) + ["true"], capture_output=True).returncode != 0:
        print("strace can't trace here\ncrash: 0 passed, 0 failed, %d skipped" % len(ACTIONS))
        return
    failed = 0
    names = a.names or list(ACTIONS)
    for name in names:
        begun = time.monotonic()
        try:
            kills = ACTIONS[name](a.stride)
            print("ok   %-10s %4d kills, %.1f s" % (name, kills, time.monotonic() - begun), flush=True)
        except Exception as error:
            failed += 1
            print("FAIL %-10s %s: %s" % (name, type(error).__name__, str(error)[:1500]), flush=True)
    print("crash: %d passed, %d failed" % (len(names) - failed, failed))
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
