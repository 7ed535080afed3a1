#!/usr/bin/env python3
"""Large databases: starts, installs, backups, loads, writes beside snapshots. Ratios to what the disk does in the same run.

usage: large.py [--quick] [--dir DIR] [--out FILE]     (about 6 GB of disk; --quick: a tenth of the sizes)
"""
import argparse
import http.client
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time

TOP = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
RQLITED = os.environ.get("RQLITED", os.path.join(TOP, "build/release/bin/rqlited"))
ports = iter(range(15000, 16000))


class Node:
    def __init__(self, base, name, *args):
        self.dir, self.args = os.path.join(base, name), list(args)
        self.name, self.http, self.raft = name, next(ports), next(ports)

    def start(self, join=None, wait=True):
        command = [RQLITED, "-node-id", self.name, "-http-addr", "127.0.0.1:%d" % self.http, "-raft-addr", "127.0.0.1:%d" % self.raft, *self.args]
        if join:
            command += ["-join", "127.0.0.1:%d" % join.raft]
        begun = time.monotonic()
        self.process = subprocess.Popen(command + [self.dir], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        while wait and not self.ready():
            if self.process.poll() is not None:
                sys.exit("rqlited exited with %d" % self.process.returncode)
            time.sleep(0.002)
        return time.monotonic() - begun

    def ready(self):
        try:
            return self.ask("GET", "/readyz")[0] == 200
        except OSError:
            return False

    def ask(self, method, path, body=None, timeout=600):
        c = http.client.HTTPConnection("127.0.0.1", self.http, timeout=timeout)
        c.request(method, path, body, {"Content-Type": "application/json"} if body else {})
        r = c.getresponse()
        return r.status, r.read()

    def execute(self, *statements):
        status, body = self.ask("POST", "/db/execute", json.dumps(list(statements)))
        if status != 200 or b"error" in body:
            sys.exit("execute: %d %s" % (status, body[:500]))

    def fill(self, megabytes):
        """Rows of 4 kB of random bytes, 32 MB a statement."""
        self.execute("CREATE TABLE IF NOT EXISTS big(id INTEGER PRIMARY KEY, v)", "CREATE TABLE IF NOT EXISTS t(id INTEGER PRIMARY KEY, v)")
        for _ in range(max(1, megabytes // 32)):
            self.execute("WITH RECURSIVE s(i) AS (SELECT 1 UNION ALL SELECT i+1 FROM s LIMIT 8000) INSERT INTO big(v) SELECT randomblob(4000) FROM s")
        self.ask("POST", "/snapshot?trailing_logs=1")

    def size(self):
        return os.path.getsize(self.dir + "/db.sqlite") + os.path.getsize(self.dir + "/db.sqlite-wal")

    def memory_mb(self, what="VmRSS"):
        """Without the mapped database file, which is page cache."""
        with open("/proc/%d/status" % self.process.pid) as f:
            text = f.read()
        return int(re.search(r"RssAnon:\s+(\d+)" if what == "VmRSS" else what + r":\s+(\d+)", text).group(1)) / 1024

    def kill(self, sig=signal.SIGKILL):
        self.process.send_signal(sig)
        self.process.wait()


class Watch(threading.Thread):
    """The peak of a node's own memory while something happens."""

    def __init__(self, *nodes):
        super().__init__(daemon=True)
        self.nodes, self.before, self.peak, self.over = nodes, [n.memory_mb() for n in nodes], [0.0] * len(nodes), threading.Event()

    def __enter__(self):
        self.start()
        return self

    def run(self):
        while not self.over.wait(0.02):
            for i, n in enumerate(self.nodes):
                try:
                    self.peak[i] = max(self.peak[i], n.memory_mb())
                except (OSError, AttributeError):
                    pass

    def __exit__(self, *_):
        self.over.set()
        self.join()

    def extra(self):
        return [round(max(0, p - b), 1) for p, b in zip(self.peak, self.before)]


class Writers:
    """Clients that insert small rows; times of each answer."""

    def __init__(self, node, count):
        self.node, self.times, self.over = node, [], threading.Event()
        self.threads = [threading.Thread(target=self.run, daemon=True) for _ in range(count)]

    def run(self):
        body = b'["INSERT INTO t(v) VALUES(1)"]'
        request = b"POST /db/execute HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n" % len(body) + body
        s = socket.create_connection(("127.0.0.1", self.node.http))
        s.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        while not self.over.is_set():
            begun = time.monotonic()
            s.sendall(request)
            if not s.recv(65536):
                return
            self.times.append(time.monotonic() - begun)

    def __enter__(self):
        for t in self.threads:
            t.start()
        self.begun = time.monotonic()
        return self

    def __exit__(self, *_):
        self.seconds = time.monotonic() - self.begun
        self.over.set()
        for t in self.threads:
            t.join(10)

    def rate(self):
        return len(self.times) / self.seconds

    def p99_ms(self):
        return sorted(self.times)[int(len(self.times) * 0.99)] * 1000


def copied(source, base):
    """Seconds of cp and fsync of a file."""
    target = os.path.join(base, "copy")
    begun = time.monotonic()
    subprocess.run(["cp", source, target], check=True)
    fd = os.open(target, os.O_RDONLY)
    os.fsync(fd)
    os.close(fd)
    took = time.monotonic() - begun
    os.remove(target)
    return took


def drop_caches():
    os.sync()
    try:
        with open("/proc/sys/vm/drop_caches", "w") as f:
            f.write("3")
        return True
    except OSError:
        return False


def starts(base, sizes, out):
    empty = Node(base, "empty")
    empty.start()
    empty.kill()
    none = empty.start()
    empty.kill()
    rows = []
    for megabytes in sizes:
        n = Node(base, "size%d" % megabytes)
        n.start()
        n.fill(megabytes)
        n.execute("INSERT INTO t(v) VALUES(1)")
        n.kill()
        warm = n.start()
        n.execute("INSERT INTO t(v) VALUES(2)")
        n.kill()
        cold = n.start() if drop_caches() else None
        n.kill(signal.SIGTERM)
        rows.append({"MB": megabytes, "ready after kill -9, s": round(warm, 3), "caches dropped, s": cold and round(cold, 3)})
        print("   start to ready, %5d MB: %.3f s, caches dropped: %s" % (megabytes, warm, cold and "%.3f s" % cold), flush=True)
        if megabytes != sizes[-1]:
            shutil.rmtree(n.dir)
    out["starts"] = {"empty, s": round(none, 3), "rows": rows}
    print("   start to ready, empty: %.3f s" % none, flush=True)
    return n


def compare_pages(one, other):
    """Both databases as of the same index, page by page; how many there are."""
    applied = lambda n: json.loads(n.ask("GET", "/status")[1])["store"]["raft"]["applied_index"]
    while applied(one) != applied(other):
        time.sleep(0.02)
    streams = []
    for n in (one, other):
        c = http.client.HTTPConnection("127.0.0.1", n.http, timeout=600)
        c.request("GET", "/db/backup?noleader")
        streams.append(c.getresponse())
    pages = 0
    while True:
        first, second = (bytearray(s.read(1 << 20)) for s in streams)
        if pages == 0:                      # the counters of writes differ, no reader sees them
            for image in (first, second):
                image[24:28] = image[92:96] = b"\0\0\0\0"
        if first != second:
            sys.exit("the databases differ behind page %d" % pages)
        if not first:
            return pages
        pages += len(first) // 4096


def install(base, source, out):
    source.start()
    copy_s = copied(source.dir + "/db.sqlite", base)
    megabytes = source.size() / 1e6
    with Writers(source, 16) as calm:
        time.sleep(4)
    fresh = Node(base, "fresh")
    with Watch(source) as watch, Writers(source, 16) as busy:
        begun = time.monotonic()
        fresh.start(join=source, wait=False)
        with Watch(fresh) as receiver:
            while not fresh.ready():
                time.sleep(0.01)
            took = time.monotonic() - begun
    out["install"] = {"MB": round(megabytes), "MB/s": round(megabytes / took), "ratio to cp + fsync": round(copy_s / took, 2),
                      "memory of the sender, MB": watch.extra()[0], "of the receiver, MB": receiver.peak[0],
                      "writes meanwhile, ratio": round(busy.rate() / calm.rate(), 2)}
    out["install"]["pages compared"] = compare_pages(source, fresh)
    print("   install:", out["install"], flush=True)
    fresh.kill()
    shutil.rmtree(fresh.dir)
    source.kill(signal.SIGTERM)


def transfers(base, megabytes, out):
    n = Node(base, "transfers")
    n.start()
    n.fill(megabytes)
    n.kill(signal.SIGTERM)
    n.start()
    copy_s = copied(n.dir + "/db.sqlite", base)
    image = os.path.join(base, "image")
    result = {"MB": megabytes, "cp + fsync, s": round(copy_s, 2)}
    url = "http://127.0.0.1:%d" % n.http
    with Watch(n) as watch:
        begun = time.monotonic()
        subprocess.run(["curl", "-sf", url + "/db/backup", "-o", image], check=True)
        result["backup, ratio to cp"] = round((time.monotonic() - begun) / copy_s, 2)
    result["backup, memory MB"] = watch.extra()[0]
    begun = time.monotonic()
    subprocess.run([sys.executable, "-c", "import sqlite3,sys; print(sqlite3.connect(sys.argv[1]).execute('PRAGMA quick_check').fetchone()[0])", image], check=True,
                   stdout=subprocess.DEVNULL)
    check_s = time.monotonic() - begun
    for path in ("/db/load", "/boot"):
        with Watch(n) as watch:
            begun = time.monotonic()
            subprocess.run(["curl", "-sf", "-XPOST", "-T", image, url + path], check=True, stdout=subprocess.DEVNULL)
            took = time.monotonic() - begun
        result[path + ", ratio to (3 cp + quick_check)"] = round(took / (3 * copy_s + check_s), 2)
        result[path + ", s"] = round(took, 2)
        result[path + ", memory MB"] = watch.extra()[0]
    with Watch(n) as watch:
        begun = time.monotonic()
        subprocess.run(["curl", "-sf", url + "/db/backup?fmt=sql", "-o", "/dev/null"], check=True)
        result["SQL dump, s"], = [round(time.monotonic() - begun, 2)]
    result["SQL dump, memory MB"] = watch.extra()[0]
    os.remove(image)
    out["transfers"] = result
    print("   transfers:", result, flush=True)
    n.kill(signal.SIGTERM)
    shutil.rmtree(n.dir)


def snapshots(base, seconds, out):
    n = Node(base, "snapshots")
    n.start()
    n.fill(64)
    def snap(over):
        while not over.wait(1):
            n.ask("POST", "/snapshot?trailing_logs=1")
    def long_read():
        try:
            n.ask("POST", "/db/query?level=none&timeout=%ds" % (seconds + 60),
                  json.dumps(["WITH RECURSIVE s(i) AS (SELECT 1 UNION ALL SELECT i+1 FROM s LIMIT 100000000000) SELECT count(*), (SELECT count(*) FROM t) FROM s"]), seconds)
        except OSError:
            pass
    def with_reader(count, snapshots):
        over = threading.Event()
        threads = [threading.Thread(target=long_read, daemon=True)]
        if snapshots:
            threads.append(threading.Thread(target=snap, args=(over,), daemon=True))
        for t in threads:
            t.start()
        with Writers(n, count) as writers:
            time.sleep(seconds)
        over.set()
        for t in threads:
            t.join(seconds + 60)
        return writers
    with Writers(n, 64) as alone:
        time.sleep(seconds / 2)
    calm = with_reader(64, False)      # the reader takes a core, whatever else goes on
    busy = with_reader(64, True)
    n.execute("INSERT INTO t(v) VALUES(1)")
    deadline = time.monotonic() + 20
    def disk():
        return sum(os.path.getsize(os.path.join(d, f)) for d, _, fs in os.walk(n.dir) for f in fs)
    while os.path.getsize(n.dir + "/db.sqlite-wal") > 16 << 20 and time.monotonic() < deadline:
        n.execute("INSERT INTO t(v) VALUES(1)")
        time.sleep(0.05)
    out["snapshots"] = {"p99 of writes alone, ms": round(alone.p99_ms(), 2), "with a long reader, ms": round(calm.p99_ms(), 2),
                        "with a long reader and a snapshot each second, ms": round(busy.p99_ms(), 2),
                        "ratio": round(busy.p99_ms() / calm.p99_ms(), 2), "rate, ratio": round(busy.rate() / calm.rate(), 2),
                        "WAL afterwards, MB": round(os.path.getsize(n.dir + "/db.sqlite-wal") / 1e6, 1),
                        "log, MB": round(sum(os.path.getsize(n.dir + "/raft/" + f) for f in os.listdir(n.dir + "/raft")) / 1e6, 1),
                        "all files, ratio to the database": round(disk() / os.path.getsize(n.dir + "/db.sqlite"), 2)}
    print("   snapshots:", out["snapshots"], flush=True)
    n.kill(signal.SIGTERM)


class MemoryLimit:
    """A control group (version 1 or 2) for one process; None when the machine doesn't let us make one."""

    @classmethod
    def make(cls, megabytes):
        for top, limit, events in (("/sys/fs/cgroup/memory", "memory.limit_in_bytes", "memory.oom_control"), ("/sys/fs/cgroup", "memory.max", "memory.events")):
            group = cls()
            group.dir, group.events = os.path.join(top, "rq-large-%d" % os.getpid()), events
            try:
                os.mkdir(group.dir)
                with open(os.path.join(group.dir, limit), "w") as f:
                    f.write(str(megabytes << 20))
                return group
            except OSError:
                if os.path.isdir(group.dir):
                    os.rmdir(group.dir)
        return None

    def add(self, pid):
        with open(os.path.join(self.dir, "cgroup.procs"), "w") as f:
            f.write(str(pid))

    def kills(self):
        with open(os.path.join(self.dir, self.events)) as f:
            return int(re.search(r"^oom_kill (\d+)", f.read(), re.M).group(1))

    def remove(self):
        os.rmdir(self.dir)


def limited(base, n, out):
    """Statements that touch every page, in 256 MB of memory, the page cache included."""
    group = MemoryLimit.make(256)
    if group is None:
        return print("   limited: left out, no control group can be made here", flush=True)
    n.start()
    group.add(n.process.pid)
    rows = n.ask("POST", "/db/query", json.dumps(["SELECT count(*) FROM big"]))[1]
    result = {"MB": round(n.size() / 1e6)}
    for name, sql in (("UPDATE of every row", "UPDATE big SET v=randomblob(4000)"), ("VACUUM", "VACUUM")):
        with Watch(n) as watch:
            begun = time.monotonic()
            n.execute(sql)
            result[name + ", s"] = round(time.monotonic() - begun, 1)
        result[name + ", peak of own memory MB"] = round(watch.peak[0])
    assert n.ask("POST", "/db/query", json.dumps(["SELECT count(*) FROM big"]))[1] == rows
    result["killed for memory"] = group.kills()
    n.kill()
    begun = time.monotonic()
    n.start()
    result["start behind kill -9, s"] = round(time.monotonic() - begun, 2)
    assert n.ask("POST", "/db/query", json.dumps(["SELECT count(*) FROM big"]))[1] == rows
    n.kill(signal.SIGTERM)
    group.remove()
    out["limited"] = result
    print("   limited:", result, flush=True)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--dir")
    parser.add_argument("--out", default=os.path.join(TOP, "build/bench-large.json"))
    a = parser.parse_args()
    base = tempfile.mkdtemp(prefix="rq-large-", dir=a.dir)
    out = {}
    try:
        tenth = 10 if a.quick else 1
        biggest = starts(base, [100 // tenth, 500 // tenth, 2000 // tenth], out)
        install(base, biggest, out)
        limited(base, biggest, out)
        shutil.rmtree(biggest.dir)
        transfers(base, 513 // tenth, out)
        snapshots(base, 60 // (3 if a.quick else 1), out)
    finally:
        subprocess.run(["pkill", "-9", "-f", base], check=False)
        shutil.rmtree(base, ignore_errors=True)
    with open(a.out, "w") as f:
        json.dump(out, f, indent=1)
    print("written to", a.out)


if __name__ == "__main__":
    main()
