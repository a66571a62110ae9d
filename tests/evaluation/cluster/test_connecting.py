"""Whom a run can connect to, and how many workers a cluster has room for."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import pytest
import ray
from typer.testing import CliRunner

from refam_analysis.cli import app
from refam_analysis.evaluation.cluster import ClusterError, NoRayError
from refam_analysis.evaluation.cluster.connecting import READING, connected, room


def test_without_ray_the_message_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    found = importlib.util.find_spec
    monkeypatch.setattr(
        "refam_analysis.evaluation.cluster.connecting.find_spec", lambda name: None if name == "ray" else found(name)
    )
    with pytest.raises(NoRayError, match=r"refam-analysis\[distributed\]"), connected("auto"):
        pass


def test_a_client_address_is_refused() -> None:
    with pytest.raises(ClusterError, match=r"'ray://head:10001'.*ray job submit"), connected("ray://head:10001"):
        pass


def test_the_command_hands_its_address_on(tmp_path: Path) -> None:
    command = ["evaluate", "--dataset", "scenes", "--split", "test", "--limit", "1", "--out", str(tmp_path / "run")]
    result = CliRunner().invoke(app, [*command, "--ray", "ray://head:10001"])
    assert result.exit_code == 1
    assert "'ray://head:10001' is an address of Ray's client" in result.output
    assert not (tmp_path / "run").exists()


def test_a_connection_that_is_there_is_left_as_it_is(cluster: Any) -> None:
    with connected("auto"):
        pass
    assert ray.is_initialized()


class TestOfThisMachinesOwn:
    """Ray gives its processes half a minute; a busy machine can need more."""

    def test_a_start_that_fails_once_is_tried_again(self, monkeypatch: pytest.MonkeyPatch) -> None:
        fail = [TimeoutError("The current node timed out during startup.")]
        started = []

        def start(**options: Any) -> None:
            if fail:
                raise fail.pop()
            started.append(options["address"])

        monkeypatch.setattr(ray, "is_initialized", lambda: False)
        monkeypatch.setattr(ray, "init", start)
        monkeypatch.setattr(ray, "shutdown", lambda: started.clear())
        with connected("local"):
            assert started == ["local"]
        assert started == []

    def test_one_that_never_succeeds_says_why(self, monkeypatch: pytest.MonkeyPatch) -> None:
        def start(**options: Any) -> None:
            raise TimeoutError("The current node timed out during startup.")

        monkeypatch.setattr(ray, "is_initialized", lambda: False)
        monkeypatch.setattr(ray, "init", start)
        with pytest.raises(ClusterError, match=r"3 attempts \(The current node timed out"), connected("local"):
            pass


class TestRoom:
    """Of a cluster with two nodes of one processor, without and with GPUs."""

    def test_one_worker_a_processor_leaves_room_for_reading(self, two_nodes: Any) -> None:
        found = room()
        assert (found.workers, found.threads) == (2, 1)
        assert found.resources["num_cpus"] + READING == pytest.approx(1.0)

    def test_a_limit_holds_and_gives_no_more_than_there_is(self, two_nodes: Any) -> None:
        assert (room(1).workers, room(9).workers) == (1, 2)

    def test_one_worker_a_gpu(self, monkeypatch: pytest.MonkeyPatch) -> None:
        nodes = [{"Alive": True, "Resources": {"CPU": 64.0, "GPU": 4.0}}, {"Alive": True, "Resources": {"CPU": 2.0}}]
        monkeypatch.setattr(ray, "nodes", lambda: [*nodes, {"Alive": False, "Resources": {"GPU": 8.0}}])
        found = room()
        assert (found.workers, found.resources["num_gpus"], found.threads) == (4, 1, None)

    def test_a_cluster_without_room_is_refused(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(ray, "nodes", lambda: [{"Alive": True, "Resources": {"CPU": 0.5}}])
        with pytest.raises(ClusterError, match="1 machines and neither a GPU nor a whole processor"):
            room()
