#!/usr/bin/env python3
"""Real nodes under load while everything breaks; afterwards nothing acknowledged is lost or doubled, reads were linearizable, all
databases are equal.

usage: torture.py [--minutes N | --rounds N] [--seconds S] [--nodes 3|5] [--seed S] [--network auto|namespaces|proxies] [--faults a,b]
                  [--keep] [--verbose]
A round is a new cluster with a mix of faults and settings drawn from its seed, `--seconds` of faults, healing, checks. The seed
decides what is done, not what the operating system makes of it: a second run is much alike, not the same.
"""
import argparse
import contextlib
import os
import random
import re
import shutil
import signal
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import threading
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "../cluster"))
import checkers                                         # noqa: E402
import harness                                          # noqa: E402
import nemesis                                          # noqa: E402
import network                                          # noqa: E402
import workloads                                        # noqa: E402
from harness import wait_for                            # noqa: E402

RSS_MAX = 700 << 20                                     # the database stays below 100 MB, the log below its 256 MiB is on disk
FDS_MAX = 1000
HEAL_SECONDS = 120
BAD_LINES = re.compile(r"fatal|panic|corrupt|malformed|assert|quarantine|divergen|differs", re.I)
DISK = "size=1g"                                        # tmpfs takes what is used: SQLite's WAL grows while an image is held for a late member


class Node(harness.Node):
    def __init__(self, cluster, number, args):
        folder = os.path.join(cluster.base, "n%d" % number)
        os.makedirs(folder)
        super().__init__(folder, "n%d" % number, args)
        self.number, self.cluster, self.prefix, self.raft_args = number, cluster, [], []
        self.disk, self.wanted = cluster.small_disks, False     # wanted: it should be running
        if self.disk:
            subprocess.check_call(["mount", "-t", "tmpfs", "-o", DISK, "tmpfs", folder])
        self.dir, self.log_path = folder + "/data", os.path.join(cluster.base, "n%d.log" % number)
        cluster.network.attach(self)

    def launch(self, fresh=False):
        """With an empty directory it joins the others, as often as it takes; else it knows them."""
        addresses = self.raft_args or ["-raft-addr", self.raft_addr]
        command = self.prefix + [self.binary, "-node-id", self.id, "-http-addr", self.http_addr] + addresses
        others = [n.raft_addr for n in self.cluster.members() if n is not self]
        if fresh and others:
            command += ["-join", ",".join(others), "-join-attempts", "60", "-join-interval", "1s"]
        with open(self.log_path, "ab") as log:
            self.process = subprocess.Popen(command + self.args + [self.dir], stdout=log, stderr=log, stdin=subprocess.DEVNULL)
        self.wanted = True
        return self

    def kill(self):
        self.wanted = False
        super().kill()

    def stop(self, *args, **named):
        self.wanted = False
        return super().stop(*args, **named)

    def fill_disk(self):
        """Leaves no space at all, at once."""
        folder = os.path.dirname(self.dir)
        space = os.statvfs(folder)
        used = (space.f_blocks - space.f_bfree) * space.f_frsize
        subprocess.call(["mount", "-o", "remount,size=%d" % (used + (64 << 10)), folder], stderr=subprocess.DEVNULL)

    def free_disk(self):
        subprocess.check_call(["mount", "-o", "remount," + DISK, os.path.dirname(self.dir)])

    def died(self):
        """How the process ended, if nobody here ended it."""
        code = self.process.poll() if self.wanted else None
        return None if code is None or not self.wanted else "%s ended by itself, or by other hands: %s" % (self.id, code)

    def dispose(self):
        if self.process is not None:
            with contextlib.suppress(OSError):
                self.process.send_signal(signal.SIGCONT)
            self.kill()
        if self.disk:
            subprocess.call(["umount", "-l", os.path.dirname(self.dir)], stderr=subprocess.DEVNULL)


