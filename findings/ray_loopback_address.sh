#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Ray 2.60.0 (CPython 3.11, Linux x86-64) cannot join a cluster whose head it was told to bind to 127.0.0.1.
#
# Guess before the run: a head started with node_ip_address=127.0.0.1 is reached with ray.init("127.0.0.1:PORT") from the
#   same host, whatever other interfaces there are.
# Seen: ray.init replaces 127.0.0.1 (and localhost) by the host's address in its network, where the head does not listen,
#   and gives up after minutes. The same head on 127.0.0.2, which is loopback as well, is joined in seconds.
# Here the replacement alone is looked at, by Ray's own function, so that nothing has to time out; then 127.0.0.2 is joined.
# Matters here: fleet tests and benchmarks keep clusters of several nodes off the network.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
python="$folder/venv/bin/python"
$python -m pip install --quiet --disable-pip-version-check ray==2.60.0
RAY_USAGE_STATS_ENABLED=0 timeout 300 "$python" - "$folder" <<'PYTHON'
import socket, sys
import ray
from ray._private import services
from ray.cluster_utils import Cluster

own = services.get_node_ip_address()
if own.startswith("127."):
    sys.exit("skipped: this host has no address besides loopback, so there is nothing to be replaced by")
for name in ("127.0.0.1:6379", "localhost:6379"):
    found = services.canonicalize_bootstrap_address(name)
    assert found == f"{own}:6379", f"changed: {name} became {found}"
    print(f"{name} became <address of the host in its network>:6379")
assert services.canonicalize_bootstrap_address("127.0.0.2:6379") == "127.0.0.2:6379"
nodes = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "node_ip_address": "127.0.0.2", "include_dashboard": False})
ray.init(address=nodes.address, logging_level="ERROR")
print("a head on 127.0.0.2 is joined:", ray.cluster_resources()["CPU"], "CPU")
ray.shutdown()
nodes.shutdown()
PYTHON
