#!/usr/bin/env python3
"""A flipped byte in one node's database: in a page that is written again it is found by the effect chain, in one that isn't
by a scrub. The node heals itself with another member's state, and no client notices.

The byte is flipped while the node is stopped and SQLite's WAL holds nothing of the page.
"""
import os
import shutil
import subprocess
import threading
import time

from harness import BINARY, Cluster, Writers, assert_equal_databases, wait_for

MARK = b"the text whose first letter is flipped"


def proof(cluster):
    return cluster.any().json("GET", "/db/proof")


def state_of(cluster, node):
    return next(n["state"] for n in proof(cluster)["nodes"] if n["id"] == node.id)


def all_ok(cluster):
    nodes = proof(cluster)["nodes"]
    return len(nodes) == len(cluster.nodes) and all(n["state"] == "ok" for n in nodes)


def live_wal(node):
    """The pages of the WAL's present epoch; behind them lie those of earlier ones."""
    with open(node.dir + "/db.sqlite-wal", "rb") as f:
        data = f.read()
    salts, size = data[16:24], 24 + int.from_bytes(data[8:12], "big")
    at = 32
    while at + size <= len(data) and data[at + 8:at + 16] == salts:
        at += size
    return data[32:at]


def flip(node, mark):
    """In the database file of the stopped node; its WAL must not shadow the page."""
    path = node.dir + "/db.sqlite"
    with open(path, "r+b") as f:
        data = f.read()
        at = data.rfind(mark)
        assert at > 4096, "not in the database file"
        f.seek(at)
        f.write(bytes([data[at] ^ 0x20]))
    assert mark not in live_wal(node), "the WAL shadows the page"


def fold_wal(cluster):
    """Everything into the database files, and new WALs that hold nothing of the pages of `touched` and `idle`."""
    for node in cluster.nodes:
        wait_for(lambda n=node: n.request("POST", "/snapshot")[0] in (200, 204), "a snapshot of " + node.id)

    def folded(node):
        cluster.leader().execute("INSERT INTO other(v) VALUES(1)")
        with open(node.dir + "/db.sqlite", "rb") as f:
            in_file = MARK in f.read()
        if in_file and MARK not in live_wal(node):
            return True
        node.request("POST", "/snapshot")
        return False
    for node in cluster.nodes:
        wait_for(lambda n=node: folded(n), "the WAL of %s to begin anew" % node.id, 60)


class Reader(threading.Thread):
    """A client of the damaged node: each answer must be there, and right."""

    def __init__(self, node, level):
        super().__init__(daemon=True)
        self.node, self.level = node, level
        self.stopping, self.answers, self.bad = threading.Event(), 0, []

    def run(self):
        while not self.stopping.is_set():
            try:
                rows = self.node.rows("SELECT count(*) FROM touched WHERE v LIKE 'row %'", level=self.level)
                self.answers += 1
                if rows != [[50]]:
                    self.bad.append(rows)
            except (OSError, ValueError) as error:
                self.bad.append(str(error))
            time.sleep(0.01)


def setup(c):
    leader = c.leader()
    leader.execute("CREATE TABLE touched(id INTEGER PRIMARY KEY, v)", "CREATE TABLE idle(id INTEGER PRIMARY KEY, v)",
                   "CREATE TABLE other(v)", "CREATE TABLE t(id INTEGER PRIMARY KEY, v)")
    leader.execute(*["INSERT INTO touched(v) VALUES('row %d')" % i for i in range(50)])
    leader.execute("INSERT INTO touched(v) VALUES('%s')" % ("touched: " + MARK.decode()))
    leader.execute("INSERT INTO idle(v) VALUES('%s')" % ("idle: " + MARK.decode()))
    wait_for(lambda: all_ok(c), "the proof of all nodes")
    fold_wal(c)


