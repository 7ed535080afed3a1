#!/usr/bin/env python3
"""Measures a release build: one table, one JSON file, each figure beside a base of the same run.

usage: run.py [--quick] [--out FILE]
The load generator is wrk (its own process). Absolute figures depend on the machine; compare the ratios.
"""
import argparse
import http.client
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time

TOP = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
BIN = os.path.join(TOP, "build/release/bin")
LUA = os.path.join(TOP, "bench")
TICK = os.sysconf("SC_CLK_TCK")


class Node:
    def __init__(self, base, number):
        self.id, self.dir = "n%d" % number, os.path.join(base, "n%d" % number)
        self.http, self.raft = 14000 + 2 * number, 14001 + 2 * number

    def start(self, join=None):
        args = [os.path.join(BIN, "rqlited"), "-node-id", self.id, "-http-addr", "127.0.0.1:%d" % self.http, "-raft-addr", "127.0.0.1:%d" % self.raft]
        if join:
            args += ["-join", "127.0.0.1:%d" % join.raft]
        begun = time.monotonic()
        self.process = subprocess.Popen(args + [self.dir], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        while True:
            try:
                if self.ask("GET", "/readyz")[0] == 200:
                    return time.monotonic() - begun
            except OSError:
                pass
            if self.process.poll() is not None:
                sys.exit("rqlited exited with %d" % self.process.returncode)
            time.sleep(0.002)

    def ask(self, method, path, body=None):
        c = http.client.HTTPConnection("127.0.0.1", self.http, timeout=30)
        c.request(method, path, body, {"Content-Type": "application/json"} if body else {})
        r = c.getresponse()
        return r.status, r.read()

    def cpu(self):
        with open("/proc/%d/stat" % self.process.pid) as f:
            fields = f.read().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / TICK

    def rss_mb(self):
        with open("/proc/%d/status" % self.process.pid) as f:
            return int(re.search(r"VmRSS:\s+(\d+)", f.read()).group(1)) / 1024


def wrk(node, path, script=None, connections=64, seconds=3):
    args = ["wrk", "-t1", "-c%d" % connections, "-d%ds" % seconds, "--latency"]
    if script:
        args += ["-s", os.path.join(LUA, script + ".lua")]
    text = subprocess.run(args + ["http://127.0.0.1:%d%s" % (node.http, path)], capture_output=True, text=True).stdout

    def ms(percent):
        number, unit = re.search(r"%d%%\s+([\d.]+)(us|ms|s)\b" % percent, text).groups()
        return float(number) * {"us": 0.001, "ms": 1, "s": 1000}[unit]
    bad = re.search(r"Non-2xx or 3xx responses: (\d+)", text)
    return {"per_second": float(re.search(r"Requests/sec:\s+([\d.]+)", text).group(1)), "p50_ms": ms(50), "p99_ms": ms(99),
            "refused": int(bad.group(1)) if bad else 0}


def measured(nodes, *args, **kwargs):
    before = sum(n.cpu() for n in nodes)
    seconds = kwargs.setdefault("seconds", 3)
    result = wrk(nodes[0], *args, **kwargs)
    result["cpu_us"] = (sum(n.cpu() for n in nodes) - before) * 1e6 / max(1, result["per_second"] * seconds)
    return result


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--out")
    options = parser.parse_args()
    seconds = 2 if options.quick else 5
    base = tempfile.mkdtemp(prefix="rq-bench-", dir=os.environ.get("RQ_BENCH_DIR"))
    rows, table = {}, []
    try:
        sync50, sync99 = map(float, subprocess.run([os.path.join(BIN, "fsync_probe"), base + "/probe", "1000"], capture_output=True, text=True).stdout.split())
        raw_insert, raw_point, raw_scan = map(float, subprocess.run([os.path.join(BIN, "raw_sqlite"), base + "/raw.db"], capture_output=True, text=True).stdout.split())
        rows["base"] = {"fdatasync_us": sync50, "fdatasync_p99_us": sync99, "sqlite_inserts": raw_insert, "sqlite_points": raw_point, "sqlite_scans": raw_scan}

        def row(name, result, ratio, what, target):
            rows[name] = dict(result, ratio=ratio, of=what)
            table.append((name, "%.0f/s" % result["per_second"], "%.2f" % result["p50_ms"], "%.2f" % result["p99_ms"], "%.0f" % result["cpu_us"],
                          "%.2f x %s" % (ratio, what), target))

        for size in (1, 3):
            nodes = [Node(base, 10 * size + i) for i in range(size)]
            start = nodes[0].start()
            idle = nodes[0].rss_mb()
            for n in nodes[1:]:
                n.start(join=nodes[0])
            time.sleep(1 if size > 1 else 0)
            nodes[0].ask("POST", "/db/execute", '["CREATE TABLE t(id INTEGER PRIMARY KEY, v TEXT)"]')
            on = " (%d node%s)" % (size, "" if size == 1 else "s")
            bare = measured(nodes, "/readyz?noleader", seconds=seconds)
            row("bare handler" + on, bare, 1.0, "itself", "")
            one = measured(nodes, "/db/execute", "insert", connections=1, seconds=seconds)
            row("INSERT, 1 connection" + on, one, one["p50_ms"] * 1000 / sync50, "fdatasync (median)",
                "median <= %.2f ms" % ((sync50 + 150) / 1000 if size == 1 else (2 * sync50 + 450) / 1000))
            many = measured(nodes, "/db/execute", "insert", seconds=seconds)
            row("INSERT, 64" + on, many, many["per_second"] / bare["per_second"], "bare", ">= 0.45, p99 <= 8, cpu <= 35" if size == 1 else ">= 15000/s, cpu <= 100")
            if size == 1:
                hundred = measured(nodes, "/db/execute", "insert100", connections=16, seconds=seconds)
                row("100 INSERTs, 16", hundred, hundred["per_second"] * 100 / raw_insert, "raw SQLite", ">= 4000/s")
                together = measured(nodes, "/db/execute?transaction", "insert100", connections=16, seconds=seconds)
                row("100 INSERTs, transaction", together, together["per_second"] * 100 / raw_insert, "raw SQLite", ">= 5000/s")
                queued = measured(nodes, "/db/execute?queue", "insert", seconds=seconds)
                row("queued INSERT, 64", queued, queued["per_second"] / bare["per_second"], "bare", ">= 0.7")
            for level in ("none", "weak", "linearizable", "strong"):
                read = measured(nodes, "/db/query?level=" + level, "point_read", seconds=seconds)
                row("read %s, 64" % level + on, read, read["per_second"] / bare["per_second"], "bare",
                    {"none": ">= 0.7, cpu <= 18", "weak": ">= 0.7, cpu <= 18", "linearizable": ">= 40000/s" if size == 1 else ">= 30000/s",
                     "strong": ">= 25000/s" if size == 1 else ">= 12000/s"}[level])
            if size == 1:
                thousand = measured(nodes, "/db/query", "thousand_rows", connections=16, seconds=seconds)
                row("1,000 rows, 16", thousand, thousand["per_second"] / raw_scan, "raw SQLite scan", ">= 6000/s")
                after = nodes[0].rss_mb()
                nodes[0].process.kill()
                nodes[0].process.wait()
                again = nodes[0].start()
                count = json.loads(nodes[0].ask("GET", "/db/query?q=SELECT+count(*)+FROM+t")[1])["results"][0]["values"][0][0]
                rows["memory"] = {"idle_mb": idle, "after_mb": after}
                rows["start"] = {"empty_s": start, "after_kill_s": again, "rows": count}
            for n in nodes:
                n.process.send_signal(signal.SIGTERM)
            for n in nodes:
                n.process.wait()
    finally:
        shutil.rmtree(base, ignore_errors=True)
    print("fdatasync of 4 KiB: median %.0f us, p99 %.0f us; raw SQLite: %.0f inserts/s, %.0f point reads/s, %.0f scans of 1,000 rows/s" %
          (sync50, sync99, raw_insert, raw_point, raw_scan))
    print("%-32s %12s %8s %8s %8s  %-28s %s" % ("work", "rate", "p50 ms", "p99 ms", "cpu us", "ratio", "target"))
    for line in table:
        print("%-32s %12s %8s %8s %8s  %-28s %s" % line)
    print("memory: idle %.1f MB (target 12), after the run %.1f MB (60)" % (rows["memory"]["idle_mb"], rows["memory"]["after_mb"]))
    print("start: empty %.3f s (0.3); after kill -9 with %d rows %.3f s (0.5)" % (rows["start"]["empty_s"], rows["start"]["rows"], rows["start"]["after_kill_s"]))
    commit = subprocess.run(["git", "-C", TOP, "rev-parse", "--short", "HEAD"], capture_output=True, text=True).stdout.strip() or "none"
    out = options.out or os.path.join(TOP, "build/bench", commit + ".json")
    os.makedirs(os.path.dirname(out), exist_ok=True)
    with open(out, "w") as f:
        json.dump(rows, f, indent=1)
    print("written to", out)


if __name__ == "__main__":
    main()
