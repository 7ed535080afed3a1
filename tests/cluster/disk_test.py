#!/usr/bin/env python3
"""Disks that fail: full, with input/output errors, suddenly read-only. Writes are refused with a clear error, reads go on, nothing that was
acknowledged is lost, and the node recovers by itself when there is space, or after a restart on a healed disk.

usage: disk_test.py [name...]     (needs the right to mount; else all is skipped)
"""
import os
import shutil
import subprocess
import sys
import tempfile
import time

from harness import Cluster, wait_for


def run(*command):
    return subprocess.run(command, capture_output=True, text=True)


class Mounts:
    """Mounts that are undone at the end, in the reverse order."""

    def __init__(self):
        self.base = tempfile.mkdtemp(prefix="rq-disk-")
        self.mounted = []

    def __enter__(self):
        return self

    def mount(self, what, name, *options):
        path = os.path.join(self.base, name)
        os.makedirs(path, exist_ok=True)
        done = run("mount", *options, what, path)
        if done.returncode != 0:
            raise PermissionError("mount: " + done.stderr.strip())
        self.mounted.append(path)
        return path

    def unmount(self, path):
        wait_for(lambda: run("umount", path).returncode == 0, "umount " + path)
        self.mounted.remove(path)

    def __exit__(self, *_):
        for path in reversed(self.mounted):
            run("umount", "-l", path)
        shutil.rmtree(self.base, ignore_errors=True)


def refused(n, statement, *words):
    """Whether a write is refused for one of these reasons, at once."""
    status, body = n.request("POST", "/db/execute", [statement], timeout=10)
    return (status != 200 or '"error"' in body) and any(word in body.lower() for word in words)


def test_full_disk():
    with Mounts() as m:
        base = m.mount("tmpfs", "full", "-t", "tmpfs", "-o", "size=40m")
        with Cluster(1, base=base + "/c") as c:
            os.makedirs(c.base)
            n = c.nodes[0].start().wait_ready()
            n.execute("CREATE TABLE t(v)")
            wait_for(lambda: refused(n, "INSERT INTO t SELECT randomblob(1000000)", "full"), "the disk to be full", 60)
            assert refused(n, "INSERT INTO t VALUES(1)", "full")
            before = n.rows("SELECT count(*) FROM t")[0][0]
            assert before > 5
            subprocess.check_call(["mount", "-o", "remount,size=200m", base])
            wait_for(lambda: n.execute("INSERT INTO t VALUES(2)"), "writes to be taken again")
            assert n.rows("SELECT count(*) FROM t WHERE v=2") == [[1]]
            n.kill()
            n.start().wait_ready()
            assert n.rows("SELECT count(*) FROM t WHERE v=2") == [[1]]


NO_TEMP = ["unshare", "-m", "sh", "-c", "mount --make-rprivate / && for d in /tmp /var/tmp; do mount --rbind $d $d && "
           "mount -o remount,ro,bind $d || exit 1; done; cd /tmp && exec \"$@\"", "sh"]


def with_rows(c, m, name):
    os.makedirs(c.base)
    n = c.nodes[0]
    n.log_path = os.path.join(m.base, name + ".log")
    return n


FILL = "WITH RECURSIVE c(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM c WHERE i < 60000) INSERT INTO t SELECT i, hex(randomblob(65)) FROM c"


def test_no_folder_for_temporary_files_but_the_nodes_own():
    """/tmp and the like are read-only, as in a container with a read-only root."""
    with Mounts() as m:
        base = m.mount("tmpfs", "data", "-t", "tmpfs", "-o", "size=200m")
        if run(*NO_TEMP, "true").returncode != 0:
            raise PermissionError("no mount namespaces")
        assert run(*NO_TEMP, "sh", "-c", "touch /tmp/x || touch /var/tmp/x || touch x").returncode != 0
        with Cluster(1, base=base + "/c") as c:
            n = with_rows(c, m, "no-temp")
            os.makedirs(n.dir + "/sqlite-temp")
            leftover = n.dir + "/sqlite-temp/etilqs_0123"
            open(leftover, "w").close()
            n.start(prefix=NO_TEMP).wait_ready()
            assert not os.path.exists(leftover)
            n.execute("CREATE TABLE t(id INTEGER PRIMARY KEY, v)", FILL, "CREATE INDEX t_v ON t(v)")
            assert n.request("POST", "/db/execute", ["VACUUM"])[0] == 200
            assert n.rows("SELECT count(*) FROM (SELECT v || id AS w FROM t ORDER BY w LIMIT -1 OFFSET 10)") == [[59990]]
            assert "apply stopped" not in n.log(), n.log()[-2000:]
            assert os.listdir(n.dir + "/sqlite-temp") == []


def test_temporary_files_elsewhere():
    """SQLITE_TMPDIR is obeyed, refused when it can't be, and named in the log when it is full."""
    with Mounts() as m:
        base = m.mount("tmpfs", "data", "-t", "tmpfs", "-o", "size=200m")
        small = m.mount("tmpfs", "small", "-t", "tmpfs", "-o", "size=1m")
        with Cluster(1, base=base + "/c") as c:
            n = with_rows(c, m, "elsewhere")
            n.start(prefix=["env", "SQLITE_TMPDIR=/nowhere"])
            assert n.process.wait(10) == 1
            assert "SQLITE_TMPDIR is /nowhere, which is no folder that can be written" in n.log(), n.log()[-2000:]
            n.start(prefix=["env", "SQLITE_TMPDIR=" + small]).wait_ready()
            n.execute("CREATE TABLE t(id INTEGER PRIMARY KEY, v)", FILL)
            assert refused(n, "CREATE INDEX t_v ON t(v)", "temporary file write: database or disk is full")
            wait_for(lambda: "temporary file write: database or disk is full" in n.log(), "the log to name the cause")
            n.stop()
            assert "apply goes on" not in n.log(), n.log()[-2000:]
            n.start(prefix=["env", "SQLITE_TMPDIR=" + small])
            wait_for(lambda: n.log().count("apply stopped") == 2, "the entry is tried again")
            subprocess.check_call(["mount", "-o", "remount,size=100m", small])
            n.wait_ready()
            assert "apply goes on" in n.log()
            assert n.rows("SELECT count(*) FROM sqlite_schema WHERE name='t_v'") == [[1]]