def heal(c, node, provoke, what):
    evidence = {n for n in os.listdir(node.dir) if n.startswith("quarantine-")}
    begun = time.monotonic()
    reader = Reader(node, "weak")
    reader.start()
    with Writers(lambda: c.live(), 2) as writers:
        provoke()
        new = wait_for(lambda: {n for n in os.listdir(node.dir) if n.startswith("quarantine-")} - evidence, "the quarantine", 60)
        found = time.monotonic()
        wait_for(lambda: "healed: the database is another member's now" in node.log(), "the healing", 60)
        wait_for(lambda: all_ok(c) and node.ready(), "all nodes to be equal again", 60)
        healed = time.monotonic()
    reader.stopping.set()
    reader.join(30)
    assert reader.answers > 0 and not reader.bad, "a client noticed: %s" % reader.bad[:3]
    rows = c.leader().rows("SELECT v FROM t", level="strong")
    writers.check(rows)
    assert not writers.unknown, "writes failed: %d" % len(writers.unknown)
    c.leader().execute("DELETE FROM t")
    folder = os.path.join(node.dir, sorted(new)[-1])
    with open(folder + "/db.sqlite", "rb") as f:
        assert f.read(15) == b"SQLite format 3"
    assert not os.path.exists(node.dir + "/quarantine")
    assert_equal_databases(c)
    print("%s: found after %.2f s, healed after %.2f s; %d reads through the node and %d writes meanwhile, none failed"
          % (what, found - begun, healed - begun, reader.answers, len(writers.acknowledged)))


def damaged_follower(mark, provoke, what):
    with Cluster(3, args=["-raft-snap-int", "100ms"]) as c:
        c.start()
        setup(c)
        node = c.followers()[-1]
        assert node.stop() == 0
        flip(node, mark)
        node.start().wait_ready()
        wait_for(lambda: all(n["state"] == "ok" for n in proof(c)["nodes"]), "the proof to see nothing yet")
        heal(c, node, lambda: provoke(c), what)


def damage_that_a_read_finds():
    """No entry touches the page and no scrub is due: the read that fails asks for one."""
    with Cluster(3, args=["-raft-snap-int", "100ms", "-scrub-int", "0s"]) as c:
        c.start()
        setup(c)
        c.leader().execute("CREATE TABLE unread(v)", "INSERT INTO unread VALUES('x')")
        root = c.leader().rows("SELECT rootpage FROM sqlite_schema WHERE name='unread'")[0][0]
        c.wait_equal_index()
        node = c.followers()[-1]
        assert node.stop() == 0
        with open(node.dir + "/db.sqlite", "r+b") as f:
            f.seek((root - 1) * 4096)
            f.write(b"\x07")
        node.start().wait_ready()
        begun = time.monotonic()
        status, body = node.request("GET", "/db/query?level=none&q=SELECT%20*%20FROM%20unread")
        assert "malformed" in body, body
        wait_for(lambda: "healed: the database is another member's now" in node.log(), "the healing", 60)
        print("damage that a read finds: healed after %.2f s" % (time.monotonic() - begun))
        wait_for(lambda: all_ok(c) and node.ready(), "all nodes to be equal again", 60)
        assert node.rows("SELECT * FROM unread", level="none") == [["x"]]
        assert_equal_databases(c)


def damaged_leader():
    """The leader is in the minority: it hands leadership over before it heals."""
    with Cluster(3, args=["-raft-snap-int", "100ms"]) as c:
        c.start()
        setup(c)
        node = c.followers()[-1]
        assert node.stop() == 0
        flip(node, b"touched: " + MARK)
        node.start().wait_ready()
        c.wait_equal_index()
        assert c.leader().request("POST", "/leader?wait", {"id": node.id})[0] == 200
        wait_for(lambda: node.state() == "Leader", "the damaged node to lead")
        begun = time.monotonic()
        node.execute("INSERT INTO touched(v) VALUES('provoked')")
        wait_for(lambda: node.state() != "Leader", "the leader to hand over", 60)
        handed = time.monotonic()
        wait_for(lambda: "healed: the database is another member's now" in node.log(), "the healing", 60)
        wait_for(lambda: all_ok(c) and node.ready(), "all nodes to be equal again", 60)
        print("damaged leader: handed over after %.2f s, healed after %.2f s" % (handed - begun, time.monotonic() - begun))
        assert_equal_databases(c)


