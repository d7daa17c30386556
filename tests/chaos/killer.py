"""Kills and stops processes of a daemon at random, and writes down whom and when."""

import collections
import os
import random
import signal
import subprocess
import threading
import time

from conftest import children, title, wait_for

DEADLY = {signal.SIGKILL: 4, signal.SIGSEGV: 2, signal.SIGABRT: 2}
STOPS = 0.2  # of what happens
# How long a process is stopped for. Who finds a record twice, a second apart, and was not rung says that this is a
# bug of ours; a producer that was stopped between its commit and its ring is none.
STOPS_S = (0.01, 0.7)
SUPERVISOR = 1 / 50  # of all kills
AGAIN = 0.3  # a supervisor that dies again while it takes over

Death = collections.namedtuple("Death", "at role lane signal")


def who(pid):
    """(role, lane) of a worker by its title, (`standby`, role) of one that waits to become one; a child that has not
    said which it is yet is `starting`."""
    words = title(pid).split()
    if not words:
        return None, None  # dead, not reaped
    if not words[0].endswith(":"):
        return "starting", None
    role = words[0].removeprefix("millrace-").removesuffix(":")
    if role == "standby":
        return role, words[2]
    return role, int(words[3]) if "lane" in words else None


class Killer(threading.Thread):
    """Until so many have been killed or the time is over. The supervisor dies in the first half only, so that one
    of them sees the whole second half."""

    def __init__(self, daemon, seed, rate, kills, seconds):
        super().__init__(daemon=True)
        self.daemon_, self.dice, self.rate = daemon, random.Random(seed), rate
        self.kills, self.until = kills, time.monotonic() + seconds
        self.seconds, self.begun = seconds, time.monotonic()
        self.deaths, self.stopped = [], collections.Counter()
        self.sleeping = []  # (when it goes on, pidfd)
        self.failure = None

    def half(self):
        """In the first half?"""
        if self.kills:
            return len(self.deaths) < self.kills / 2
        return time.monotonic() - self.begun < self.seconds / 2

    def over(self):
        return time.monotonic() >= self.until or bool(self.kills) and len(self.deaths) >= self.kills

    def run(self):
        try:
            while not self.over():
                self.rest(self.dice.expovariate(self.rate))
                if self.half() and self.dice.random() < SUPERVISOR:
                    self.kill_supervisor()
                else:
                    self.strike()
        except Exception as error:  # told by the main thread
            self.failure = error
        self.wake(everybody=True)

    def rest(self, seconds):
        end = time.monotonic() + min(seconds, 1.0)
        while (now := time.monotonic()) < end:
            time.sleep(max(0, min([end, *(at for at, _ in self.sleeping)]) - now))
            self.wake()

    def wake(self, everybody=False):
        now = time.monotonic()
        for entry in [e for e in self.sleeping if everybody or e[0] <= now]:
            self.sleeping.remove(entry)
            self.send(entry[1], signal.SIGCONT)
            os.close(entry[1])

    @staticmethod
    def send(pidfd, number):
        try:
            signal.pidfd_send_signal(pidfd, number)
            return True
        except ProcessLookupError:
            return False

    def victim(self, supervisor):
        """A pidfd of a random process of a random role."""
        by_role = collections.defaultdict(list)
        parent = self.daemon_.process.pid
        if supervisor:
            return os.pidfd_open(parent), "supervisor", None
        for pid in children(parent):
            role, lane = who(pid)
            if role:
                by_role[role].append((pid, role, lane))
        if not by_role:
            return None
        pid, role, lane = self.dice.choice(by_role[self.dice.choice(sorted(by_role))])
        try:
            pidfd = os.pidfd_open(pid)
        except ProcessLookupError:
            return None
        if pid not in children(parent):  # the number may be another's by now
            os.close(pidfd)
            return None
        return pidfd, role, lane

    def strike(self):
        stop = self.dice.random() < STOPS
        chosen = self.victim(supervisor=stop and self.dice.random() < 0.1)
        if not chosen:
            return
        pidfd, role, lane = chosen
        if stop:
            if self.send(pidfd, signal.SIGSTOP):
                self.stopped[role] += 1
                self.sleeping.append((time.monotonic() + self.dice.uniform(*STOPS_S), pidfd))
                return
        number = self.dice.choices(list(DEADLY), list(DEADLY.values()))[0]
        death = Death(time.time(), role, lane, number)
        if self.send(pidfd, number):
            self.deaths.append(death)
        os.close(pidfd)

    def kill_supervisor(self):
        d = self.daemon_
        while True:
            death = Death(time.time(), "supervisor", None, signal.SIGKILL)
            d.process.kill()
            d.process.wait()
            self.deaths.append(death)
            if self.dice.random() >= AGAIN:
                break
            d.start(ready=False)
            try:
                d.process.wait(self.dice.uniform(0, 0.2))
                raise AssertionError("a supervisor that takes over ended by itself:\n" + d.log())
            except subprocess.TimeoutExpired:
                pass
        d.start()

    def table(self):
        """A line a role: how often killed, how often stopped."""
        dead = collections.Counter(death.role for death in self.deaths)
        return [f"{role:<12} killed {dead[role]:>6}  stopped {self.stopped[role]:>6}"
                for role in sorted(dead | self.stopped)]

    def killed(self, role, lane, since, until):
        # Who had not said what it is, or waited, may have become the worker between our look at it and its death.
        return any(since <= d.at <= until and (d.role in ("supervisor", "starting") or
                                               d.role == role and d.lane in (lane, None) or
                                               (d.role, d.lane) == ("standby", role))
                   for d in self.deaths)


def all_ready(daemon):
    status = daemon.status()
    places = [s for lane in status["lanes"] for s in lane["stages"]] + status["gateways"] + [status["telemetry"]]
    return status["state"] == "running" and all(p["state"] == "ready" for p in places) and status


def wait_all_ready(daemon):
    return wait_for("every process to be ready", lambda: all_ready(daemon))
