"""Prometheus' own tool takes the alert rules and the queries of the board."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.live.stack import ROOT

MONITORING = ROOT / "docs" / "monitoring"


@pytest.mark.skipif(shutil.which("promtool") is None, reason="no promtool on the PATH")
def test_promtool_takes_the_rules_and_the_queries_of_the_board(tmp_path: Path) -> None:
    queries = map(json.loads, re.findall(r'"expr": (".*"),?$', (MONITORING / "grafana.json").read_text(), re.MULTILINE))
    asked = [query.replace("$__rate_interval", "5m").replace("$job", "sambung") for query in queries]
    assert asked
    rules = [{"record": f"board:query_{number}", "expr": query} for number, query in enumerate(asked)]
    # JSON is YAML.
    (tmp_path / "board.yml").write_text(json.dumps({"groups": [{"name": "board", "rules": rules}]}))
    for file in (MONITORING / "alerts.yml", tmp_path / "board.yml"):
        done = subprocess.run(["promtool", "check", "rules", file], capture_output=True, text=True, timeout=60)
        assert done.returncode == 0, done.stdout + done.stderr