def nobody_can_tell():
    """Two nodes, one damaged: writes are refused until the operator says who is right."""
    with Cluster(2, args=["-raft-snap-int", "100ms"]) as c:
        c.start()
        setup(c)
        node = c.followers()[-1]
        assert node.stop() == 0
        flip(node, b"touched: " + MARK)
        node.start().wait_ready()
        c.wait_equal_index()
        leader = c.leader()
        leader.execute("INSERT INTO touched(v) VALUES('provoked')")
        status, body = wait_for(lambda: next((r for r in [leader.request("POST", "/db/execute", ["INSERT INTO other VALUES(1)"])] if r[0] != 200), None),
                                "writes to be refused", 60)
        assert status == 503 and "none has a majority" in body, (status, body)
        assert leader.rows("SELECT count(*) FROM touched") == [[52]]
        assert "alarm" in proof(c), proof(c)
        other = leader if node is not leader else c.followers()[0]
        status, body = node.request("POST", "/db/proof?trust=" + other.id)
        assert status == 200, (status, body)
        wait_for(lambda: leader.execute("INSERT INTO other VALUES(2)"), "writes to be taken again", 60)
        wait_for(lambda: "healed: the database is another member's now" in node.log(), "the healing", 60)
        wait_for(lambda: all_ok(c), "all nodes to be equal again", 60)
        assert_equal_databases(c)
        print("two nodes: writes refused, then healed by trust")


def wiped(c, node):
    """The node on a new disk, under its name: fed with an image by the leader."""
    node.kill()
    shutil.rmtree(node.dir)
    for member in c.live():
        wait_for(lambda m=member: m.request("POST", "/snapshot?trailing_logs=0")[0] in (200, 204), "the log of %s to be cut" % member.id)
    node.start(join=[n.raft_addr for n in c.live()]).wait_ready()


def rot_that_was_copied():
    """The leader's database rots and a wiped member is fed from it: two against one, and the one is right. Nobody gives anything up
    until the operator has looked; a copy is compared at once, without an entry that touches the page."""
    with Cluster(3, args=["-raft-snap-int", "100ms"]) as c:
        c.start()
        setup(c)
        for i in range(100):                       # a younger cluster would feed it with the log
            c.leader().execute("INSERT INTO other VALUES(%d)" % i)
        rotten, copy, sound = c.followers()[0], c.followers()[1], c.leader()
        assert rotten.stop() == 0
        flip(rotten, b"idle: " + MARK)
        rotten.start().wait_ready()
        c.wait_equal_index()
        assert c.leader().request("POST", "/leader?wait", {"id": rotten.id})[0] == 200
        wait_for(lambda: rotten.state() == "Leader", "the rotten node to lead")
        wiped(c, copy)
        begun = time.monotonic()
        alarm = wait_for(lambda: proof(c).get("alarm"), "the alarm", 60)
        assert "none has a majority" in alarm, alarm
        copied = {n["id"]: n.get("copy_of") for n in proof(c)["nodes"]}
        assert copied[copy.id] == rotten.id and copied[sound.id] is None, copied
        print("rot that was copied: found %.2f s after the copy was ready" % (time.monotonic() - begun))
        assert not any(name.startswith("quarantine") for node in c.nodes for name in os.listdir(node.dir))
        # The chains agree all the time, which is no end of this alarm.
        at = c.leader().json("POST", "/db/proof?scrub")["scrub"]["index"]
        wait_for(lambda: proof(c)["agreed_index"] >= at and all(n["scrub"]["index"] == at for n in proof(c)["nodes"]), "one more scrub")
        assert rotten.log().count("none has a majority") == 1, rotten.log()
        right = sound.rows("SELECT v FROM idle", level="none")
        assert right != copy.rows("SELECT v FROM idle", level="none")
        status, body = sound.request("POST", "/db/proof?trust=" + sound.id)
        assert status == 200, (status, body)
        wait_for(lambda: all_ok(c) and all(n.ready() for n in c.nodes), "all nodes to be equal again", 60)
        for node in c.nodes:
            assert node.rows("SELECT v FROM idle", level="none") == right, node.id
        assert not any(name.startswith("quarantine-") for name in os.listdir(sound.dir))
        wait_for(lambda: not any("copy_of" in n for n in proof(c)["nodes"]), "the copies to be compared", 60)
        assert not any(os.path.exists(n.dir + "/copy-of") for n in c.nodes)
        assert_equal_databases(c)


