"""What a daemon holds: descriptors, shared objects, dead children, memory. Compared before and after."""

import collections
import os
import re

from conftest import children, shm_objects
from killer import who

# What a process may have grown by: the heap of one that has seen more is not packed like that of a fresh one. Shared
# pages are left out: a reader's share of them depends on what it has looked at, and they are bounded by the objects.
TOLERANCE = 0.25
TOLERANCE_KB = 1024


def connected_to(port):
    """Sockets with a connection to that port of ours, by their names under /proc."""
    with open("/proc/net/tcp") as f:
        rows = [line.split() for line in f][1:]
    return {f"socket:[{row[9]}]" for row in rows if int(row[2].split(":")[1], 16) == port}


def descriptors(pid, idle):
    """By kind. Connections that are kept for the next request (`idle`) are as many as there once were requests at a
    time."""
    kinds = collections.Counter()
    for fd in os.listdir(f"/proc/{pid}/fd"):
        try:
            target = os.readlink(f"/proc/{pid}/fd/{fd}")
        except FileNotFoundError:  # closed meanwhile
            continue
        if target not in idle:
            kinds[re.sub(r"\d+", "", target)] += 1
    return kinds


def private_kb(pid):
    with open(f"/proc/{pid}/smaps_rollup") as f:
        sizes = dict(re.findall(r"^(\w+): +(\d+) kB", f.read(), re.M))
    return int(sizes["Pss"]) - int(sizes["Pss_Shmem"])


def zombies(pid):
    states = []
    for child in children(pid):
        with open(f"/proc/{child}/stat") as f:
            states.append(f.read().rsplit(")", 1)[1].split()[0])
    return states.count("Z")


def take(daemon, port):
    """{(role, lane or its number): (descriptors, private memory in kB)}, and the rest."""
    parent, idle = daemon.process.pid, connected_to(port)
    daemon.wait_standbys()
    processes, numbers = {("supervisor", 0): (descriptors(parent, idle), private_kb(parent))}, collections.Counter()
    for pid in sorted(children(parent)):
        role, lane = who(pid)
        number = lane if lane is not None else numbers[role]
        numbers[role] += 1
        processes[role, number] = descriptors(pid, idle), private_kb(pid)
    return {"processes": processes, "objects": shm_objects(daemon.instance), "zombies": zombies(parent)}


def compare(before, after):
    """What is more than it was, a line each."""
    found = []
    if after["objects"] != before["objects"]:
        found.append(f"shared objects: {sorted(set(after['objects']) ^ set(before['objects']))}")
    if after["zombies"]:
        found.append(f"zombies: {after['zombies']}")
    if after["processes"].keys() != before["processes"].keys():
        found.append(f"processes: {sorted(after['processes'])}, before {sorted(before['processes'])}")
        return found
    for key, (fds, kb) in after["processes"].items():
        fds_before, kb_before = before["processes"][key]
        if fds - fds_before:
            found.append(f"{key}: descriptors more than before: {dict(fds - fds_before)}")
        if kb > kb_before * (1 + TOLERANCE) + TOLERANCE_KB:
            found.append(f"{key}: {kb} kB, before {kb_before} kB")
    return found


def table(before, after):
    return [f"{role:<12} {number}  descriptors {sum(before['processes'][role, number][0].values()):>4} ->"
            f" {sum(fds.values()):>4}  private {before['processes'][role, number][1]:>7} -> {kb:>7} kB"
            for (role, number), (fds, kb) in sorted(after["processes"].items())
            if (role, number) in before["processes"]]
