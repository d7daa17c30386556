"""The rows of bench/run that speak HTTP: beside nginx (an answer of its own) and haproxy (an answer fetched)."""

import http.client
import json
import os
import pathlib
import resource
import select
import shutil
import socket
import statistics
import subprocess
import tempfile
import time

MODEL = "bench"
BODY = json.dumps({"model": MODEL, "messages": [{"role": "user", "content": "hello"}]})
CHUNK = '{{"id":"c","object":"chat.completion.chunk","created":1,"model":"m","choices":[{{"index":0,"delta":{},"finish_reason":{}}}]}}'
ANSWER = "".join(f"data: {event}\n\n" for event in (
    CHUNK.format('{"role":"assistant","content":""}', "null"), CHUNK.format('{"content":"hello"}', "null"),
    CHUNK.format("{}", '"stop"'), "[DONE]"))
MANY = 10000


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def wait_port(port):
    end = time.monotonic() + 20
    while time.monotonic() < end:
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
            return
        except OSError:
            time.sleep(0.02)
    raise SystemExit(f"bench: nobody listens on port {port}")


def need(*programs):
    missing = [p for p in programs if not shutil.which(p, path=os.environ.get("PATH", "") + ":/usr/sbin")]
    if missing:
        raise SystemExit(f"bench/run: {', '.join(missing)} missing: scripts/packages --bench")


class Server:
    """A program with a configuration file of ours, in the foreground, on one core."""

    def __init__(self, command, name, text, core):
        self.directory = tempfile.mkdtemp(prefix="millrace-bench-")
        os.chmod(self.directory, 0o755)
        self.port = free_port()
        path = os.path.join(self.directory, name)
        pathlib.Path(path).write_text(text.replace("@DIR@", self.directory).replace("@PORT@", str(self.port)))
        self.process = subprocess.Popen([word.replace("@CONF@", path) for word in command], stdout=subprocess.DEVNULL,
                                        stderr=subprocess.DEVNULL,
                                        preexec_fn=lambda: os.sched_setaffinity(0, {core}))
        try:
            wait_port(self.port)
        except SystemExit:
            self.close()
            raise
        children = pathlib.Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text().split()
        self.pids = [self.process.pid, *map(int, children)]

    def close(self):
        self.process.terminate()
        self.process.wait(30)
        shutil.rmtree(self.directory, ignore_errors=True)


def nginx(core):
    """Answers everything by itself, as text and, below /v1, as a backend's stream."""
    body = ANSWER.replace("\\", "\\\\").replace("'", "\\'")
    return Server(["nginx", "-e", "/dev/null", "-c", "@CONF@"], "nginx.conf", f"""daemon off; worker_processes 1; pid @DIR@/pid; error_log /dev/null;
events {{ worker_connections 20000; }}
http {{ access_log off; keepalive_requests 100000000; client_body_temp_path @DIR@/body; proxy_temp_path @DIR@/p; fastcgi_temp_path @DIR@/f;
 uwsgi_temp_path @DIR@/u; scgi_temp_path @DIR@/s; types {{ }}
 server {{ listen 127.0.0.1:@PORT@; location / {{ default_type application/json; return 200 '{{"ok":true}}'; }}
 location /v1/ {{ default_type text/event-stream; return 200 '{body}'; }} }} }}""", core)


def haproxy(core, backend_port):
    return Server(["haproxy", "-db", "-f", "@CONF@"], "haproxy.cfg", f"""global
  maxconn 4000
  nbthread 1
defaults
  mode http
  timeout connect 5s
  timeout client 60s
  timeout server 60s
  http-reuse always
frontend in
  bind 127.0.0.1:@PORT@
  default_backend out
backend out
  server one 127.0.0.1:{backend_port} maxconn 1000
""", core)


