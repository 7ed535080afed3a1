#!/usr/bin/env python3
"""Play the shell conformance cases against a shell binary (and a server binary).

  play_shell.py --rqlited PATH --rqlite PATH [--cases DIR ...] [--only NAME ...] [--jobs N]
                [--skip NAME ...] [--port-base N] [-v] [--quirks] [--record]

Every case is one JSON file; the format is described in shell/README.md.
The last line printed is exactly:  N passed, N failed
--record writes what was observed into the case files (used once, with the reference).
"""
import argparse, atexit, base64, glob, http.server, json, os, re, select, shutil, signal, socket
import sqlite3, ssl, subprocess, sys, tempfile, threading, time, urllib.error, urllib.request
from concurrent.futures import ThreadPoolExecutor

HERE = os.path.dirname(os.path.abspath(__file__))
TLS = None  # folder of throw-away certificates, made on demand
_lock = threading.Lock()
_next = [0]


def free_port(base):
    with _lock:
        if base:
            while True:
                p = base + _next[0] % 400
                _next[0] += 1
                s = socket.socket()
                try:
                    s.bind(("127.0.0.1", p))
                    return p
                except OSError:
                    continue
                finally:
                    s.close()
        s = socket.socket()
        s.bind(("127.0.0.1", 0))
        p = s.getsockname()[1]
        s.close()
        return p


