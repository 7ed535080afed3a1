#!/usr/bin/env python3
"""A cluster goes from one engine to another, node by node, under load: rqlited_next has another fingerprint than rqlited.

It stays equal, nobody is quarantined, nothing is refused, and GET /db/proof says which nodes aren't compared and which entries nobody
has compared.
"""
import os
import shutil

import harness
from harness import Cluster, Writers, assert_equal_databases, wait_for

NEXT = os.path.abspath(os.environ.get("RQLITED_NEXT", harness.BINARY + "_next"))
TABLES = ["CREATE TABLE t(id INTEGER PRIMARY KEY, v INTEGER, r DEFAULT (random()), at DEFAULT CURRENT_TIMESTAMP)"]


def proof(cluster):
    """GET /db/proof with the nodes by their id; ValueError while there is no leader."""
    seen = cluster.any().json("GET", "/db/proof")
    assert "alarm" not in seen, seen
    seen["nodes"] = {n["id"]: n for n in seen["nodes"]}
    for n in seen["nodes"].values():
        assert n["state"] not in ("divergent", "quarantined"), seen
    return seen


def states(cluster, **wanted):
    """Waits until the nodes have these states; the proof that says so."""
    def reached():
        seen = proof(cluster)
        return seen if {i: n["state"] for i, n in seen["nodes"].items()} == wanted else None
    return wait_for(reached, "states %s" % wanted, 60, 0.05)


def exchange(cluster, node, binary, writers):
    """Another binary for the node, while clients write through the others."""
    others = [n for n in cluster.nodes if n is not node]
    writers.nodes = lambda: others
    assert node.stop() == 0
    node.binary = binary
    node.start().wait_ready()
    writers.nodes = cluster.live
    flowing(writers)


def flowing(writers, count=50):
    before = len(writers.acknowledged)
    wait_for(lambda: len(writers.acknowledged) >= before + count, "writes that flow", 60)


def nobody_was_quarantined(cluster):
    for node in cluster.nodes:
        assert not [name for name in os.listdir(node.dir) if name.startswith("quarantine")], node.id
        assert "differ" not in node.log(), node.log()[-2000:]


def scrubbed(cluster):
    begun = cluster.leader().json("POST", "/db/proof?scrub")
    wait_for(lambda: proof(cluster)["agreed_scrub_index"] >= begun["scrub"]["index"], "an agreed scrub", 60)


def test_upgrade_node_by_node_under_load():
    with Cluster(3, args=["-raft-snap-int", "100ms"]) as c:
        c.start()
        c.nodes[0].execute(*TABLES)
        n1, n2, n3 = c.nodes
        with Writers(c.live) as writers:
            flowing(writers)
            old = states(c, n1="ok", n2="ok", n3="ok")
            assert not any("gap" in n for n in old["nodes"].values()), old

            exchange(c, n3, NEXT, writers)
            one = states(c, n1="ok", n2="ok", n3="unknown")
            gap = one["nodes"]["n3"]["gap"]
            assert gap["after"] > 1 and gap["until"] is None, one
            assert one["nodes"]["n3"]["engine"] != one["nodes"]["n1"]["engine"] == one["nodes"]["n2"]["engine"]
            # The two others go on comparing, and are a majority.
            wait_for(lambda: proof(c)["agreed_index"] > gap["after"] + 100, "comparison by the two that are alike", 60)

            exchange(c, n2, NEXT, writers)
            two = states(c, n1="ok", n2="unknown", n3="unknown")
            flowing(writers, 300)
            assert proof(c)["agreed_index"] <= two["nodes"]["n2"]["gap"]["after"], "no majority is alike: nothing is agreed on"

            exchange(c, n1, NEXT, writers)
            done = states(c, n1="ok", n2="ok", n3="ok")
            assert len({n["engine"] for n in done["nodes"].values()}) == 1
            gaps = [done["nodes"][n.id]["gap"] for n in c.nodes]
            ends = {g["until"] for g in gaps}
            assert len(ends) == 1 and all(g["after"] < g["until"] for g in gaps), "the chain begins anew for all at one entry: %s" % gaps
            assert gaps[2]["after"] < gaps[1]["after"] < gaps[0]["after"], gaps
            wait_for(lambda: proof(c)["agreed_index"] > gaps[0]["until"], "agreement behind the gap", 60)
        assert not writers.unknown or len(writers.unknown) < len(writers.acknowledged)
        writers.check(c.leader().rows("SELECT v FROM t", "strong"))
        scrubbed(c)
        assert_equal_databases(c)
        nobody_was_quarantined(c)
        # The gap is remembered by a restart, and nothing begins anew by it.
        n1.kill()
        n1.start().wait_ready()
        again = states(c, n1="ok", n2="ok", n3="ok")
        assert again["nodes"]["n1"]["gap"] == gaps[0], again
        print("upgrade: %d writes acknowledged, %d of unknown fate; gap of n1 %s, n3 %s" % (len(writers.acknowledged), len(writers.unknown), gaps[0], gaps[2]))


def test_step_back_images_and_wiped_disks_between_two_engines():
    """What operators do half-way: go back, replace a disk, and nodes that were away take images of the other engine's database."""
    with Cluster(3, args=["-raft-snap-int", "100ms"]) as c:
        c.start()
        c.nodes[0].execute(*TABLES)
        n1, n2, n3 = c.nodes
        with Writers(c.live) as writers:
            flowing(writers)
            exchange(c, n3, NEXT, writers)
            states(c, n1="ok", n2="ok", n3="unknown")
            # Wiped: it comes back by the log or an image of the old engine.
            writers.nodes = lambda: [n1, n2]
            n3.kill()
            shutil.rmtree(n3.dir)
            for node in (n1, n2):
                wait_for(lambda n=node: n.request("POST", "/snapshot?trailing_logs=1")[0] == 200, "a cut log of " + node.id)
            n3.start(join=[n1.raft_addr, n2.raft_addr]).wait_ready()
            assert "installed" in n3.log() or n3.applied() > 1
            states(c, n1="ok", n2="ok", n3="unknown")
            # The new engine leads, and feeds an old one.
            wait_for(lambda: n1.request("POST", "/leader?wait", {"id": "n3"})[0] == 200, "the new engine to lead")
            writers.nodes = lambda: [n1, n3]
            n2.kill()
            flowing(writers)
            for node in (n1, n3):
                wait_for(lambda n=node: n.request("POST", "/snapshot?trailing_logs=1")[0] == 200, "a cut log of " + node.id)
            n2.start().wait_ready()
            writers.nodes = c.live
            flowing(writers)
            # Back to the old one: all are alike again, and the chain begins anew.
            exchange(c, n3, harness.BINARY, writers)
            back = states(c, n1="ok", n2="ok", n3="ok")
            assert back["nodes"]["n3"]["gap"]["until"] is not None, back
        writers.check(c.leader().rows("SELECT v FROM t", "strong"))
        scrubbed(c)
        assert_equal_databases(c)
        nobody_was_quarantined(c)
        print("step back: %d writes acknowledged" % len(writers.acknowledged))


def main():
    tests = [f for name, f in globals().items() if name.startswith("test_")]
    for test in tests:
        test()
        print("ok", test.__name__, flush=True)
    print("upgrade: %d passed, 0 failed" % len(tests))


if __name__ == "__main__":
    main()