def wrk(cpu_ns, port, pids, connections, seconds, core, path="/v1/chat/completions", body=BODY):
    """Requests a second, p50 and p99 in µs, CPU seconds of `pids` per 1,000 requests."""
    with tempfile.NamedTemporaryFile("w", suffix=".lua") as script:
        script.write('wrk.method = "POST"\nwrk.body = %s\nwrk.headers["Content-Type"] = "application/json"\n'
                     'done = function(s, l, r) io.write(string.format("figures %%d %%d %%d %%d %%d %%d\\n", s.requests, s.duration, '
                     'l:percentile(50), l:percentile(99), s.errors.status, s.errors.connect + s.errors.read + s.errors.write + '
                     's.errors.timeout)) end\n' % json.dumps(body))
        script.flush()
        before = cpu_ns(pids)
        out = subprocess.check_output(["taskset", "-c", str(core), "wrk", "-t1", f"-c{connections}", f"-d{seconds}", "-s", script.name,
                                       f"http://127.0.0.1:{port}{path}"], text=True)
        used = cpu_ns(pids) - before
    n, took, p50, p99, bad, broken = map(int, next(line for line in out.splitlines() if line.startswith("figures")).split()[1:])
    if bad or broken:
        raise SystemExit(f"bench: {bad} answers were no success, {broken} connections broke\n{out}")
    return n / (took / 1e6), p50, p99, used / 1e9 / n * 1000


def close(*servers):
    for server in servers:
        if server:
            server.close()


def median(rounds, i):
    return statistics.median(r[i] for r in rounds)


def millrace(Millrace, workers, *settings):
    return Millrace(settings=('http.listen=["127.0.0.1:0"]', f"inference.workers={json.dumps(workers)}",
                              'inference.models={"*":[w]}', *settings))


def bench_http(Millrace, cpu_ns, row, rounds=5):
    """An answer of our own, through all five stages, beside nginx's own."""
    need("nginx", "wrk", "taskset")
    ours = millrace(Millrace, [{"name": "w", "kind": "echo"}])
    other = next((core for core in range(os.cpu_count()) if core != ours.core), ours.core)
    theirs = None
    try:
        theirs = nginx(ours.core)
        os.sched_setaffinity(ours.gateway, {ours.core})
        wrk(cpu_ns, ours.port, ours.pids, 64, 1, other), wrk(cpu_ns, theirs.port, theirs.pids, 64, 1, other)
        pairs = [(wrk(cpu_ns, ours.port, ours.pids, 64, 2, other), wrk(cpu_ns, theirs.port, theirs.pids, 64, 2, other))
                 for _ in range(rounds)]
    finally:
        close(ours, theirs)
    mine, his = [p[0] for p in pairs], [p[1] for p in pairs]
    yield row("http-echo", median(mine, 3), "CPU s / 1000 requests", median(his, 3), 3.0,
              f"64 connections: {median(mine, 0):.0f} requests/s, p50 {median(mine, 1):.0f} p99 {median(mine, 2):.0f} µs "
              f"(nginx return 200: {median(his, 0):.0f}, {median(his, 1):.0f}, {median(his, 2):.0f})")


def bench_proxy(Millrace, cpu_ns, row, rounds=5):
    """An answer fetched from a backend, beside haproxy fetching the same."""
    need("nginx", "haproxy", "wrk", "taskset")
    backend = nginx(0)
    ours = millrace(Millrace, [{"name": "w", "kind": "openai", "base_url": f"http://127.0.0.1:{backend.port}/v1",
                                "max_concurrency": 256}])
    other = next((core for core in range(os.cpu_count()) if core != ours.core), ours.core)
    for pid in backend.pids:
        os.sched_setaffinity(pid, {other})
    theirs = None
    try:
        theirs = haproxy(ours.core, backend.port)
        os.sched_setaffinity(ours.gateway, {ours.core})
        wrk(cpu_ns, ours.port, ours.pids, 32, 1, other), wrk(cpu_ns, theirs.port, theirs.pids, 32, 1, other)
        pairs = [(wrk(cpu_ns, ours.port, ours.pids, 32, 2, other), wrk(cpu_ns, theirs.port, theirs.pids, 32, 2, other))
                 for _ in range(rounds)]
        first = [(first_token(backend.port), first_token(ours.port)) for _ in range(rounds)]
    finally:
        close(ours, theirs, backend)
    mine, his = [p[0] for p in pairs], [p[1] for p in pairs]
    yield row("proxy-cpu", median(mine, 3), "CPU s / 1000 requests", median(his, 3), 2.5,
              f"unary, 32 connections: p50 {median(mine, 1):.0f} p99 {median(mine, 2):.0f} µs "
              f"(haproxy: {median(his, 1):.0f}, {median(his, 2):.0f})")
    yield row("proxy-rate", median(his, 0), "requests/s of haproxy", median(mine, 0), 2.0,
              f"beside ours: at least half of haproxy's")
    yield row("first-token", statistics.median(f[1] for f in first), "µs p50", statistics.median(f[0] for f in first), None,
              "one connection, streaming, beside the backend asked directly")


