"""Clients that write and read all the time through all nodes, and keep what they saw for the checkers.

Every answer but a clear success means "maybe". Each workload has tables of its own, so one run carries all of them.
"""
import contextlib
import http.client
import json
import random
import sqlite3
import tempfile
import threading
import time

import checkers
from checkers import INFINITY, Op

READ_LEVELS = ("linearizable", "strong")


class Failed(Exception):
    """Not a clear success: the call may have taken effect or not."""


class Client:
    """One thread's connections, one for each node."""

    def __init__(self, timeout):
        self.timeout, self.connections = timeout, {}

    def call(self, node, path, body, content="application/json"):
        key = (node.host, node.http)
        connection = self.connections.pop(key, None) or http.client.HTTPConnection(node.host, node.http, timeout=self.timeout)
        try:
            connection.request("POST", path, body if isinstance(body, bytes) else json.dumps(body), {"Content-Type": content})
            response = connection.getresponse()
            text = response.read()
        except (OSError, http.client.HTTPException) as error:
            connection.close()
            raise Failed(str(error)) from error
        self.connections[key] = connection
        if response.status != 200:
            raise Failed("%d %s" % (response.status, text[:200]))
        answer = json.loads(text)
        errors = [answer.get("error")] + [r.get("error") for r in answer.get("results", [])]
        if any(errors):
            raise Failed(str(next(e for e in errors if e)))
        return answer.get("results", [])

    def execute(self, node, *statements, query=""):
        return self.call(node, "/db/execute?timeout=%ds%s" % (self.timeout, query), list(statements))

    def rows(self, node, *statements, level):
        return [r.get("values", []) for r in self.call(node, "/db/query?timeout=%ds&level=%s" % (self.timeout, level), list(statements))]

    def close(self):
        for connection in self.connections.values():
            connection.close()


class Workload:
    """run_once() makes one call; tables() are the statements that make the tables; check() wants the final rows by `ask`."""
    threads = 1
    pause = 0.01                        # between calls of one thread: two cores are shared with the nodes

    def __init__(self):
        self.lock, self.next = threading.Lock(), 0

    def number(self):
        with self.lock:
            self.next += 1
            return self.next


class Counter(Workload):
    """n = n+1 beside a row with the call's own id, in one transaction; the rows also hold what each node would choose by itself."""
    threads = 2

    def __init__(self):
        super().__init__()
        self.acknowledged, self.maybe = set(), set()

    def tables(self):
        return ["CREATE TABLE counter(n INTEGER)", "INSERT INTO counter VALUES(0)",
                "CREATE TABLE counted(id INTEGER, r, t DEFAULT CURRENT_TIMESTAMP, blob)", "CREATE INDEX counted_r ON counted(r)"]

    def run_once(self, client, node, rng):
        i = self.number()
        with self.lock:
            self.maybe.add(i)
        client.execute(node, "UPDATE counter SET n=n+1", ["INSERT INTO counted(id, r, blob) VALUES(?, random(), randomblob(?))", i, rng.randint(0, 3000)],
                       query="&transaction")
        with self.lock:
            self.acknowledged.add(i)
        return True

    def check(self, ask):
        return checkers.counter(ask("SELECT n FROM counter")[0][0], [r[0] for r in ask("SELECT id FROM counted")], self.acknowledged, self.maybe)


class Bank(Workload):
    accounts, each = 8, 100
    threads = 2

    def __init__(self):
        super().__init__()
        self.reads = []

    def tables(self):
        return ["CREATE TABLE account(id INTEGER PRIMARY KEY, balance INTEGER)"] + \
               ["INSERT INTO account VALUES(%d, %d)" % (i, self.each) for i in range(self.accounts)]

    def run_once(self, client, node, rng):
        if rng.random() < 0.4:
            level = rng.choice(READ_LEVELS + ("none", "weak"))
            rows = client.rows(node, "SELECT balance FROM account", level=level)[0]
            with self.lock:
                self.reads.append(("%s of %s" % (level, node.id), [r[0] for r in rows]))
            return False
        a, b = rng.sample(range(self.accounts), 2)
        amount = rng.randint(1, 20)
        client.execute(node, ["UPDATE account SET balance=balance-? WHERE id=?", amount, a],
                       ["UPDATE account SET balance=balance+? WHERE id=?", amount, b], query="&transaction")
        return True

    def check(self, ask):
        final = ("at the end", [r[0] for r in ask("SELECT balance FROM account")])
        empty = [w for w, balances in self.reads if not balances and "none" not in w]       # a fresh node may have no table's rows yet
        reads = [r for r in self.reads if r[1]] + [final]
        return checkers.bank(reads, self.accounts * self.each) + ["no accounts (%s)" % w for w in empty]


