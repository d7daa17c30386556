"""The rows of bench/run about retrieval: beside Xapian alone (bare_xapian) and SQLite's FTS5, over made-up text whose
words are as rare as those of a language (Zipf's law)."""

import itertools
import json
import pathlib
import random
import resource
import shutil
import sqlite3
import statistics
import subprocess
import tempfile
import time

ROWS = 100000
BULK = 20000
QUERIES = 200
ROUNDS = 3
SYLLABLES = [c + v for c in "bdfghklmnprstvz" for v in "aeiou"]


class Texts:
    """The same rows and queries in each run."""

    def __init__(self):
        self.random = random.Random(7)
        self.words = ["".join(self.random.choices(SYLLABLES, k=self.random.randint(2, 5))) for _ in range(50000)]
        self.weights = list(itertools.accumulate(1 / (rank + 2.7) for rank in range(len(self.words))))

    def text(self, n):
        return " ".join(self.random.choices(self.words, cum_weights=self.weights, k=n))

    def row(self, i):
        return {"id": f"d{i}", "title": self.text(6), "text": self.text(self.random.randint(40, 160))}


def write(directory, rows):
    with open(f"{directory}/rows.jsonl", "w") as f, open(f"{directory}/rows.tsv", "w") as t:
        for r in rows:
            f.write(json.dumps(r) + "\n")
            t.write(f"{r['id']}\t{r['title']}\t{r['text']}\n")


def timed(command, **more):
    """Seconds on the clock, and on a core."""
    before, start = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, **more)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return time.perf_counter() - start, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def bench_indexing(build, row):
    directory, texts = tempfile.mkdtemp(prefix="millrace-bench-"), Texts()
    ours, bare = [], []
    try:
        write(directory, map(texts.row, range(BULK)))
        for n in range(ROUNDS):
            ours.append(timed([build / "millrace", "index", "--index", f"{directory}/ix{n}", "add", f"{directory}/rows.jsonl"]))
            with open(f"{directory}/rows.tsv") as f:
                bare.append(timed([build / "bench/bare_xapian", "insert", f"{directory}/bare{n}"], stdin=f))
    finally:
        shutil.rmtree(directory, ignore_errors=True)
    yield row("indexing", statistics.median(s for s, _ in ours), f"s for {BULK} rows", statistics.median(s for s, _ in bare), 1.25,
              f"beside a bulk insert of the same rows; on a core {statistics.median(c for _, c in ours):.2f} and "
              f"{statistics.median(c for _, c in bare):.2f} s")


def fts5(path, rows, queries):
    """Median in µs of the same question as a statement."""
    db = sqlite3.connect(path)
    db.execute("create virtual table t using fts5(title, text, tokenize = 'porter')")
    db.executemany("insert into t values (?, ?)", ((r["title"], r["text"]) for r in rows))
    db.commit()
    took = []
    for query in queries:
        match = " OR ".join(query.split())
        start = time.perf_counter()
        db.execute("select rowid from t where t match ? order by rank limit 10", (match,)).fetchall()
        took.append(time.perf_counter() - start)
    db.close()
    return statistics.median(took) * 1e6


def ask_daemon(client, queries, cpu_ns, pid):
    """CPU time of the stage for one query, in ns."""
    used = cpu_ns([pid])
    for n, query in enumerate(queries):
        client.send(op="submit", id=f"{time.monotonic_ns()}-{n}", prompt=query)
        client.end()
    return (cpu_ns([pid]) - used) / len(queries)


def bench_retrieval(server_class, client_class, worker, cpu_ns, build, row):
    directory, texts = tempfile.mkdtemp(prefix="millrace-bench-"), Texts()
    try:
        rows = [texts.row(i) for i in range(ROWS)]
        write(directory, rows)
        queries = [texts.text(texts.random.randint(3, 12)) for _ in range(QUERIES)]
        pathlib.Path(directory, "queries.txt").write_text("".join(q + "\n" for q in queries))
        pathlib.Path(directory, "queries.jsonl").write_text("".join(json.dumps({"id": i, "text": q}) + "\n" for i, q in enumerate(queries)))
        index = f"{directory}/ix"
        timed([build / "millrace", "index", "--index", index, "add", f"{directory}/rows.jsonl"])
        search = [build / "millrace", "index", "--index", index, "search", "-k", "10", "--queries", f"{directory}/queries.jsonl"]
        ours = [json.loads(line)["took_us"] for line in subprocess.check_output(search).splitlines()]
        yield row("search", statistics.median(ours), "µs p50", fts5(f"{directory}/fts.db", rows, queries), 0.1,
                  f"{ROWS} passages, the 10 best; beside a statement of SQLite's FTS5 that asks the same")
        yield from bench_query(server_class, client_class, worker, cpu_ns, build, row, index, queries)
    finally:
        shutil.rmtree(directory, ignore_errors=True)


def bench_query(server_class, client_class, worker, cpu_ns, build, row, index, queries):
    server = server_class(settings=[f"rag.index={index}", "rag.timeout_ms=60000"])
    ours, bare = [], []
    try:
        client, pid = client_class(server.socket), worker(server, "rag")
        ask_daemon(client, queries, cpu_ns, pid)  # warm
        for _ in range(ROUNDS):
            ours.append(ask_daemon(client, queries, cpu_ns, pid))
            text = subprocess.check_output([build / "bench/bare_xapian", "query", index, "5"], input="".join(q + "\n" for q in queries), text=True)
            bare.append(float(text.split()[0]))
    finally:
        server.close()
    yield row("query", statistics.median(ours) / 1000, "µs of CPU", statistics.median(bare) / 1000, 1.5,
              "a question through the rag stage, all it does for it, beside the bare Xapian call on the same index")