def first_token(port, n=300):
    """Median µs from a streaming request to the first text of its answer."""
    body = json.dumps({**json.loads(BODY), "stream": True}).encode()
    request = (b"POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
               b"Content-Length: %d\r\n\r\n%s" % (len(body), body))
    times = []
    with socket.create_connection(("127.0.0.1", port)) as s:
        s.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for _ in range(n):
            start, got, took = time.perf_counter(), b"", None
            s.sendall(request)
            while b"[DONE]\n\n" not in got or (b"chunked" in got and not got.endswith(b"0\r\n\r\n")):
                got += s.recv(65536)
                if took is None and b'"content":"hello"' in got:
                    took = time.perf_counter() - start
            times.append(took * 1e6)
    return statistics.median(times)


def pss(pids):
    total = 0
    for pid in pids:
        for line in pathlib.Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                total += int(line.split()[1]) * 1024
    return total


def raise_limit(n):
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard < n:
        raise SystemExit(f"bench: this row needs {n} descriptors; the limit is {hard}")
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, n), hard))


def bench_idle(Millrace, cpu_ns, row):
    """What a connection costs that has asked once and says nothing more."""
    raise_limit(MANY + 100)
    ours, idle = millrace(Millrace, [{"name": "w", "kind": "echo"}]), []
    request = b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n"
    try:
        def connect():
            s = socket.create_connection(("127.0.0.1", ours.port))
            s.sendall(request)
            if not s.recv(4096).startswith(b"HTTP/1.1 200"):
                raise SystemExit("bench: /healthz is no 200")
            return s
        connect().close()
        before = pss([ours.gateway])
        for _ in range(MANY):
            idle.append(connect())
        each = (pss([ours.gateway]) - before) / MANY
    finally:
        for s in idle:
            s.close()
        ours.close()
    yield row("idle", each, "bytes", 8192, 1.0, f"of the gateway's memory for each of {MANY} idle connections, beside 8 KiB")


def bench_streams(Millrace, cpu_ns, row):
    """What a slow stream costs, all processes together, while 10,000 of them run."""
    raise_limit(MANY + 100)
    ours = millrace(Millrace, [{"name": "w", "kind": "echo", "gap_ms": 2000}], f"admission.max_in_flight={MANY}",
                    "admission.arena_bytes=67108864", "stream.log_bytes=268435456")
    words = " ".join(["word"] * 40)
    body = json.dumps({"model": MODEL, "stream": True, "messages": [{"role": "user", "content": words}]}).encode()
    request = (b"POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
               b"Content-Length: %d\r\n\r\n%s" % (len(body), body))
    poll, streams, begun, whole, each = select.epoll(), {}, 0, 0, None
    try:
        before = pss(ours.pids)
        for _ in range(MANY):
            s = socket.create_connection(("127.0.0.1", ours.port))
            s.sendall(request)
            poll.register(s, select.EPOLLIN)
            streams[s.fileno()] = [s, b""]
        end = time.monotonic() + 300
        while streams and time.monotonic() < end:
            for fd, _ in poll.poll(1):
                s, tail = streams[fd]
                data = s.recv(65536)
                begun += not tail
                tail = (tail + data)[-64:]
                streams[fd][1] = tail
                if not data or tail.endswith(b"0\r\n\r\n"):
                    whole += b"[DONE]" in tail
                    poll.unregister(fd), s.close()
                    del streams[fd]
            if each is None and begun == MANY:
                if len(streams) < MANY:
                    raise SystemExit(f"bench: {MANY - len(streams)} streams had ended when the last one began")
                each = (pss(ours.pids) - before) / MANY
        if whole != MANY:
            raise SystemExit(f"bench: {whole} of {MANY} streams came to their end")
    finally:
        for s, _ in streams.values():
            s.close()
        ours.close()
    yield row("streams", each, "bytes", None, None, f"of all processes for each of {MANY} streams, a word every 2 s; all were whole")