class Registers(Workload):
    """Few keys at a time, each left behind after `calls_max` calls, so that each history is short enough for the search."""
    threads, keys, calls_max = 4, 2, 120

    def __init__(self):
        super().__init__()
        self.histories = {}             # key -> ops
        self.serial = 0
        self.live = [self.fresh() for _ in range(self.keys)]
        self.undecided = 0

    def fresh(self):
        self.serial += 1
        self.histories[self.serial] = []
        return self.serial

    def tables(self):
        return ["CREATE TABLE register(k INTEGER PRIMARY KEY, v INTEGER)"]

    def run_once(self, client, node, rng):
        with self.lock:
            place = rng.randrange(self.keys)
            if len(self.histories[self.live[place]]) >= self.calls_max:
                self.live[place] = self.fresh()
            key = self.live[place]
        kind, value = rng.choice(("read", "read", "write", "cas")), self.number()
        start = time.monotonic()
        if kind == "read":
            rows = client.rows(node, ["SELECT v FROM register WHERE k=?", key], level=rng.choice(READ_LEVELS))[0]
            self.note(key, Op("read", start, time.monotonic(), rows[0][0] if rows else None))
            return False
        expected = None
        if kind == "cas":
            rows = client.rows(node, ["SELECT v FROM register WHERE k=?", key], level="weak")[0]
            if not rows:
                return False
            expected, start = rows[0][0], time.monotonic()
        end, changed = INFINITY, True
        try:
            if kind == "write":
                client.execute(node, ["INSERT OR REPLACE INTO register(k, v) VALUES(?, ?)", key, value])
            else:
                result = client.execute(node, ["UPDATE register SET v=? WHERE k=? AND v=?", value, key, expected])
                changed = result[0].get("rows_affected", 0) == 1
            end = time.monotonic()
            return True
        finally:
            if changed:
                self.note(key, Op(kind, start, end, value, expected))

    def note(self, key, op):
        with self.lock:
            self.histories[key].append(op)

    def check(self, ask):
        bad, final = [], dict(ask("SELECT k, v FROM register"))
        now = time.monotonic()
        for key, ops in self.histories.items():
            try:
                bad += ["register %d: %s" % (key, text) for text in checkers.register(ops + [Op("read", now, now, final.get(key))])]
            except checkers.Undecided:
                self.undecided += 1
        return bad


class Lists(Workload):
    threads, keys, length_max = 2, 2, 150

    def __init__(self):
        super().__init__()
        self.histories, self.serial = {}, 0
        self.live = [self.fresh() for _ in range(self.keys)]

    fresh = Registers.fresh
    note = Registers.note

    def tables(self):
        return ["CREATE TABLE list(k INTEGER PRIMARY KEY, v TEXT)"]

    def run_once(self, client, node, rng):
        with self.lock:
            place = rng.randrange(self.keys)
            if len(self.histories[self.live[place]]) >= self.length_max:
                self.live[place] = self.fresh()
            key = self.live[place]
        start = time.monotonic()
        if rng.random() < 0.4:
            rows = client.rows(node, ["SELECT v FROM list WHERE k=?", key], level=rng.choice(READ_LEVELS))[0]
            self.note(key, Op("read", start, time.monotonic(), self.elements(rows[0][0] if rows else "")))
            return False
        value, end = self.number(), INFINITY
        try:
            client.execute(node, ["INSERT INTO list(k, v) VALUES(?, ?) ON CONFLICT(k) DO UPDATE SET v = v || ',' || excluded.v", key, str(value)])
            end = time.monotonic()
            return True
        finally:
            self.note(key, Op("append", start, end, value))

    @staticmethod
    def elements(text):
        return [int(v) for v in text.split(",")] if text else []

    def check(self, ask):
        final = dict(ask("SELECT k, v FROM list"))
        return ["list %d: %s" % (key, text) for key, ops in self.histories.items()
                for text in checkers.appended_list(ops, self.elements(final.get(key, "")))]


class Chain(Workload):
    """Each row holds the hash of the one before it; written only where that one is still the last."""
    def __init__(self):
        super().__init__()
        self.acknowledged = set()

    def tables(self):
        return ["CREATE TABLE chain(seq INTEGER, prev TEXT, v TEXT, hash TEXT)"]

    def run_once(self, client, node, rng):
        rows = client.rows(node, "SELECT seq, hash FROM chain ORDER BY seq DESC LIMIT 1", level=rng.choice(READ_LEVELS))[0]
        before, previous = rows[0] if rows else (0, "")
        value = "%x" % rng.getrandbits(64)
        own = checkers.link(previous, before + 1, value)
        result = client.execute(node, ["INSERT INTO chain(seq, prev, v, hash) SELECT ?, ?, ?, ? WHERE (SELECT coalesce(max(seq), 0) FROM chain) = ?",
                                       before + 1, previous, value, own, before])
        if result[0].get("rows_affected") == 1:
            self.acknowledged.add(own)
        return True

    def check(self, ask):
        return checkers.chained_rows([tuple(r) for r in ask("SELECT seq, prev, v, hash FROM chain ORDER BY seq")], self.acknowledged)


class Probe(Workload):
    """One small write after another through each node; its successes tell the availability."""
    threads, pause = 0, 0.02            # 0: one for each node

    def tables(self):
        return ["CREATE TABLE probe(id INTEGER PRIMARY KEY, n)", "INSERT INTO probe VALUES(1, 0)"]

    def run_once(self, client, node, rng):
        client.execute(node, ["UPDATE probe SET n=? WHERE id=1", self.number()])
        return True

    def check(self, ask):
        return []


