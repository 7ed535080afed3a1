"""What lies between the nodes, and its faults.

Namespaces: each node has a network namespace of its own on one bridge; a direction is cut by a wrong hardware address in the
sender's neighbour table, so packets vanish without an error, as on a real network. Needs the rights of `unshare -n`.
Proxies: relays on loopback for machines without them. Who dials is told by the owner of the socket (/proc). A dead process then
looks like a reset connection instead of a refused one, so that its death is found by time-outs only.

Both: cut(a, b) drops what a sends to b; clients reach every node always.
"""
import asyncio
import contextlib
import os
import subprocess
import sys
import threading

import harness

INSIDE = "RQ_TORTURE_INSIDE"


def enter_namespace():
    """Runs this program again inside of namespaces of its own, when the machine allows; returns when it doesn't or is done already."""
    if os.environ.get(INSIDE):
        return
    probe = "ip link add v0 type veth peer name v1 && ip link add b0 type bridge && ip link set v0 master b0 up && mount -t tmpfs none /mnt"
    for rights in ([], ["-r"]):
        prefix = ["unshare"] + rights + ["-n", "-m"]
        with contextlib.suppress(OSError):
            if subprocess.call(prefix + ["sh", "-c", probe], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) == 0:
                os.execvpe("unshare", prefix + [sys.executable] + sys.argv, dict(os.environ, **{INSIDE: "1"}))
    os.environ[INSIDE] = "0"


def inside_namespace():
    return os.environ.get(INSIDE) == "1"


def run(*command):
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode != 0:
        raise OSError("%s: %s" % (" ".join(command), done.stderr.strip()))


class Namespaces:
    name = "network namespaces"

    def __init__(self):
        run("ip", "link", "set", "lo", "up")
        with contextlib.suppress(OSError):
            run("ip", "link", "del", "rq0")
        run("ip", "link", "add", "rq0", "type", "bridge")
        run("ip", "addr", "add", "10.99.0.254/24", "dev", "rq0")
        run("ip", "link", "set", "rq0", "up")
        self.holders = {}                # number -> process that keeps the namespace
        self.netem = subprocess.call(["tc", "qdisc", "add", "dev", "lo", "root", "netem", "delay", "1ms"], stderr=subprocess.DEVNULL) == 0
        if self.netem:
            run("tc", "qdisc", "del", "dev", "lo", "root")

    def close(self):
        for n, holder in self.holders.items():
            with contextlib.suppress(OSError):       # the kernel takes its time to drop a namespace, and the name with it
                run("ip", "link", "del", "rqv%d" % n)
            holder.kill()
            holder.wait()
        run("ip", "link", "del", "rq0")

    def attach(self, node):
        """Gives the node its addresses; called once, before it is started for the first time."""
        n = node.number
        holder = subprocess.Popen(["unshare", "-n", "sleep", "infinity"])
        mine = os.readlink("/proc/self/ns/net")
        harness.wait_for(lambda: os.readlink("/proc/%d/ns/net" % holder.pid) != mine, "a network namespace")
        self.holders[n] = holder
        inside = ["nsenter", "-t", str(holder.pid), "-n"]
        run("ip", "link", "add", "rqv%d" % n, "type", "veth", "peer", "name", "eth0", "netns", str(holder.pid))
        run("ip", "link", "set", "rqv%d" % n, "master", "rq0", "up")
        run(*inside, "ip", "link", "set", "lo", "up")
        run(*inside, "ip", "link", "set", "eth0", "address", self.hardware(n))
        run(*inside, "ip", "addr", "add", self.address(n) + "/24", "dev", "eth0")
        run(*inside, "ip", "link", "set", "eth0", "up")
        node.host, node.http, node.raft = self.address(n), 4001, 4002
        node.prefix, node.raft_args = inside, []

    def watch(self, node):
        pass

    @staticmethod
    def address(n):
        return "10.99.0.%d" % n

    @staticmethod
    def hardware(n):
        return "02:00:00:00:00:%02x" % n

    def aim(self, a, b, hardware):
        run("nsenter", "-t", str(self.holders[a.number].pid), "-n", "ip", "neigh", "replace", self.address(b.number), "lladdr", hardware,
            "nud", "permanent", "dev", "eth0")

    def cut(self, a, b):
        self.aim(a, b, "02:00:00:00:ff:ff")

    def mend(self, a, b):
        self.aim(a, b, self.hardware(b.number))

    def slow(self, node, rng):
        """What goes to the node is late and partly lost: netem where the kernel has it, else a narrow queue."""
        how = ["netem", "delay", "%dms" % rng.randint(5, 60), "20ms", "loss", "%d%%" % rng.randint(0, 5)] if self.netem else \
              ["tbf", "rate", "%dkbit" % rng.choice((400, 1000, 4000)), "burst", "8k", "latency", "%dms" % rng.choice((30, 200))]
        run("tc", "qdisc", "replace", "dev", "rqv%d" % node.number, "root", *how)

    def mend_slow(self, node):
        subprocess.call(["tc", "qdisc", "del", "dev", "rqv%d" % node.number, "root"], stderr=subprocess.DEVNULL)