class FailingDisk:
    """An ext4 file system on a device that is larger than what holds it: beyond that, writes fail with EIO, and ext4 goes
    read-only."""

    def __init__(self, mounts, megabytes):
        self.mounts = mounts
        self.backing = mounts.mount("tmpfs", "backing", "-t", "tmpfs", "-o", "size=%dm" % megabytes)
        self.image = self.backing + "/image"
        with open(self.image, "wb") as f:
            f.truncate(400 << 20)
        made = run("mkfs.ext4", "-q", "-E", "lazy_itable_init=0,nodiscard", self.image)
        if made.returncode != 0:
            raise PermissionError("mkfs.ext4: " + made.stderr.strip())
        self.path = mounts.mount(self.image, "disk", "-o", "loop,errors=remount-ro")

    def heal(self):
        self.mounts.unmount(self.path)
        subprocess.check_call(["mount", "-o", "remount,size=500m", self.backing])
        assert run("e2fsck", "-fy", self.image).returncode in (0, 1)
        self.mounts.mount(self.image, "disk", "-o", "loop")


def fill_until_it_fails(node, reads_from):
    """Rows of 300 kB until one is not acknowledged; which were."""
    acknowledged = set()
    for i in range(2000):
        try:
            status, body = node.request("POST", "/db/execute", ["INSERT INTO t(id, v) VALUES(%d, randomblob(300000))" % i], timeout=15)
        except OSError:
            break
        if status != 200 or '"error"' in body:
            print("     refused with %d %s" % (status, body.strip()[:160]))
            break
        acknowledged.add(i)
    assert len(acknowledged) > 20, "only %d rows were taken" % len(acknowledged)
    return acknowledged


def ids(node, level):
    return {row[0] for row in node.rows("SELECT id FROM t", level=level)}


def test_device_that_fails_under_a_single_node():
    with Mounts() as m:
        disk = FailingDisk(m, 90)
        with Cluster(1, base=disk.path + "/c") as c:
            os.makedirs(c.base)
            n = c.nodes[0]
            n.log_path = os.path.join(m.base, "log")
            n.start().wait_ready()
            n.execute("CREATE TABLE t(id INTEGER PRIMARY KEY, v)")
            acknowledged = fill_until_it_fails(n, n)
            wait_for(lambda: refused(n, "INSERT INTO t(id) VALUES(1000000)", "i/o", "input/output", "read-only", "stopped", "leader", "full"), "writes to be refused", 20)
            assert ids(n, "none") >= acknowledged, "reads go on"
            n.kill()
            disk.heal()
            n.start().wait_ready(60)
            assert ids(n, "strong") >= acknowledged
            assert n.rows("PRAGMA integrity_check") == [["ok"]]
            n.execute("INSERT INTO t(id) VALUES(2000000)")
            n.stop()


def test_device_that_fails_under_one_of_three():
    with Mounts() as m:
        disk = FailingDisk(m, 90)
        with Cluster(3, base=m.base + "/c") as c:
            os.makedirs(c.base)
            c.nodes[0].dir = disk.path + "/n1"
            c.start()
            n = c.nodes[0]
            assert c.leader() is n
            n.execute("CREATE TABLE t(id INTEGER PRIMARY KEY, v)")
            acknowledged = fill_until_it_fails(n, n)
            others = [x for x in c.nodes if x is not n]
            wait_for(lambda: any(x.alive() and x.state() == "Leader" for x in others), "another one leads", 30)
            leader = next(x for x in others if x.state() == "Leader")
            wait_for(lambda: leader.execute("INSERT INTO t(id) VALUES(1000000)"), "writes through the others", 20)
            assert ids(leader, "linearizable") >= acknowledged
            n.kill()
            disk.heal()
            n.start().wait_ready(60)
            leader.execute("INSERT INTO t(id) VALUES(1000001)")
            wait_for(lambda: ids(n, "none") == ids(leader, "linearizable"), "the healed one follows", 30)
            assert n.rows("PRAGMA integrity_check", level="none") == [["ok"]]
            n.stop()


def main():
    tests = {name: f for name, f in globals().items() if name.startswith("test_") and callable(f)}
    chosen = sys.argv[1:] or list(tests)
    failed = skipped = 0
    for name in chosen:
        begun = time.monotonic()
        try:
            tests[name]()
            print("ok   %-60s %.1f s" % (name, time.monotonic() - begun), flush=True)
        except PermissionError as error:
            skipped += 1
            print("skip %-60s %s" % (name, error), flush=True)
        except Exception as error:
            failed += 1
            print("FAIL %-60s %s: %s" % (name, type(error).__name__, str(error)[:1500]), flush=True)
    print("disk: %d passed, %d failed, %d skipped" % (len(chosen) - failed - skipped, failed, skipped))
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