class Cluster:
    def __init__(self, base, net, args, small_disks):
        self.base, self.network, self.args, self.small_disks = base, net, args, small_disks
        self.nodes, self.gone, self.count = [], [], 0

    def add(self):
        self.count += 1
        node = Node(self, self.count, self.args)
        self.nodes = self.nodes + [node]
        return node

    def members(self):
        return self.nodes

    def retire(self, node):
        """Clients and faults leave it alone from now on."""
        self.nodes = [n for n in self.nodes if n is not node]

    def forget(self, node):
        self.gone.append(node)
        node.dispose()

    def form(self, size):
        self.add().launch().wait_ready(60)
        for _ in range(size - 1):
            self.add().launch(fresh=True).wait_ready(60)

    def close(self):
        for node in self.nodes:
            node.dispose()


class Watch(threading.Thread):
    """Memory and open files of all nodes, sampled; processes that end by themselves."""

    def __init__(self, cluster):
        super().__init__(daemon=True)
        self.cluster, self.stopping, self.rss, self.fds, self.bad = cluster, threading.Event(), 0, 0, []

    def run(self):
        while not self.stopping.wait(0.5):
            for node in self.cluster.members():
                if node.died():
                    self.bad.append(node.died())
                    node.wanted = False
                with contextlib.suppress(OSError, AttributeError, StopIteration):
                    pid = node.process.pid
                    with open("/proc/%d/status" % pid) as f:
                        rss = next(int(line.split()[1]) << 10 for line in f if line.startswith("VmRSS"))
                    fds = len(os.listdir("/proc/%d/fd" % pid))
                    self.rss, self.fds = max(self.rss, rss), max(self.fds, fds)
                    if rss > RSS_MAX or fds > FDS_MAX:
                        self.bad.append("%s holds %d MiB and %d files" % (node.id, rss >> 20, fds))


def masked_image(node):
    """The database as the node itself gives it out, without what may differ: change counters, writer's version, free pages."""
    status, data = node_backup(node)
    if status != 200:
        raise ValueError("backup of %s: %d" % (node.id, status))
    image = bytearray(data)
    image[24:28] = image[92:96] = image[96:100] = b"\0" * 4
    trunk = int.from_bytes(image[32:36], "big")
    free = []
    while trunk:
        at = (trunk - 1) * 4096
        count = int.from_bytes(image[at + 4:at + 8], "big")
        free += [int.from_bytes(image[at + 8 + 4 * i:at + 12 + 4 * i], "big") for i in range(count)]
        image[at + 8 + 4 * count:at + 4096] = b"\0" * (4096 - 8 - 4 * count)
        trunk = int.from_bytes(image[at:at + 4], "big")
    for page in free:
        image[(page - 1) * 4096:page * 4096] = b"\0" * 4096
    return bytes(image)


def node_backup(node):
    connection = harness.http.client.HTTPConnection(node.host, node.http, timeout=60)
    try:
        connection.request("GET", "/db/backup?noleader")
        response = connection.getresponse()
        return response.status, response.read()
    finally:
        connection.close()


