"""What the package depends on: exact versions, known licences, no network without being asked, nothing reported."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import sysconfig
import tomllib
from importlib.metadata import distributions, requires
from pathlib import Path

import pytest

import refam_analysis
from maintenance.licences import TABLE, installed, licence_of, npm_rows, pins
from maintenance.matrix import NAMED, RESULTS, constraints

ROOT = Path(__file__).parents[1]

NO_NETWORK = """
import importlib, pkgutil, sys

asked = []

def watch(event, args):
    if event == "socket.bind" and args[1][0] in ("::1", "127.0.0.1"):
        return  # urllib3 asks whether there is IPv6
    if event in ("socket.connect", "socket.getaddrinfo", "socket.gethostbyname", "socket.sendto", "socket.bind"):
        asked.append((event, args[1:]))
        raise PermissionError(f"{event} {args[1:]}")

sys.addaudithook(watch)
import refam_analysis as ra
"""
EVERY_MODULE = """
for module in pkgutil.walk_packages(ra.__path__, "refam_analysis."):
    if not module.name.endswith(".__main__"):
        importlib.import_module(module.name)
assert len([name for name in sys.modules if name.startswith("refam_analysis.")]) > 200
assert not asked, asked
"""
A_SENTENCE = """
model, sample = ra.load_model("embedded"), ra.Scenes("test")[0]
result = ra.segment(model, sample.image, sample.expressions[0].text, segmenter="embedded")
assert result.mask.shape == sample.image.shape[:2]
assert not asked, asked
"""


def normalised(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name.lower())


def run(code: str, folder: Path, **names: str) -> subprocess.CompletedProcess[str]:
    chosen = ("OFFLINE", "TELEMETRY", "USAGE_STATS")
    kept = {name: value for name, value in os.environ.items() if not any(word in name for word in chosen)}
    command = [sys.executable, "-c", code]
    return subprocess.run(command, cwd=folder, env=kept | names, capture_output=True, text=True, timeout=900)


# --- pins ---


def asked_for(name: str) -> set[str]:
    """What an installed distribution asks for, without the extras that nobody chose."""
    lines = [line for line in requires(name) or [] if "extra ==" not in line]
    return {normalised(re.split(r"[ <>=!~;\[(]", line)[0]) for line in lines}


def test_everything_installed_is_pinned_to_the_version_that_is_there() -> None:
    # Not the packages that Ray carries within it, and shows to whoever has imported it.
    place = sysconfig.get_path("purelib")
    there = {normalised(found.metadata["Name"]): found.version for found in distributions(path=[place])}
    ours, todo = set(), ["refam-analysis"]
    while todo:  # a reader's environment may have more, such as what the editor installs
        name = todo.pop()
        new = {one for one in (asked_for(name) & set(there)) if one not in ours}
        ours |= new
        todo += new
    known = constraints(os.environ.get("REFAM_VERSIONS", "newest"))  # set by `make matrix`
    assert {name: there[name] for name in ours if known.get(name) != there[name]} == {}
    assert {"torch", "jinja2", "certifi"} <= ours


# --- licences ---


@pytest.fixture(scope="module")
def listed() -> dict[tuple[str, str], str]:
    rows = re.findall(r"^\| (\S+) \| (\S+) \| (.+) \|$", TABLE.read_text(encoding="utf-8"), re.MULTILINE)
    return {(name, version): licence for name, version, licence in rows if name != "package"}


def test_the_list_of_licences_has_every_package_and_no_other(listed: dict[tuple[str, str], str]) -> None:
    assert set(listed) == set(pins().items()) | {(name, version) for name, version, _ in npm_rows()}


def test_the_list_says_what_installed_packages_say_of_themselves(listed: dict[tuple[str, str], str]) -> None:
    said = {(name, version): installed(name) for name, version in pins().items()}
    known = {key: licence_of(fields) for key, fields in said.items() if fields and fields["version"] == [key[1]]}
    stated = {key: licence.replace("|", "/") for key, licence in known.items() if licence != "not stated"}
    assert len(stated) > 100
    assert {key: (listed.get(key), licence) for key, licence in stated.items() if listed.get(key) != licence} == {}


def test_no_package_is_under_a_licence_that_reaches_over_to_ours(listed: dict[tuple[str, str], str]) -> None:
    choices = {name: licence for (name, _), licence in listed.items() if re.search(r"GPL|Affero", licence)}
    # docutils: one file (of Emacs) is under the GPL; each other is in the public domain or BSD.
    assert set(choices) <= {"docutils"}


# --- the network, and telemetry ---


def test_importing_every_module_asks_nothing_of_the_network(tmp_path: Path) -> None:
    done = run(NO_NETWORK + EVERY_MODULE, tmp_path)
    assert done.returncode == 0, done.stderr[-2000:]


def test_answering_a_sentence_asks_nothing_of_the_network(tmp_path: Path) -> None:
    done = run(NO_NETWORK + A_SENTENCE, tmp_path)
    assert done.returncode == 0, done.stderr[-2000:]


def test_the_watch_on_the_network_sees_a_connection(tmp_path: Path) -> None:
    done = run(NO_NETWORK + 'import socket; socket.create_connection(("localhost", 9))', tmp_path)
    assert done.returncode != 0 and "PermissionError: socket." in done.stderr


def test_libraries_are_told_to_report_nothing(tmp_path: Path) -> None:
    code = (
        "import refam_analysis, os\n"
        "from huggingface_hub import constants\n"
        "from diffusers.utils.hub_utils import http_user_agent\n"
        "assert constants.HF_HUB_DISABLE_TELEMETRY and http_user_agent().endswith('telemetry/off')\n"
        "assert os.environ['RAY_USAGE_STATS_ENABLED'] == '0'"
    )
    done = run(code, tmp_path)
    assert done.returncode == 0, done.stderr


def test_what_the_reader_has_chosen_is_left(tmp_path: Path) -> None:
    code = "import refam_analysis, os; print(os.environ['RAY_USAGE_STATS_ENABLED'])"
    assert run(code, tmp_path, RAY_USAGE_STATS_ENABLED="1").stdout == "1\n"


def test_onnxruntime_writes_nothing_about_this_machine(tmp_path: Path) -> None:
    graph = (
        "import refam_analysis, onnxruntime\n"
        "from onnx import TensorProto, helper\n"
        "one, other = (helper.make_tensor_value_info(name, TensorProto.FLOAT, [1]) for name in 'ab')\n"
        "graph = helper.make_graph([helper.make_node('Identity', ['a'], ['b'])], 'copy', [one], [other])\n"
        "model = helper.make_model(graph, opset_imports=[helper.make_opsetid('', 17)], ir_version=9)\n"
        "onnxruntime.InferenceSession(model.SerializeToString())\n"
    )
    home = tmp_path / "home"
    home.mkdir()
    done = run(graph, tmp_path, HOME=str(home), XDG_CACHE_HOME=str(home / "cache"))
    assert done.returncode == 0, done.stderr
    assert [path for path in home.rglob("*") if path.is_file()] == []


def test_the_page_on_security_names_what_is_switched_off() -> None:
    page = (ROOT / "SECURITY.md").read_text(encoding="utf-8")
    assert [name for name, value in refam_analysis._QUIET.items() if f"`{name}={value}`" not in page] == []


# --- the oldest versions ---


def test_the_lower_bounds_are_the_oldest_versions_that_are_tested() -> None:
    wanted = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["dependencies"]
    bounds = dict(line.split(">=") for line in wanted if ">=" in line)
    oldest = constraints("oldest")
    assert {name: oldest[name] for name in NAMED if not f"{oldest[name]}.".startswith(f"{bounds[name]}.")} == {}


def test_the_table_of_versions_is_about_these() -> None:
    rows = re.findall(r"^\| (oldest|newest) \| (.*) \|$", RESULTS.read_text(encoding="utf-8"), re.MULTILINE)
    found = {name: cells.split(" | ")[2 : 2 + len(NAMED)] for name, cells in rows}
    assert found["oldest"] == [constraints("oldest")[name] for name in NAMED]
    assert all(cells.split(" | ")[-3] == "0" for _, cells in rows)
