# SPDX-License-Identifier: Apache-2.0
import os
import subprocess
import sys

import pytest

from peft_dml_ros.core.errors import ConfigError
from peft_dml_tools.live.environment import require_ros


@pytest.mark.parametrize("module", ["perception", "replay", "recorder"])
def test_a_middleware_that_is_not_installed_is_one_line_with_the_mend(module):
    command = [sys.executable, "-m", f"peft_dml_ros.nodes.{module}"]
    environment = os.environ | {"RMW_IMPLEMENTATION": "rmw_nobodys_cpp"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert line.startswith("error: RMW_IMPLEMENTATION is 'rmw_nobodys_cpp'")
    assert "installed: rmw_" in line
    assert "unset RMW_IMPLEMENTATION" in line


def test_the_demo_tells_it_before_it_begins(monkeypatch):
    monkeypatch.setenv("RMW_IMPLEMENTATION", "rmw_nobodys_cpp")
    with pytest.raises(ConfigError, match="rmw-nobodys-cpp"):
        require_ros()
    for installed in ("rmw_fastrtps_cpp", ""):
        monkeypatch.setenv("RMW_IMPLEMENTATION", installed)
        require_ros()


def test_without_an_index_of_packages_rcl_has_to_find_out(monkeypatch, tmp_path):
    monkeypatch.setenv("RMW_IMPLEMENTATION", "rmw_nobodys_cpp")
    monkeypatch.setenv("AMENT_PREFIX_PATH", str(tmp_path))
    monkeypatch.setattr(sys, "prefix", str(tmp_path))
    require_ros()


@pytest.mark.parametrize("domain", ["233", "abc", "-1", "1.5"])
def test_a_domain_that_cannot_be_is_refused_before_a_node_starts(monkeypatch, domain):
    monkeypatch.setenv("ROS_DOMAIN_ID", domain)
    with pytest.raises(ConfigError, match=rf"ROS_DOMAIN_ID is '{domain}'; fix: export a whole number from 0 to 232"):
        require_ros()
    for fine in ("", "0", "232"):
        monkeypatch.setenv("ROS_DOMAIN_ID", fine)
        require_ros()