def rot_that_was_written_over():
    """As before, in a page that an entry touches; then the rotten row is written anew. The databases are equal again, the chains are
    not: a scrub ends the alarm, no operator has to."""
    with Cluster(3, args=["-raft-snap-int", "100ms"]) as c:
        c.start()
        setup(c)
        for i in range(100):
            c.leader().execute("INSERT INTO other VALUES(%d)" % i)
        rotten, copy, sound = c.followers()[0], c.followers()[1], c.leader()
        assert rotten.stop() == 0
        flip(rotten, b"touched: " + MARK)
        rotten.start().wait_ready()
        c.wait_equal_index()
        assert c.leader().request("POST", "/leader?wait", {"id": rotten.id})[0] == 200
        wait_for(lambda: rotten.state() == "Leader", "the rotten node to lead")
        copy.kill()
        rotten.execute("INSERT INTO touched(v) VALUES('provoked')")
        rotten.execute("UPDATE touched SET v='%s' WHERE id=51" % ("x" * len(b"touched: " + MARK)))    # as long: in the same place
        wiped(c, copy)
        wait_for(lambda: "the nodes agree again on the effect chains" in rotten.log(), "the alarm to end", 60)
        assert "all begin them anew" in rotten.log()
        wait_for(lambda: all_ok(c) and not any("copy_of" in n for n in proof(c)["nodes"]), "all nodes to be equal again", 60)
        assert "alarm" not in proof(c)
        c.leader().execute("INSERT INTO other VALUES(1)")
        assert not any(name.startswith("quarantine") for node in c.nodes for name in os.listdir(node.dir))
        assert_equal_databases(c)
        print("rot that was written over: the alarm ended by itself")


def trusted_while_stopped():
    """The same, decided with both nodes stopped: `rqlited recover -trust`."""
    with Cluster(2, args=["-raft-snap-int", "100ms"]) as c:
        c.start()
        setup(c)
        node, other = c.followers()[-1], c.leader()
        c.wait_equal_index()
        for n in (node, other):
            assert n.stop() == 0
        flip(node, b"touched: " + MARK)
        recover = lambda n, name: subprocess.run([BINARY, "recover", "-trust", name, n.dir], capture_output=True, text=True, timeout=30)
        assert "no member of this cluster is named nobody" in recover(node, "nobody").stderr
        assert recover(other, other.id).returncode == 0
        shown = recover(node, other.id)
        assert shown.returncode == 0 and "the operator trusts node " + other.id in shown.stdout, shown
        for n in (node, other):
            n.start()
        wait_for(lambda: "healed: the database is another member's now" in node.log(), "the healing", 60)
        wait_for(lambda: node.ready() and other.ready() and all_ok(c), "all nodes to be equal again", 60)
        assert_equal_databases(c)
        assert not any(name.startswith("quarantine-") for name in os.listdir(other.dir))


def malformed_page():
    """Damage that SQLite itself notices when it applies an entry: apply stops, another member's state takes over."""
    with Cluster(3, args=["-raft-snap-int", "100ms"]) as c:
        c.start()
        setup(c)
        root = c.leader().rows("SELECT rootpage FROM sqlite_schema WHERE name='touched'")[0][0]
        node = c.followers()[-1]
        assert node.stop() == 0
        with open(node.dir + "/db.sqlite", "r+b") as f:
            f.seek((root - 1) * 4096)
            f.write(b"\x07")                      # no kind of page
        node.start()
        wait_for(node.status, "the node to answer")
        begun = time.monotonic()
        c.leader().execute("INSERT INTO touched(v) VALUES('provoked')")
        wait_for(lambda: "the database is damaged" in node.log(), "the damage to be found", 60)
        found = time.monotonic()
        wait_for(lambda: "installed the state of another member" in node.log(), "the state of another member", 60)
        wait_for(lambda: all_ok(c) and node.ready(), "all nodes to be equal again", 60)
        print("malformed page: found after %.2f s, healed after %.2f s" % (found - begun, time.monotonic() - begun))
        assert any(n.startswith("quarantine-") for n in os.listdir(node.dir))
        assert_equal_databases(c)


def main():
    damaged_follower(b"touched: " + MARK, lambda c: c.leader().execute("INSERT INTO touched(v) VALUES('provoked')"), "touched page")
    damaged_follower(b"idle: " + MARK, lambda c: c.leader().json("POST", "/db/proof?scrub"), "untouched page")
    malformed_page()
    damage_that_a_read_finds()
    damaged_leader()
    nobody_can_tell()
    rot_that_was_copied()
    rot_that_was_written_over()
    trusted_while_stopped()
    print("proof: 9 passed, 0 failed")


if __name__ == "__main__":
    main()
