"""Faults, and their ends. Each is a function of Nemesis: it does harm, waits, and undoes it.

What needs all nodes that are left (another disk, another member) waits for the others to be whole first, as an operator would.
"""
import contextlib
import os
import shutil
import signal
import sqlite3
import tempfile
import time

import harness
from harness import wait_for

NEXT = os.environ.get("RQLITED_NEXT", "")
SHORT = (0.2, 2.5)                      # seconds that most faults last


class Nemesis:
    def __init__(self, cluster, rng, kinds, note):
        self.cluster, self.network, self.rng, self.kinds, self.note = cluster, cluster.network, rng, kinds, note
        self.harmed = 0.0
        self.events = []                # (moment of the harm, end, kind, took the majority away)
        self.problems = []              # what an operator would call a failure: a node that doesn't come back
        self.backups = []               # files

    # --- the loop
    def run(self, seconds):
        end = time.monotonic() + seconds
        while time.monotonic() < end and not self.problems:
            kind = self.rng.choice(self.kinds)
            self.note("fault " + kind)
            self.harmed = time.monotonic()
            quorum_lost = False
            try:
                quorum_lost = bool(getattr(self, kind)())
            except AssertionError as error:
                self.problems.append("%s: %s" % (kind, error))
            self.events.append((self.harmed, time.monotonic(), kind, quorum_lost))
            self.pause(0.2, 1.5)

    def pause(self, low, high):
        time.sleep(self.rng.uniform(low, high))

    def mark(self):
        """The harm is done now: recovery counts from here."""
        self.harmed = time.monotonic()

    def some(self, most=None):
        """Nodes that together leave a majority whole; now and then more than that."""
        nodes = self.cluster.members()
        minority = (len(nodes) - 1) // 2
        count = len(nodes) if self.rng.random() < 0.1 else self.rng.randint(1, max(1, minority))
        return self.rng.sample(nodes, min(count, most or count))

    def quorum_lost(self, hit):
        nodes = self.cluster.members()
        return len(nodes) - len(hit) <= len(nodes) // 2

    def leader(self):
        with contextlib.suppress(AssertionError):
            return wait_for(lambda: next((n for n in self.cluster.members() if n.alive() and n.json("GET", "/status", timeout=1)["store"]["raft"]["state"] == "Leader"),
                                         None), "a leader", 5)
        return self.rng.choice(self.cluster.members())

    def whole(self):
        """Waits until every member runs and is ready."""
        for node in self.cluster.members():
            node.wait_ready(90)

    def one(self):
        return self.leader() if self.rng.random() < 0.5 else self.rng.choice(self.cluster.members())

    # --- processes
    def kill_all(self, nodes):
        """kill -9, and the moment of it: an election may be over before the processes' remains are gone."""
        for node in nodes:
            node.wanted = False
            node.process.kill()
        self.mark()
        for node in nodes:
            node.kill()

    def kill(self):
        hit = self.some()
        self.kill_all(hit)
        self.pause(*SHORT)
        for node in hit:
            node.launch()
        return self.quorum_lost(hit)

    def kill_leader(self):
        node = self.leader()
        self.kill_all([node])
        self.pause(*SHORT)
        node.launch()

    def pause_process(self):
        hit = self.some() if self.rng.random() < 0.5 else [self.leader()]
        for node in hit:
            node.process.send_signal(signal.SIGSTOP)
        self.mark()
        self.pause(*SHORT)
        for node in hit:
            node.process.send_signal(signal.SIGCONT)
        return self.quorum_lost(hit)

    def restart(self):
        node = self.one()
        self.mark()
        code = node.stop(seconds=60)
        if code != 0:
            raise AssertionError("%s ended with %s after SIGTERM" % (node.id, code))
        node.launch()

    def other_engine(self):
        """Up- and downgrades: two engines in one cluster."""
        node = self.one()
        self.mark()
        node.stop(seconds=60)
        node.binary = self.rng.choice([harness.BINARY, NEXT])
        node.launch().wait_ready(90)

    def rolling_restart(self):
        for node in self.cluster.members():
            node.stop(seconds=60)
            node.launch().wait_ready(90)

    # --- network
    def between(self, cuts):
        for a, b in cuts:
            self.network.cut(a, b)
        self.mark()
        self.pause(*SHORT)
        for a, b in cuts:
            self.network.mend(a, b)

    def partition(self):
        nodes, left = self.cluster.members(), self.some()
        if len(left) == len(nodes):
            left = left[:1]
        right = [n for n in nodes if n not in left]
        self.between([pair for a in left for b in right for pair in ((a, b), (b, a))])

    def isolate_leader(self):
        leader = self.leader()
        self.between([pair for n in self.cluster.members() if n is not leader for pair in ((leader, n), (n, leader))])

    def one_way(self):
        node, out = self.one(), self.rng.random() < 0.5
        self.between([(node, n) if out else (n, node) for n in self.cluster.members() if n is not node])

    def bridge(self):
        """Two halves that only one node can talk to."""
        nodes = self.rng.sample(self.cluster.members(), len(self.cluster.members()))
        left, right = nodes[1:1 + len(nodes) // 2], nodes[1 + len(nodes) // 2:]
        self.between([pair for a in left for b in right for pair in ((a, b), (b, a))])

    def flicker(self):
        """Links that are gone for moments: what loss looks like to TCP."""
        node, end = self.one(), time.monotonic() + self.rng.uniform(*SHORT)
        while time.monotonic() < end:
            other = self.rng.choice([n for n in self.cluster.members() if n is not node])
            pair = (node, other) if self.rng.random() < 0.5 else (other, node)
            self.network.cut(*pair)
            self.pause(0.01, 0.15)
            self.network.mend(*pair)

    def slow_network(self):
        hit = self.some()
        for node in hit:
            self.network.slow(node, self.rng)
        self.mark()
        self.pause(*SHORT)
        for node in hit:
            self.network.mend_slow(node)

    # --- disks
    def full_disk(self):
        hit = self.some() if self.rng.random() < 0.5 else [self.leader()]
        for node in hit:
            node.fill_disk()
        self.mark()
        self.pause(*SHORT)
        for node in hit:
            node.free_disk()
        return self.quorum_lost(hit)

    def wiped_disk(self):
        """The same node id with an empty directory: replaced by itself."""
        self.whole()
        node = self.one()
        self.kill_all([node])
        shutil.rmtree(node.dir)
        node.launch(fresh=True).wait_ready(90)
        self.whole()

    # --- members
    def grow_and_shrink(self):
        self.whole()
        node = self.cluster.add()
        node.launch(fresh=True).wait_ready(90)
        self.pause(*SHORT)
        self.whole()
        self.remove(self.one())

    def read_replica(self):
        """Joins, is killed now and then, and leaves: never a voter."""
        self.whole()
        node = self.cluster.add()
        node.args += ["-raft-non-voter"]
        node.launch(fresh=True).wait_ready(90)
        self.pause(*SHORT)
        if self.rng.random() < 0.5:
            node.kill()
            self.snapshot()
            node.launch().wait_ready(90)
        self.remove(node)

    def remove(self, gone):
        asked = self.rng.choice([n for n in self.cluster.members() if n is not gone])
        self.cluster.retire(gone)
        self.mark()
        wait_for(lambda: asked.request("DELETE", "/remove", {"id": gone.id}, timeout=10)[0] == 200, "removal of %s" % gone.id, 60)
        gone.kill()
        self.cluster.forget(gone)

    def transfer(self):
        for _ in range(self.rng.randint(1, 4)):
            with contextlib.suppress(OSError, harness.http.client.HTTPException):
                self.rng.choice(self.cluster.members()).request("POST", "/leader?wait", {"id": self.rng.choice(self.cluster.members()).id}, timeout=5)
            self.pause(0.05, 0.5)

    # --- files
    def snapshot(self):
        for node in self.cluster.members():
            with contextlib.suppress(OSError, harness.http.client.HTTPException):
                node.request("POST", "/snapshot?trailing_logs=%d" % self.rng.choice((0, 1, 10, 1000)), timeout=10)

    def late_node(self):
        """Away until the others' logs begin behind its end: it has to take an image."""
        node = self.one()
        self.kill_all([node])
        self.pause(*SHORT)
        for other in self.cluster.members():
            if other is not node:
                with contextlib.suppress(OSError, harness.http.client.HTTPException):
                    other.request("POST", "/snapshot?trailing_logs=1", timeout=10)
        node.launch()
        if self.rng.random() < 0.5:
            self.pause(0.05, 0.6)
            node.kill()                 # in the middle of it, perhaps
            node.launch()

    def vacuum(self):
        with contextlib.suppress(OSError, harness.http.client.HTTPException):
            self.rng.choice(self.cluster.members()).request("POST", "/db/execute?timeout=10s", ["VACUUM"], timeout=15)

    def big_write(self):
        """One entry that spills, and its end: pages become free."""
        with contextlib.suppress(OSError, harness.http.client.HTTPException):
            node = self.rng.choice(self.cluster.members())
            node.request("POST", "/db/execute?timeout=10s", ["CREATE TABLE IF NOT EXISTS big(b)", "DELETE FROM big",
                         "WITH RECURSIVE c(n) AS (SELECT 1 UNION ALL SELECT n+1 FROM c WHERE n<%d) INSERT INTO big SELECT randomblob(1000) FROM c"
                         % self.rng.choice((10, 500, 4000))], timeout=15)

    def backup(self):
        """A whole database while all goes on; it must be one committed state (the sum of the bank's accounts says so)."""
        node = self.rng.choice(self.cluster.members())
        try:
            connection = harness.http.client.HTTPConnection(node.host, node.http, timeout=10)
            connection.request("GET", "/db/backup" + self.rng.choice(("", "?noleader", "?vacuum")))
            response = connection.getresponse()
            data = response.read()
            connection.close()
        except (OSError, harness.http.client.HTTPException):
            return
        if response.status != 200:
            return
        with tempfile.NamedTemporaryFile(suffix=".sqlite") as f:
            f.write(data)
            f.flush()
            with contextlib.closing(sqlite3.connect(f.name)) as db:
                found = db.execute("PRAGMA quick_check").fetchall()
                if found != [("ok",)]:
                    raise AssertionError("a backup of %s is malformed: %s" % (node.id, found[:3]))
                if db.execute("SELECT 1 FROM sqlite_schema WHERE name='account'").fetchall():
                    self.backups.append(("backup of " + node.id, [r[0] for r in db.execute("SELECT balance FROM account")]))


PROCESS = ["kill", "kill_leader", "pause_process", "restart", "rolling_restart"]
NETWORK = ["partition", "isolate_leader", "one_way", "bridge", "flicker", "slow_network"]
MEMBERS = ["wiped_disk", "grow_and_shrink", "read_replica", "transfer"]
FILES = ["snapshot", "late_node", "vacuum", "big_write", "backup"]
ALL = PROCESS + NETWORK + MEMBERS + FILES + ["full_disk"] + (["other_engine"] if NEXT else [])