class Loads(Workload):
    """Whole databases loaded over what is there, while rows are inserted; instead of the other workloads."""
    threads, pause = 3, 0.02

    def __init__(self):
        super().__init__()
        self.loads, self.inserts, self.generations = {0: Op("load", 0, 0, 0)}, {}, []
        self.loading = threading.Lock()
        self.last_load = 0.0
        self.undecided = 0

    def tables(self):
        return ["CREATE TABLE generation(g INTEGER)", "INSERT INTO generation VALUES(0)", "CREATE TABLE loaded(id INTEGER, g INTEGER)"] + Probe().tables()

    def image(self, generation):
        with tempfile.NamedTemporaryFile(suffix=".sqlite") as f:
            with contextlib.closing(sqlite3.connect(f.name)) as db:
                for statement in self.tables():
                    db.execute(statement)
                db.execute("UPDATE generation SET g=?", (generation,))
                db.execute("CREATE TABLE filler(b)")
                db.executemany("INSERT INTO filler VALUES(randomblob(?))", [(1000,)] * (50 + generation * 20 % 2000))
                db.commit()
            return f.read()

    def run_once(self, client, node, rng):
        if time.monotonic() - self.last_load > 1.5 and self.loading.acquire(blocking=False):
            try:
                generation = self.number()
                image, start = self.image(generation), time.monotonic()
                self.loads[generation] = Op("load", start, INFINITY, generation)
                client.call(node, "/db/load", image, "application/octet-stream")
                self.loads[generation] = Op("load", start, time.monotonic(), generation)
                return True
            finally:
                self.last_load = time.monotonic()
                self.loading.release()
        start = time.monotonic()
        if rng.random() < 0.3:
            rows = client.rows(node, "SELECT g FROM generation", level=rng.choice(READ_LEVELS))[0]
            with self.lock:
                self.generations.append(Op("read", start, time.monotonic(), rows[0][0]))
            return False
        i = self.number()
        client.execute(node, ["INSERT INTO loaded SELECT ?, g FROM generation", i])
        with self.lock:
            self.inserts[i] = Op("insert", start, time.monotonic(), i)
        return True

    def check(self, ask):
        generation = ask("SELECT g FROM generation")[0][0]
        bad = checkers.loads([tuple(r) for r in ask("SELECT id, g FROM loaded")], generation, self.loads, self.inserts)
        writes = [Op("write", op.start, op.end, g) for g, op in self.loads.items() if g != 0]
        now = time.monotonic()
        try:
            # The search is bounded; reads that add nothing (same value, not the first or last of its run) are left out.
            reads = sorted(self.generations, key=lambda op: op.start)
            thinned = [op for i, op in enumerate(reads) if i in (0, len(reads) - 1) or not reads[i - 1].value == op.value == reads[i + 1].value]
            bad += ["loads: " + text for text in checkers.register(writes + thinned + [Op("read", now, now, generation)], initial=0)]
        except checkers.Undecided:
            self.undecided += 1
        return bad


class Clients:
    """Runs the workloads' threads against what `nodes()` lists. successes: (sent, done) of acknowledged writes."""

    def __init__(self, workloads, nodes, seed, timeout):
        self.workloads, self.nodes, self.timeout = workloads, nodes, timeout
        self.stopping, self.lock = threading.Event(), threading.Lock()
        self.successes, self.failures, self.calls, self.broken = [], {}, 0, []
        jobs = [(w, None) for w in workloads for _ in range(w.threads)]
        jobs += [(w, place) for w in workloads if w.threads == 0 for place in range(len(nodes()))]
        self.threads = [threading.Thread(target=self.run, args=(w, place, random.Random("%s/%d" % (seed, i))), daemon=True)
                        for i, (w, place) in enumerate(jobs)]

    def __enter__(self):
        for thread in self.threads:
            thread.start()
        return self

    def __exit__(self, *_):
        self.stopping.set()
        for thread in self.threads:
            thread.join(self.timeout * 4 + 30)
        if any(thread.is_alive() for thread in self.threads):
            self.broken.append("a client's call never ended")

    def run(self, workload, place, rng):
        client = Client(1 if place is not None else self.timeout)
        while not self.stopping.is_set():
            nodes = self.nodes()
            node = nodes[place % len(nodes)] if place is not None else rng.choice(nodes)
            sent = time.monotonic()
            try:
                wrote = workload.run_once(client, node, rng)
                with self.lock:
                    self.calls += 1
                    if wrote:
                        self.successes.append((sent, time.monotonic()))
            except Failed as failure:
                with self.lock:
                    text = str(failure)[:60]
                    self.failures[text] = self.failures.get(text, 0) + 1
            except Exception as error:                  # a checker's client that died would hide what it is there for
                self.broken.append("%s: %r" % (type(workload).__name__, error))
                return
            self.stopping.wait(workload.pause * rng.random() * 2)
        client.close()
