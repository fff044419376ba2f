"""The Grafana dashboard: what it asks for is what a mounted store tells.

Grafana itself is not run: Debian has none. Its queries are, by a real Prometheus.
"""

import contextlib
import json
import mmap
import os
import re
import shutil
import socket
import subprocess
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.integration.harness import Mounted, difffs, wait_until
from tests.pages import guest_memory

ROOT = Path(__file__).parents[2]
OF_THE_TARGET = {"instance", "job"}
"""Labels that Prometheus adds to all that it gathers from one address."""

pytestmark = pytest.mark.integration


def dashboard() -> dict[str, Any]:
    found: dict[str, Any] = json.loads((ROOT / "docs/grafana-dashboard.json").read_text())
    return found


def panels() -> list[dict[str, Any]]:
    return [panel for panel in dashboard()["panels"] if panel["type"] != "row"]


@dataclass(frozen=True)
class Query:
    """One of a panel's, or of the documents."""

    title: str
    expression: str
    legend: str = ""


def queries() -> list[Query]:
    return [
        Query(panel["title"], target["expr"], target["legendFormat"])
        for panel in panels()
        for target in panel["targets"]
    ]


def documented() -> list[Query]:
    text = (ROOT / "docs/operations.md").read_text()
    blocks = re.findall(r"^```promql\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    return [Query("docs/operations.md", line) for block in blocks for line in block.splitlines()]


def filled(expression: str, rate: str = "5m") -> str:
    """The query as Grafana sends it with all hosts and stores chosen."""
    text = expression.replace("$__rate_interval", rate)
    text = text.replace("$instance", ".*").replace("$store", ".*")
    assert "$" not in text
    return text


def test_panels_are_whole_and_side_by_side() -> None:
    told = dashboard()
    places = {panel["id"]: panel["gridPos"] for panel in told["panels"]}
    assert len(places) == len(told["panels"])
    for one, other in combinations(places.values(), 2):
        assert (
            one["x"] + one["w"] <= other["x"]
            or other["x"] + other["w"] <= one["x"]
            or one["y"] + one["h"] <= other["y"]
            or other["y"] + other["h"] <= one["y"]
        ), (one, other)
    assert all(place["x"] + place["w"] <= 24 for place in places.values())
    titles = [panel["title"] for panel in told["panels"]]
    assert len(set(titles)) == len(titles)
    variables = {variable["name"] for variable in told["templating"]["list"]}
    for panel in panels():
        assert panel["interval"] == "1m", "the file is written once a minute"
        for asked in (panel, *panel["targets"]):
            assert asked["datasource"] == {"type": "prometheus", "uid": "${datasource}"}
        references = [target["refId"] for target in panel["targets"]]
        assert len(set(references)) == len(references)
        for target in panel["targets"]:
            used = set(re.findall(r"\$(\w+)", target["expr"]))
            assert used <= {*variables, "__rate_interval"}
            assert {"instance", "store"} <= used, "what was chosen above is what is shown"
    for variable in told["templating"]["list"]:
        if variable["type"] == "query":
            assert re.fullmatch(
                r"label_values\(difffs_\w+(\{.*\})?, \w+\)", variable["query"]["query"]
            )


Labels = dict[str, set[str]]


def told_by(mount: Mounted) -> dict[str, Labels]:
    """Names of samples, with the labels of each and their values."""
    found: dict[str, Labels] = {}
    text = difffs("stats", mount.path, "--prometheus").stdout
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            labels = found.setdefault(sample.name, {})
            for name, value in sample.labels.items():
                labels.setdefault(name, set()).add(value)
    return found


def test_queries_name_what_there_is(mount: Mounted) -> None:
    told = told_by(mount)
    asked = [*queries(), *documented()]
    for variable in dashboard()["templating"]["list"]:
        if variable["type"] == "query":
            (inside, label) = re.fullmatch(
                r"label_values\((.*), (\w+)\)", variable["query"]["query"]
            ).groups()  # type: ignore[union-attr]
            asked.append(Query(variable["name"], inside, f"{{{{{label}}}}}"))
    seen = 0
    for query in asked:
        names = re.findall(r"\bdifffs_\w+", query.expression)
        assert names or "node_textfile_mtime_seconds" in query.expression
        assert not [name for name in names if name not in told], query
        seen += len(names)
        of_any = OF_THE_TARGET.union(*(told[name] for name in names))
        for name, selector in re.findall(r"\b(difffs_\w+)\{([^}]*)\}", query.expression):
            for label, operator, value in re.findall(r'(\w+)(=~?)"([^"]*)"', selector):
                if label not in OF_THE_TARGET:
                    assert label in told[name], query
                if operator == "=":
                    assert value in told[name][label], query
        grouped = re.findall(r"\b(?:by|on|group_left) \(([^)]*)\)", query.expression)
        shown = re.findall(r"\{\{(\w+)\}\}", query.legend)
        labels = {label.strip() for group in grouped for label in group.split(",")}.union(shown)
        if names:
            assert labels <= of_any, query
    assert seen > 40


def test_promtool_understands_the_queries(tmp_path: Path) -> None:
    promtool = shutil.which("promtool")
    if promtool is None:
        pytest.skip("no promtool (Debian's package prometheus)")
    rules = [
        {"record": f"query_{number}", "expr": filled(query.expression)}
        for number, query in enumerate([*queries(), *documented()])
    ]
    file = tmp_path / "rules.yml"
    file.write_text(json.dumps({"groups": [{"name": "all", "rules": rules}]}))  # YAML contains JSON
    done = subprocess.run(
        [promtool, "check", "rules", str(file)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert f"{len(rules)} rules found" in done.stdout


class Prometheus:
    """A Prometheus that gathers a folder's metrics through node_exporter, once a second."""

    def __init__(self, address: str) -> None:
        self._address = address

    def ask(self, expression: str) -> list[dict[str, Any]]:
        """The series that a query finds now."""
        query = urllib.parse.urlencode({"query": expression})
        try:
            with urllib.request.urlopen(f"http://{self._address}/api/v1/query?{query}") as reply:
                answer = json.load(reply)
        except urllib.error.HTTPError as error:
            pytest.fail(f"{expression}: {error.read().decode()}")
        assert answer["status"] == "success"
        found: list[dict[str, Any]] = answer["data"]["result"]
        return found

    def value(self, expression: str) -> float:
        """The only one that a query finds; 0 when there is none."""
        found = self.ask(expression)
        assert len(found) <= 1
        return float(found[0]["value"][1]) if found else 0.0

    def is_there(self) -> bool:
        try:
            with urllib.request.urlopen(f"http://{self._address}/-/ready"):
                return True
        except OSError:
            return False


def free_address() -> str:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return f"127.0.0.1:{taken.getsockname()[1]}"


@contextlib.contextmanager
def prometheus(folder: Path, metrics: Path) -> Iterator[Prometheus]:
    server = shutil.which("prometheus")
    exporter = shutil.which("prometheus-node-exporter") or shutil.which("node_exporter")
    if server is None or exporter is None:
        pytest.skip("needs Debian's packages prometheus and prometheus-node-exporter")
    source, address = free_address(), free_address()
    settings = {
        "global": {"scrape_interval": "1s"},
        "scrape_configs": [{"job_name": "node", "static_configs": [{"targets": [source]}]}],
    }
    file = folder / "prometheus.yml"
    file.write_text(json.dumps(settings))
    commands = [
        [
            exporter,
            "--collector.disable-defaults",
            "--collector.textfile",
            f"--collector.textfile.directory={metrics}",
            f"--web.listen-address={source}",
        ],
        [
            server,
            f"--config.file={file}",
            f"--storage.tsdb.path={folder / 'data'}",
            f"--web.listen-address={address}",
        ],
    ]
    with contextlib.ExitStack() as stack:
        for number, command in enumerate(commands):
            log = stack.enter_context((folder / f"log{number}").open("w"))
            process = stack.enter_context(subprocess.Popen(command, stdout=log, stderr=log))
            stack.callback(process.terminate)
        one = Prometheus(address)
        wait_until(one.is_there)
        yield one


def work(mount: Mounted, seed: int) -> None:
    """Pages of all kinds written, committed and read again, singly and many at once."""
    path = mount.path / "guest"
    path.write_bytes(guest_memory(seed, 400))
    mount.commit()
    buffer = mmap.mmap(-1, 1 << 20)
    file = os.open(path, os.O_RDONLY | os.O_DIRECT)
    for page in range(100):
        os.preadv(file, [memoryview(buffer)[:4096]], page * 4096)
    for place in range(4):
        os.preadv(file, [memoryview(buffer)[: 4 * 4096]], place * 4096)
        os.preadv(file, [memoryview(buffer)[: 64 * 4096]], place * 4096)
    os.close(file)


@pytest.mark.minutes
def test_prometheus_answers_every_query(mount: Mounted, tmp_path: Path) -> None:
    """From the mount through node_exporter's textfile collector into a real Prometheus."""
    metrics = tmp_path / "metrics"
    metrics.mkdir()
    with prometheus(tmp_path, metrics) as server:
        seed = 0

        def enough() -> bool:
            nonlocal seed
            seed += 1
            work(mount, seed)
            difffs("stats", mount.path, "--prometheus", metrics / "difffs-one.prom")
            return server.value("count_over_time(difffs_factor[5m])") >= 8

        wait_until(enough, 120)
        pages = server.ask("sum(difffs_pages)")
        assert float(pages[0]["value"][1]) == 400
        for query in queries():
            found = server.ask(filled(query.expression))
            assert found, query
            labels = re.findall(r"\{\{(\w+)\}\}", query.legend)
            for series in found:
                assert all(series["metric"].get(label) for label in labels), query
            values = [float(series["value"][1]) for series in found]
            if "histogram_quantile" in query.expression:
                # kinds that there were none of have no quantile
                known = [value for value in values if value == value]
                assert known, query
                assert all(0 < value < 10 for value in known), query
            else:
                assert all(value >= 0 for value in values), query
        for query in documented():
            # of what is to be compared, whether it is there
            assert server.ask(filled(re.sub(r" (>|==) [\d.]+$", "", query.expression))), query
            server.ask(filled(query.expression))
        counted = server.value('difffs_request_seconds_count{request="page_read"}')
        timed = server.value('difffs_request_seconds_bucket{request="page_read", le="+Inf"}')
        assert counted == timed > 0
        assert counted % 100 == 0
