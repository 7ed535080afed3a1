#!/usr/bin/env python3
"""What clients see when a leader dies, pauses or stops: times, and that nothing acknowledged is lost or doubled.

usage: failover_test.py [--rounds N] [--seed S]
"""
import argparse
import random
import signal
import statistics
import time

from harness import Cluster, Writers, assert_equal_databases, wait_for


def failover(cluster, writers, action):
    """Does `action` to the leader; seconds until a write that began later succeeded through a survivor."""
    leader = cluster.leader()
    survivors = [n for n in cluster.live() if n is not leader]
    writers.nodes = lambda: survivors
    before = len(writers.acknowledged)
    wait_for(lambda: len(writers.acknowledged) > before + 20, "writes flowing")
    mark = writers.set_mark()
    action(leader)
    wait_for(lambda: writers.first_success, "a write through a survivor", 60, 0.001)
    return leader, writers.first_success - mark


def rounds_of_kill(rounds, seed):
    rng = random.Random(seed)
    times = []
    with Cluster(3) as cluster:
        cluster.start()
        cluster.nodes[0].execute("CREATE TABLE t(id INTEGER PRIMARY KEY, v INTEGER)")
        with Writers(lambda: cluster.live()) as writers:
            for i in range(rounds):
                time.sleep(rng.random() * 0.2)           # another moment of the load each round
                leader, seconds = failover(cluster, writers, lambda n: n.kill())
                times.append(seconds)
                leader.start().wait_ready()
                cluster.wait_voters(3)
        writers.check(cluster.leader().rows("SELECT v FROM t", "strong"))
        assert_equal_databases(cluster)
        print("kill -9 of the leader, %d rounds: first write after median %.3f s, worst %.3f s; %d acknowledged" %
              (rounds, statistics.median(times), max(times), len(writers.acknowledged)))
    assert statistics.median(times) <= 0.5 and max(times) <= 3.0, times


def pause_of_leader():
    with Cluster(3) as cluster:
        cluster.start()
        cluster.nodes[0].execute("CREATE TABLE t(id INTEGER PRIMARY KEY, v INTEGER)")
        with Writers(lambda: cluster.live()) as writers:
            leader, seconds = failover(cluster, writers, lambda n: n.process.send_signal(signal.SIGSTOP))
            leader.process.send_signal(signal.SIGCONT)
            wait_for(lambda: leader.ready(), "the paused node back")
        writers.check(cluster.leader().rows("SELECT v FROM t", "strong"))
        assert_equal_databases(cluster)
        print("leader paused: first write after %.3f s" % seconds)
    assert seconds <= 3.0, seconds


def graceful_stop(rounds=5):
    times = []
    with Cluster(3) as cluster:
        cluster.start()
        cluster.nodes[0].execute("CREATE TABLE t(id INTEGER PRIMARY KEY, v INTEGER)")
        with Writers(lambda: cluster.live()) as writers:
            for _ in range(rounds):
                leader, seconds = failover(cluster, writers, lambda n: n.process.send_signal(signal.SIGTERM))
                times.append(seconds)
                assert leader.process.wait(10) == 0
                leader.start().wait_ready()
                cluster.wait_voters(3)
        writers.check(cluster.leader().rows("SELECT v FROM t", "strong"))
        assert_equal_databases(cluster)
        print("graceful stop of the leader: first write after median %.3f s, worst %.3f s" % (statistics.median(times), max(times)))
    assert statistics.median(times) <= 0.2, times


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    rounds_of_kill(options.rounds, options.seed)
    pause_of_leader()
    graceful_stop()
    print("failover: 3 passed, 0 failed")


if __name__ == "__main__":
    main()