class Proxies:
    name = "proxies"

    def __init__(self):
        self.nodes, self.blocked, self.late = [], set(), {}
        self.loop = asyncio.new_event_loop()
        threading.Thread(target=self.loop.run_forever, daemon=True, name="proxies").start()

    def close(self):
        self.loop.call_soon_threadsafe(self.loop.stop)

    def attach(self, node):
        real = harness.free_port()
        node.raft_args = ["-raft-addr", "127.0.0.1:%d" % real, "-raft-adv-addr", "127.0.0.1:%d" % node.raft]
        self.nodes.append(node)
        asyncio.run_coroutine_threadsafe(asyncio.start_server(lambda r, w: self.relay(r, w, node, real), "127.0.0.1", node.raft), self.loop).result(10)

    def owner(self, port):
        """Number of the node whose process has the socket with this local port."""
        with open("/proc/net/tcp") as f:
            inodes = {line.split()[9] for line in f if line.split()[1].endswith(":%04X" % port)}
        for node in self.nodes:
            with contextlib.suppress(OSError):
                if node.alive():
                    fds = "/proc/%d/fd" % node.process.pid
                    for fd in os.listdir(fds):
                        with contextlib.suppress(OSError):
                            if os.readlink(fds + "/" + fd)[8:-1] in inodes:
                                return node.number
        return 0

    async def relay(self, reader, writer, node, real):
        source = self.owner(writer.get_extra_info("peername")[1])
        try:
            await self.passes(source, node.number)
            far_reader, far_writer = await asyncio.open_connection("127.0.0.1", real)
        except OSError:
            writer.transport.abort()
            return
        await asyncio.gather(self.pump(reader, far_writer, source, node.number), self.pump(far_reader, writer, node.number, source))

    async def passes(self, a, b):
        while (a, b) in self.blocked:
            await asyncio.sleep(0.005)
        delay = self.late.get(a, 0) + self.late.get(b, 0)
        if delay:
            await asyncio.sleep(delay)

    async def pump(self, reader, writer, a, b):
        with contextlib.suppress(OSError):
            while data := await reader.read(65536):
                await self.passes(a, b)
                writer.write(data)
                await writer.drain()
        with contextlib.suppress(OSError, RuntimeError):
            writer.transport.abort()

    def cut(self, a, b):
        self.blocked.add((a.number, b.number))

    def mend(self, a, b):
        self.blocked.discard((a.number, b.number))

    def slow(self, node, rng):
        self.late[node.number] = rng.randint(5, 60) / 1000

    def mend_slow(self, node):
        self.late.pop(node.number, None)


def choose(kind):
    """kind: auto, namespaces, proxies."""
    if kind == "proxies" or not inside_namespace():
        if kind == "namespaces":
            raise SystemExit("torture: this machine gives no network namespaces")
        if inside_namespace():
            run("ip", "link", "set", "lo", "up")
        return Proxies()
    return Namespaces()
