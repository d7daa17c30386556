"""A session keeps its lane; a lane's five stages keep their core."""

import os
import uuid

from conftest import ECHO, echo


def test_a_session_keeps_its_lane_and_sessions_spread(daemon):
    d = daemon({**ECHO, "lanes": 2})
    c = d.client()
    lanes = {}
    for n in range(1000):
        c.send(op="submit", id=str(uuid.uuid4()), session=f"session {n}", prompt="x")
        accepted = c.wait(lambda e: e["ev"] == "accepted")
        lanes[n] = accepted["lane"]
        c.events(accepted["id"])
    assert 400 < sum(lanes.values()) < 600
    for n in range(0, 1000, 50):
        c.send(op="submit", id=str(uuid.uuid4()), session=f"session {n}", prompt="x")
        accepted = c.wait(lambda e: e["ev"] == "accepted")
        assert accepted["lane"] == lanes[n]
        c.events(accepted["id"])


def test_each_stage_runs_on_its_lanes_core(daemon):
    d = daemon({**ECHO, "lanes": 2})
    cores = os.sched_getaffinity(0)
    for lane in d.status()["lanes"]:
        assert lane["core"] in cores
        for stage in lane["stages"]:
            assert os.sched_getaffinity(stage["pid"]) == {lane["core"]}, stage
    if len(cores) > 1:
        assert len({lane["core"] for lane in d.status()["lanes"]}) == 2


def test_pin_none_leaves_the_scheduler_free(daemon):
    d = daemon({**ECHO, "pin": "none"})
    for stage in d.status()["lanes"][0]["stages"]:
        assert os.sched_getaffinity(stage["pid"]) == os.sched_getaffinity(0)


def test_status_has_the_shape_of_the_contract(daemon):
    d = daemon({**ECHO, "lanes": 2})
    d.client().submit("s", prompt="x")
    status = d.status()
    assert set(status) >= {"version", "instance", "pid", "uptime_s", "state", "socket", "http", "gateways", "lanes",
                           "telemetry", "requests"}
    assert status["state"] == "running" and status["http"] == d.http() and status["instance"] == d.instance
    assert set(status["gateways"][0]) >= {"index", "pid", "state", "core", "restarts", "last_exit", "connections"}
    assert [s["stage"] for s in status["lanes"][1]["stages"]] == ["rag", "assemble", "inference", "post", "stream"]
    stage = status["lanes"][0]["stages"][0]
    assert set(stage) >= {"stage", "pid", "state", "restarts", "last_exit", "rss_bytes", "records_in", "records_out",
                          "ring"}
    assert set(stage["ring"]) >= {"depth", "capacity", "high_water", "bytes"} and stage["ring"]["capacity"] == 512
    assert status["requests"] == {"admitted": 1, "completed": 1, "failed": 0, "shed": 0, "cancelled": 0,
                                  "in_flight": 0, "dead_letters": 0}
    human = d.cli("status")
    assert human.returncode == 0 and "inference" in human.stdout
    assert d.cli("status", "-s", d.socket + ".x").returncode == 3
