#!/usr/bin/env python3
"""A full disk: writes are refused with a clear error, reads go on, and it recovers by itself when there is space."""
import os
import shutil
import subprocess
import tempfile

from harness import Cluster, wait_for


def main():
    base = tempfile.mkdtemp(prefix="rq-full-")
    if subprocess.call(["mount", "-t", "tmpfs", "-o", "size=40m", "tmpfs", base], stderr=subprocess.DEVNULL) != 0:
        print("no right to mount a tmpfs: skipped\n0 passed, 0 failed, 1 skipped")
        return
    try:
        with Cluster(1, base=base + "/c") as c:
            os.makedirs(c.base)
            n = c.nodes[0].start().wait_ready()
            n.execute("CREATE TABLE t(v)")

            def full():
                return "full" in n.request("POST", "/db/execute", ["INSERT INTO t SELECT randomblob(1000000)"])[1]
            wait_for(full, "the disk to be full", 60)
            refused = n.request("POST", "/db/execute", ["INSERT INTO t VALUES(1)"], timeout=5)[1]
            assert "full" in refused, refused
            before = n.rows("SELECT count(*) FROM t")[0][0]
            assert before > 5
            subprocess.check_call(["mount", "-o", "remount,size=200m", base])
            wait_for(lambda: n.execute("INSERT INTO t VALUES(2)"), "writes to be taken again")
            assert n.rows("SELECT count(*) FROM t WHERE v=2") == [[1]]
            n.kill()
            n.start().wait_ready()
            assert n.rows("SELECT count(*) FROM t WHERE v=2") == [[1]]
        print("disk: 1 passed, 0 failed")
    finally:
        subprocess.call(["umount", "-l", base])
        shutil.rmtree(base, ignore_errors=True)


if __name__ == "__main__":
    main()