def equal_databases(nodes, scratch):
    bad = []
    images = [(node, masked_image(node)) for node in nodes]
    dumps = []
    for node, image in images:
        path = os.path.join(scratch, "image.sqlite")
        with open(path, "wb") as f:
            f.write(image)
        with contextlib.closing(sqlite3.connect(path)) as db:
            dumps.append("\n".join(db.iterdump()))
            found = db.execute("PRAGMA integrity_check").fetchall()
        if found != [("ok",)]:
            bad.append("database of %s: %s" % (node.id, found[:3]))
    first_node, first = images[0]
    for (node, image), text in zip(images[1:], dumps[1:]):
        if text != dumps[0]:
            bad.append("the dump of %s differs from that of %s" % (node.id, first_node.id))
        if image != first:
            pages = [p + 1 for p in range(max(len(image), len(first)) // 4096) if image[p * 4096:p * 4096 + 4096] != first[p * 4096:p * 4096 + 4096]]
            bad.append("pages %s of %s differ from those of %s" % (pages[:10], node.id, first_node.id))
    return bad


def equal_proofs(nodes):
    """The nodes' own comparison: effect chains at the last index, all `ok`."""
    def settled():
        seen = nodes[0].json("GET", "/db/proof", timeout=5)
        members = [m for m in seen["nodes"]]
        if len(members) == len(nodes) and all(m["state"] == "ok" for m in members) and len({(m["index"], m["chain"]) for m in members}) == 1:
            return seen
        return None
    try:
        wait_for(settled, "equal proofs", 60, 0.2)
        return []
    except AssertionError:
        return ["GET /db/proof: %s" % nodes[0].request("GET", "/db/proof")[1].strip()]


def heal(cluster):
    """Everybody runs, is ready and at one index, with one engine: progress after the faults, within a bound."""
    for node in cluster.members():
        if not node.alive():
            node.launch()
    for node in cluster.members():
        node.wait_ready(HEAL_SECONDS)
    for node in cluster.members():
        if node.binary != harness.BINARY:
            node.stop(seconds=60)
            node.binary = harness.BINARY
            node.launch().wait_ready(HEAL_SECONDS)

    def same():
        states = [n.status()["store"]["raft"] for n in cluster.members()]
        return len({s["applied_index"] for s in states} | {s["commit_index"] for s in states}) == 1
    wait_for(same, "all nodes at one index", HEAL_SECONDS)


def check_round(cluster, jobs, breaker, scratch):
    """All that is looked at when the faults are over. Returns violations."""
    bad = []
    try:
        heal(cluster)
    except AssertionError as error:
        return ["no progress after healing: %s" % error]
    nodes = cluster.members()
    # A linearizable and a strong read of each node, and what lies in its own file, must agree: the checkers get the first.
    def ask(sql):
        answers = [(n.id, level, n.rows(sql, level, 60)) for n in nodes for level in ("strong", "linearizable", "none")]
        for node_id, level, rows in answers[1:]:
            if rows != answers[0][2]:
                bad.append("%s: level %s of %s differs" % (sql, level, node_id))
        return answers[0][2]
    for job in jobs:
        bad += ["%s: %s" % (type(job).__name__.lower(), text) for text in job.check(ask)]
    if breaker.backups:
        bad += checkers.bank(breaker.backups, workloads.Bank.accounts * workloads.Bank.each)
    bad += equal_databases(nodes, scratch) + equal_proofs(nodes)
    for node in nodes:
        bad += ["%s was in quarantine: %s" % (node.id, name) for name in os.listdir(node.dir) if name.startswith("quarantine")]
    for node in nodes + cluster.gone:
        bad += ["log of %s: %s" % (node.id, line[:300]) for line in node.log().splitlines() if BAD_LINES.search(line)][:5]
    return bad


class Figures:
    def __init__(self):
        self.slots, self.gaps, self.recoveries, self.acknowledged, self.calls = [], [], {}, 0, 0
        self.rss = self.fds = self.undecided = self.faults = 0

    def add(self, clients, breaker, watch, begin, end, jobs):
        lost = [(at, until) for at, until, _, majority in breaker.events if majority]
        share, fair, gap, at = checkers.availability([done for _, done in clients.successes], begin, end, lost)
        self.slots.append((share, fair, end - begin))
        self.gaps.append(gap)
        for moment, _, kind, majority in breaker.events:
            seconds = checkers.recovery(clients.successes, moment)
            if seconds is not None:
                self.recoveries.setdefault(kind + (" (majority)" if majority else ""), []).append(seconds)
        self.faults += len(breaker.events)
        self.acknowledged += len(clients.successes)
        self.calls += clients.calls
        self.rss, self.fds = max(self.rss, watch.rss), max(self.fds, watch.fds)
        self.undecided += sum(getattr(job, "undecided", 0) for job in jobs)
        return share, gap, at

    def show(self):
        total = sum(seconds for _, _, seconds in self.slots)
        if not total:
            return
        print("availability: %.1f %% of the 100 ms slots had a successful write (%.0f s under faults), %.1f %% of those with a majority; longest "
              "time without: worst %.2f s, median of the rounds %.2f s"
              % (100 * sum(s * t for s, _, t in self.slots) / total, total, 100 * sum(f * t for _, f, t in self.slots) / total,
                 max(self.gaps), statistics.median(self.gaps)))
        print("%d faults; %d calls, %d writes acknowledged; at most %d MiB and %d files a node; %d histories undecided"
              % (self.faults, self.calls, self.acknowledged, self.rss >> 20, self.fds, self.undecided))
        print("until the next write, by fault: median, worst (times)")
        for kind, seconds in sorted(self.recoveries.items()):
            print("  %-32s %6.3f %7.3f  (%d)" % (kind, statistics.median(seconds), max(seconds), len(seconds)))


def draw(seed, options, small_disks):
    """The round's mix: which faults, which settings, which clients."""
    rng = random.Random(seed)
    kinds = options.faults.split(",") if options.faults else rng.sample(nemesis.ALL, rng.randint(3, 9))
    if not small_disks:
        kinds = [k for k in kinds if k != "full_disk"] or ["kill"]
    args = []
    if rng.random() < 0.6:
        args += ["-raft-snap", str(rng.choice((20, 100, 1000))), "-raft-snap-int", "%dms" % rng.choice((100, 500)),
                 "-raft-snap-wal-size", str(rng.choice((100_000, 1_000_000, 10_000_000)))]
    if rng.random() < 0.3:
        args += ["-compress-snap-transport"]
    if rng.random() < 0.3:
        args += ["-auto-vacuum-int", "3s", "-auto-optimize-int", "2s"]
    if rng.random() < 0.3:
        args += ["-scrub-int", "2s"]
    if rng.random() < 0.15:
        jobs = [workloads.Loads(), workloads.Probe()]
        jobs[1].tables = lambda: []                     # part of what is loaded
    else:
        jobs = [workloads.Counter(), workloads.Bank(), workloads.Registers(), workloads.Lists(), workloads.Chain(), workloads.Probe()]
    return rng, kinds, args, jobs


def round_(seed, options, net, figures):
    base = tempfile.mkdtemp(prefix="rq-torture-", dir=os.environ.get("RQ_TEST_DIR"))
    small_disks = can_mount(base)
    rng, kinds, args, jobs = draw(seed, options, small_disks)
    print("seed %s: %d nodes, %s, faults %s%s" % (seed, options.nodes, " ".join(args) or "default settings", " ".join(sorted(kinds)),
                                                ", loads" if isinstance(jobs[0], workloads.Loads) else ""), flush=True)
    begun = time.monotonic()
    note = (lambda text: print("  %7.2f %s" % (time.monotonic() - begun, text), flush=True)) if options.verbose else lambda text: None
    cluster, bad = Cluster(base, net, args, small_disks), []
    try:
        cluster.form(options.nodes)
        first = cluster.members()[0]
        first.execute(*[statement for job in jobs for statement in job.tables()])
        breaker, watch = nemesis.Nemesis(cluster, rng, kinds, note), Watch(cluster)
        watch.start()
        with workloads.Clients(jobs, cluster.members, seed, 5) as clients:
            wait_for(lambda: len(clients.successes) > 20, "the load to flow", 60)
            begin = time.monotonic()
            breaker.run(options.seconds)
            end = time.monotonic()
        watch.stopping.set()
        watch.join()
        share, gap, at = figures.add(clients, breaker, watch, begin, end, jobs)
        bad = breaker.problems + clients.broken + watch.bad[:3] + check_round(cluster, jobs, breaker, base)
        print("  %d faults, %d acknowledged, availability %.1f %%, longest gap %.2f s (at %.2f), %.0f s: %s"
              % (len(breaker.events), len(clients.successes), 100 * share, gap, at - begun, time.monotonic() - begun, "VIOLATIONS" if bad else "ok"), flush=True)
        if options.verbose or (bad and not clients.successes):
            print("  calls of unknown fate: %s" % sorted(clients.failures.items(), key=lambda f: -f[1])[:8])
    except (AssertionError, OSError, ValueError) as error:
        bad = bad + ["%s: %s" % (type(error).__name__, error)]
    finally:
        report(cluster, seed, bad, options.keep)
        cluster.close()
        if small_disks:
            subprocess.call(["umount", "-l", base], stderr=subprocess.DEVNULL)
        shutil.rmtree(base, ignore_errors=True)
    return bad


def report(cluster, seed, bad, keep_them):
    for text in bad:
        print("  VIOLATION (seed %s): %s" % (seed, text), flush=True)
    if bad and keep_them:
        keep = tempfile.mkdtemp(prefix="rq-torture-kept-", dir=os.environ.get("RQ_TEST_DIR"))
        for node in cluster.members():
            node.kill()
            shutil.copytree(os.path.dirname(node.dir), os.path.join(keep, node.id), dirs_exist_ok=True)
            shutil.copy(node.log_path, keep)
        print("  kept in %s" % keep)
    elif bad:
        for node in cluster.members():
            print("---- log of %s (tail)\n%s" % (node.id, node.log()[-3000:] if os.path.exists(node.log_path) else ""))


def can_mount(base):
    """Whether each node may have a small disk of its own; only in a mount namespace of ours, so that nothing is left behind."""
    return network.inside_namespace() and os.path.isdir(base) and \
        subprocess.call(["mount", "-t", "tmpfs", "-o", DISK, "tmpfs", base], stderr=subprocess.DEVNULL) == 0


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--minutes", type=float)
    parser.add_argument("--rounds", type=int)
    parser.add_argument("--seconds", type=float, default=40)
    parser.add_argument("--nodes", type=int, default=3, choices=(3, 5))
    parser.add_argument("--seed", help="of the first round; the others follow from it")
    parser.add_argument("--network", default="auto", choices=("auto", "namespaces", "proxies"))
    parser.add_argument("--faults", help="instead of a drawn mix: %s" % ",".join(nemesis.ALL))
    parser.add_argument("--short", action="store_true", help="one round of a fixed seed and one of a fresh one, 8 s each")
    parser.add_argument("--keep", action="store_true", help="keep the directories of a round with violations")
    parser.add_argument("--verbose", action="store_true")
    options = parser.parse_args()
    network.enter_namespace()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))      # so that no node outlives us
    seed = options.seed or "%08x" % random.SystemRandom().getrandbits(32)
    seeds = iter(lambda n=iter(range(1 << 30)): seed if (i := next(n)) == 0 else "%s.%d" % (seed, i), None)
    if options.short:
        options.seconds, options.rounds, seeds = 8, 2, iter(["1", seed])
    elif options.minutes is None and options.rounds is None:
        options.rounds = 1
    print("torture: first seed %s" % seed, flush=True)
    figures, failed, done, begun = Figures(), 0, 0, time.monotonic()
    while (options.rounds is None or done < options.rounds) and (options.minutes is None or time.monotonic() - begun < options.minutes * 60):
        net = network.choose(options.network)
        if done == 0:
            print("torture: nodes are apart by %s%s" % (net.name, ", netem" if getattr(net, "netem", False) else ""), flush=True)
        try:
            failed += bool(round_(next(seeds), options, net, figures))
        finally:
            net.close()
        done += 1
    figures.show()
    print("torture: %d passed, %d failed (%.1f min)" % (done - failed, failed, (time.monotonic() - begun) / 60))
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