def make_tls():
    """A throw-away CA with one server and one client certificate (needs the openssl tool)."""
    global TLS
    with _lock:
        if TLS:
            return
        d = tempfile.mkdtemp(prefix="shelltls-")

        def run(*a):
            subprocess.run(("openssl",) + a, check=True, cwd=d, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        new = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes")
        run("req", "-x509", *new, "-keyout", "ca-key.pem", "-out", "ca.pem", "-days", "30", "-subj", "/CN=test CA",
            "-addext", "basicConstraints=critical,CA:TRUE")
        for name, cn, ext in (("server", "localhost", "subjectAltName=DNS:localhost,IP:127.0.0.1\n"
                               "extendedKeyUsage=serverAuth,clientAuth\n"),
                              ("client", "client1", "extendedKeyUsage=clientAuth\n")):
            open(os.path.join(d, "ext"), "w").write(ext)
            run("req", *new, "-keyout", name + "-key.pem", "-out", name + ".csr", "-subj", "/CN=" + cn)
            run("x509", "-req", "-in", name + ".csr", "-CA", "ca.pem", "-CAkey", "ca-key.pem", "-CAcreateserial",
                "-days", "30", "-out", name + ".pem", "-extfile", "ext")
        TLS = d
        atexit.register(shutil.rmtree, d, True)


class Stub:
    """A canned HTTP server: fixed answers, every request noted."""

    def __init__(self, spec, port, subst, log):
        stub = self
        self.n = {}

        class H(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *a):
                pass

            def do(self):
                ln = int(self.headers.get("Content-Length") or 0)
                body = self.rfile.read(ln) if ln else b""
                if (self.headers.get("Transfer-Encoding") or "").lower() == "chunked":
                    while True:
                        size = int(self.rfile.readline().split(b";")[0], 16)
                        body += self.rfile.read(size)
                        self.rfile.readline()
                        if not size:
                            break
                rec = {"method": self.command, "path": self.path}
                if body:
                    rec["body"] = body.decode("utf-8", "replace")
                for h in ("Authorization", "Content-Type"):
                    if self.headers.get(h):
                        rec[h] = self.headers[h]
                log.append(rec)
                path = self.path.split("?")[0]
                hits = [r for r in spec["routes"]
                        if r.get("method", self.command) == self.command and r["path"] in (path, self.path)]
                if hits:
                    k = hits[0]["path"] + self.command
                    i = stub.n.get(k, 0)
                    stub.n[k] = i + 1
                    r = hits[min(i, len(hits) - 1)]
                else:
                    r = {"status": 404, "body": ""}
                time.sleep(r.get("delay", 0))
                b = r.get("body", "")
                b = (json.dumps(b) if not isinstance(b, str) else subst(b)).encode()
                self.send_response(r.get("status", 200))
                hd = dict(spec.get("headers", {"X-Rqlite-Version": "10"}))
                hd.update(r.get("headers", {}))
                for k, v in hd.items():
                    self.send_header(k, subst(v))
                self.send_header("Content-Length", str(len(b)))
                dying = spec.get("die_after") and len(log) >= spec["die_after"]
                if dying:  # gone before the client sees the answer, so that its next call is refused
                    self.send_header("Connection", "close")
                    self.close_connection = True
                    stub.srv.socket.close()
                self.end_headers()
                self.wfile.write(b)
            do_GET = do_POST = do_DELETE = do_PUT = do

        self.srv = http.server.ThreadingHTTPServer(("127.0.0.1", port), H)
        self.srv.handle_error = lambda *a: None
        self.srv.daemon_threads = True
        threading.Thread(target=self.serve, daemon=True).start()

    def serve(self):
        try:
            self.srv.serve_forever(0.1)
        except (OSError, ValueError):
            pass

    def stop(self):
        if self.srv.socket.fileno() >= 0:
            self.srv.shutdown()
        self.srv.server_close()


class Case:
    def __init__(self, path, opt):
        self.path, self.opt = path, opt
        self.c = json.load(open(path))
        self.tmp = tempfile.mkdtemp(prefix="shellcase-")
        self.procs, self.stubs, self.requests, self.tok = [], [], [], {}

    def subst(self, s):
        for k in sorted(self.tok, key=len, reverse=True):
            s = s.replace("{" + k + "}", self.tok[k])
        return s

    def normal(self, s):
        for k in sorted((k for k in self.tok if k.startswith("ADDR") or k == "DEAD"), key=lambda k: (len(k), k)):
            s = s.replace(self.tok[k], "{" + k + "}")
            p = self.tok[k].split(":")[1]
            s = s.replace("localhost:" + p, "localhost:{" + k.replace("ADDR", "PORT") + "}")
        s = s.replace(os.path.realpath(self.tmp), "{TMP}").replace(self.tmp, "{TMP}")
        s = re.sub(r"running version \S+", "running version {VERSION}", s)
        s = re.sub(r"\(\d+\.\d+ sec\)", "({T} sec)", s)
        s = re.sub(r"Run Time: \d+\.\d+ seconds", "Run Time: {T} seconds", s)
        s = re.sub(r"\d{4}/\d\d/\d\d \d\d:\d\d:\d\d", "{DATE}", s)
        for pat, rep in self.c.get("mask", []):
            s = re.sub(pat, rep, s)
        return s

    def http(self, method, path, body=None, ctype="application/json"):
        sv = self.c.get("server") or {}
        tls = sv.get("tls")
        req = urllib.request.Request(("https" if tls else "http") + "://" + self.tok["ADDR"] + path,
                                     data=body, method=method)
        if body is not None:
            req.add_header("Content-Type", ctype)
        if sv.get("admin"):
            req.add_header("Authorization", "Basic " + base64.b64encode(sv["admin"].encode()).decode())
        ctx = None
        if tls:
            ctx = ssl._create_unverified_context()
            ctx.load_cert_chain(os.path.join(TLS, "client.pem"), os.path.join(TLS, "client-key.pem"))
        return urllib.request.urlopen(req, timeout=15, context=ctx).read()

    def start(self):
        sv = self.c.get("server", {})
        base = self.opt.port_base
        self.tok["TMP"] = self.tmp
        if sv and sv.get("tls"):
            make_tls()
            self.tok["TLS"] = TLS
        self.tok["HOST"] = "127.0.0.1"
        dead = free_port(base)
        self.tok["DEAD"] = "127.0.0.1:%d" % dead
        self.tok["DEADPORT"] = str(dead)
        if sv is None:
            return
        stubs = sv.get("stubs")
        n = len(stubs) if stubs else sv.get("nodes", 1)
        for i in range(1, n + 1):
            p = free_port(base)
            for suffix in ([str(i)] + ([""] if i == 1 else [])):
                self.tok["PORT" + suffix] = str(p)
                self.tok["ADDR" + suffix] = "127.0.0.1:%d" % p
        if stubs:
            for i, s in enumerate(stubs, 1):
                self.stubs.append(Stub(s, int(self.tok["PORT%d" % i]), self.subst, self.requests))
            return
        self.files({"auth.json": sv["auth"]} if sv.get("auth") else {})
        flags = list(sv.get("flags", []))
        if sv.get("auth"):
            flags += ["-auth", os.path.join(self.tmp, "auth.json")]
        if sv.get("tls"):
            flags += ["-http-cert", TLS + "/server.pem", "-http-key", TLS + "/server-key.pem"]
            if sv["tls"] == "mutual":
                flags += ["-http-ca-cert", TLS + "/ca.pem", "-http-verify-client"]
        raft = [free_port(base) for _ in range(n)]
        for i in range(1, n + 1):
            cmd = [self.opt.rqlited, "-node-id", "n%d" % i, "-http-addr", self.tok["ADDR%d" % i],
                   "-raft-addr", "127.0.0.1:%d" % raft[i - 1]] + [self.subst(f) for f in flags]
            if i > 1:
                cmd += ["-join", "127.0.0.1:%d" % raft[0]]
            cmd.append(os.path.join(self.tmp, "data%d" % i))
            log = open(os.path.join(self.tmp, "node%d.log" % i), "wb")
            self.procs.append(subprocess.Popen(cmd, stdout=log, stderr=log, stdin=subprocess.DEVNULL))
            self.wait(i)
        if n > 1:
            end = time.time() + 30
            while time.time() < end:
                d = json.loads(self.http("GET", "/nodes?ver=2"))
                if len(d["nodes"]) == n and all(x["reachable"] for x in d["nodes"]):
                    break
                time.sleep(0.2)
        for st in self.c.get("setup", []):
            r = json.loads(self.http("POST", "/db/execute", json.dumps([st]).encode()))
            for x in r["results"]:
                if "error" in x:
                    raise RuntimeError("setup: " + x["error"])

    def wait(self, i):
        a = self.tok["ADDR"]
        self.tok["ADDR"] = self.tok["ADDR%d" % i]
        try:
            end = time.time() + 40
            while True:
                try:
                    self.http("GET", "/readyz")
                    return
                except Exception as e:
                    if time.time() > end:
                        raise RuntimeError("server not ready: %s" % e)
                    if self.procs[-1].poll() is not None:
                        raise RuntimeError("server ended early")
                    time.sleep(0.1)
        finally:
            self.tok["ADDR"] = a

    def files(self, spec):
        for name, v in spec.items():
            p = os.path.join(self.tmp, name)
            os.makedirs(os.path.dirname(p), exist_ok=True)
            if isinstance(v, dict) and "sqlite" in v:
                db = sqlite3.connect(p)
                for st in v["sqlite"]:
                    db.execute(st)
                db.commit()
                db.close()
            elif isinstance(v, str):
                open(p, "w").write(self.subst(v))
            else:
                json.dump(v, open(p, "w"))

    def env(self):
        e = {k: v for k, v in os.environ.items() if not k.startswith("RQLITE_") and not k.lower().endswith("_proxy")}
        home = os.path.join(self.tmp, "home")
        os.makedirs(home, exist_ok=True)
        e.update(HOME=home, TERM="xterm")
        for k, v in self.c.get("env", {}).items():
            if v is None:
                e.pop(k, None)
            else:
                e[k] = self.subst(v)
        return e

    def args(self):
        return [self.opt.rqlite] + [self.subst(a) for a in self.c.get("args", ["-H", "{HOST}", "-p", "{PORT}"])]

    def run_pipe(self):
        stdin = self.subst(self.c.get("stdin", ""))
        p = subprocess.run(self.args(), input=stdin.encode("utf-8", "surrogateescape"), capture_output=True,
                           cwd=self.tmp, env=self.env(), timeout=60)
        return p.stdout.decode("utf-8", "replace"), p.stderr.decode("utf-8", "replace"), p.returncode

    def run_pty(self):
        import fcntl, pty, struct, termios
        pid, fd = pty.fork()
        if pid == 0:
            os.chdir(self.tmp)
            os.execve(self.opt.rqlite, self.args(), self.env())
        fcntl.ioctl(fd, termios.TIOCSWINSZ, struct.pack("HHHH", 40, 120, 0, 0))
        os.kill(pid, signal.SIGWINCH)
        out = b""

        def pump(pattern, limit):
            nonlocal out
            start, end = len(out), time.time() + limit
            while time.time() < end:
                r, _, _ = select.select([fd], [], [], 0.05)
                if r:
                    try:
                        d = os.read(fd, 65536)
                    except OSError:
                        return True
                    if not d:
                        return True
                    out += d
                if pattern and re.search(pattern, out[start:].decode("utf-8", "replace"), re.S):
                    return True
            return not pattern

        ok = True
        for step in self.c["keys"]:
            if "send" in step:
                os.write(fd, self.subst(step["send"]).encode())
            ok = pump(self.subst(step["wait"]) if "wait" in step else None, step.get("limit", 10 if "wait" in step else 0.4)) and ok
            if not ok:
                out += b"\n<<no match for %r>>" % step["wait"]
                break
        rc, end = None, time.time() + (5 if self.c.get("exits", True) else 0.2)
        while time.time() < end:
            q, st = os.waitpid(pid, os.WNOHANG)
            if q:
                rc = os.waitstatus_to_exitcode(st)
                break
            pump(None, 0.1)
        if rc is None:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
            rc = "killed"
        os.close(fd)
        return out.decode("utf-8", "replace"), "", rc

    def play(self):
        bad = []
        try:
            self.start()
            self.files(self.c.get("files", {}))
            out, err, rc = self.run_pty() if self.c.get("keys") else self.run_pipe()
            out, err = self.normal(out), self.normal(err)
            ex = self.c.setdefault("expect", {})
            req = [json.loads(self.normal(json.dumps(r))) for r in self.requests]
            if self.opt.record:
                if ex.get("exit") != "any":
                    ex["exit"] = rc
                if "stdout_regex" not in ex:
                    ex["stdout"] = out
                if err:
                    ex["stderr_seen"] = err
                if self.c.get("check_requests"):
                    ex["requests"] = req
            if ex.get("exit", 0) != "any" and rc != ex.get("exit", 0):
                bad.append("exit %r, expected %r" % (rc, ex.get("exit", 0)))
            if "stdout" in ex and out != ex["stdout"]:
                bad.append("stdout differs\n--- expected\n%s\n--- got\n%s\n---" % (ex["stdout"], out))
            for pat in ex.get("stdout_regex", []):
                if not re.search(pat, out, re.M | re.S):
                    bad.append("stdout lacks /%s/\n--- got\n%s\n---" % (pat, out[-3000:]))
            for pat in ex.get("stdout_not_regex", []):
                if re.search(pat, out, re.M | re.S):
                    bad.append("stdout has /%s/\n--- got\n%s\n---" % (pat, out[-3000:]))
            for pat in ex.get("stderr_regex", []):
                if not re.search(pat, err, re.M | re.S):
                    bad.append("stderr lacks /%s/\n--- got\n%s\n---" % (pat, err[-2000:]))
            if "requests" in ex and req != ex["requests"]:
                bad.append("requests differ\n--- expected\n%s\n--- got\n%s" % (
                    json.dumps(ex["requests"], indent=1), json.dumps(req, indent=1)))
            for name, want in ex.get("files", {}).items():
                bad += self.check_file(name, want)
            for q in ex.get("after", []):
                r = json.loads(self.http("POST", "/db/query?level=strong", json.dumps([q["q"]]).encode()))["results"][0]
                got = r.get("values", r.get("error"))
                if self.opt.record:
                    q["rows"] = got
                if got != q["rows"]:
                    bad.append("after %s: got %r, expected %r" % (q["q"], got, q["rows"]))
            if self.opt.record:
                json.dump(self.c, open(self.path, "w"), indent=1, ensure_ascii=False)
                open(self.path, "a").write("\n")
        except Exception as e:
            bad.append("%s: %s" % (type(e).__name__, e))
        finally:
            for p in self.procs:
                p.terminate()
            for p in self.procs:
                try:
                    p.wait(10)
                except subprocess.TimeoutExpired:
                    p.kill()
                    p.wait()
            for s in self.stubs:
                s.stop()
            shutil.rmtree(self.tmp, ignore_errors=True)
        return bad

    def check_file(self, name, want):
        p, bad = os.path.join(self.tmp, name), []
        if want.get("absent"):
            return ["file %s exists" % name] if os.path.exists(p) else []
        if not os.path.exists(p):
            return ["file %s is missing" % name]
        if "sqlite" in want:
            db = sqlite3.connect(p)
            rows = [list(r) for r in db.execute(want["sqlite"])]
            db.close()
            if self.opt.record:
                want["rows"] = rows
            if rows != want["rows"]:
                bad.append("file %s: rows %r, expected %r" % (name, rows, want["rows"]))
            return bad
        txt = self.normal(open(p, "rb").read().decode("utf-8", "replace"))
        if self.opt.record and "regex" not in want:
            want["text"] = txt
        if "text" in want and txt != want["text"]:
            bad.append("file %s differs\n--- expected\n%s\n--- got\n%s\n---" % (name, want["text"], txt))
        for pat in want.get("regex", []):
            if not re.search(pat, txt, re.M | re.S):
                bad.append("file %s lacks /%s/\n%s" % (name, pat, txt[-2000:]))
        return bad


def main():
    ap = argparse.ArgumentParser()
    ap.add_argument("--rqlited", required=True)
    ap.add_argument("--rqlite", required=True)
    ap.add_argument("--cases", nargs="*", default=[os.path.join(HERE, "shell")])
    ap.add_argument("--only", nargs="*")
    ap.add_argument("--skip", nargs="*", default=[], help="names of cases that are left out")
    ap.add_argument("--jobs", type=int, default=3)
    ap.add_argument("--port-base", type=int, default=0)
    ap.add_argument("--record", action="store_true")
    ap.add_argument("--quirks", action="store_true", help="also play the cases that record a weakness of the reference")
    ap.add_argument("-v", action="store_true")
    opt = ap.parse_args()
    opt.rqlited, opt.rqlite = os.path.abspath(opt.rqlited), os.path.abspath(opt.rqlite)
    paths = sorted(p for d in opt.cases for p in (glob.glob(os.path.join(d, "*.json")) if os.path.isdir(d) else [d]))
    if opt.only:
        paths = [p for p in paths if any(o in os.path.basename(p) for o in opt.only)]
    paths = [p for p in paths if os.path.basename(p)[:-5] not in opt.skip]
    if not opt.quirks:
        paths = [p for p in paths if not json.load(open(p)).get("quirk")]
    ok = fail = 0
    pool = ThreadPoolExecutor(opt.jobs)
    # cases with a terminal fork the player, so they go one by one afterwards
    pty_cases = [p for p in paths if json.load(open(p)).get("keys")]
    rest = [p for p in paths if p not in pty_cases]
    done = list(zip(rest, pool.map(lambda p: Case(p, opt).play(), rest)))
    pool.shutdown()
    done += [(p, Case(p, opt).play()) for p in pty_cases]
    for p, bad in done:
        name = os.path.basename(p)
        if bad:
            fail += 1
            print("FAIL", name)
            for b in bad:
                print("   ", b.replace("\n", "\n    "))
        else:
            ok += 1
            if opt.v:
                print("ok  ", name)
    print("%d passed, %d failed" % (ok, fail))
    return 1 if fail else 0


if __name__ == "__main__":
    sys.exit(main())