def private_bytes(pids):
    """What no other process shares: the log and the rings are counted by what they are allowed."""
    return sum(int(line.split()[1]) * 1024 for pid in pids for line in pathlib.Path(f"/proc/{pid}/status").read_text().splitlines()
               if line.startswith("RssAnon:"))


def unsent_bytes(port):
    """What the kernel holds for the connections of this port."""
    rows = [line.split() for line in pathlib.Path("/proc/net/tcp").read_text().splitlines()[1:]]
    return sum(int(r[4].partition(":")[0], 16) for r in rows if r[1].endswith(f":{port:04X}") and r[3] == "01")


def unary_us(port, n=200):
    """Median µs of a short answer, on one connection."""
    times = []
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    for _ in range(n):
        start = time.perf_counter()
        connection.request("POST", "/v1/chat/completions", BODY, {"Content-Type": "application/json"})
        answer = json.loads(connection.getresponse().read())
        times.append((time.perf_counter() - start) * 1e6)
        if answer["choices"][0]["message"]["content"] != "hello":
            raise SystemExit(f"bench: {answer}")
    connection.close()
    return statistics.median(times)


def bench_deaf(Millrace, cpu_ns, row, n=1000):
    """What a client costs that asks for a long answer and never reads, and what others notice of 1,000 of them."""
    raise_limit(n + 100)
    ours, deaf = millrace(Millrace, [{"name": "w", "kind": "echo"}], f"admission.max_in_flight={n}",
                          "stream.log_bytes=536870912"), []
    body = json.dumps({"model": MODEL, "stream": True, "messages": [{"role": "user", "content": ("abcdefgh" * 6 + " ") * 4000}]})
    request = (b"POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
               b"Content-Length: %d\r\n\r\n%s" % (len(body), body.encode()))
    try:
        alone = unary_us(ours.port)
        before = private_bytes(ours.pids)
        end = time.monotonic() + 100  # from 120 s on the kernel gives them up
        for asked in range(n):
            s = socket.socket()
            s.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            s.connect(("127.0.0.1", ours.port))
            s.sendall(request)
            deaf.append(s)
            while asked % 20 == 19 and ours.status()["requests"]["in_flight"] > 0 and time.monotonic() < end:
                time.sleep(0.02)  # the door holds so many bytes and no more
        status = ours.status()["requests"]
        if (status["completed"], status["in_flight"]) != (n + 200, 0):
            raise SystemExit(f"bench: {status}")
        beside = unary_us(ours.port)
        private, unsent = (private_bytes(ours.pids) - before) / n, unsent_bytes(ours.port) / n
    finally:
        for s in deaf:
            s.close()
        ours.close()
    yield row("deaf", private + unsent, "bytes", 98304, 1.0,
              f"for each of {n} streams that nobody reads, beside 96 KiB: {private:.0f} of our memory, {unsent:.0f} unsent in the kernel")
    yield row("deaf-beside", beside, "µs p50", alone, None, f"a short answer on one connection beside those {n}, and alone")
