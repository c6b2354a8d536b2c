#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# rosbags 0.11.9: messages of a rosbag2 folder with two files whose times overlap (`ros2 bag reindex` over one recording a sensor).
#
# Guess before the run: messages() yields them by time of recording, as it does within each file, whose messages it sorts, and
#   as AnyReader does with two bags.
# Seen: file after file: 100 300 500 200 400 600, SQLite and MCAP alike. The same two files, given to AnyReader as two bags,
#   come as 100 200 300 400 500 600. Nothing tells that time ran back; start_time, end_time and message_count are right.
# Matters here: with LiDAR and cameras in files of their own, no frame has both. The reader merges the files.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
export PIP_DISABLE_PIP_VERSION_CHECK=1
python3 -m pip install -qq --target "$folder/lib" rosbags==0.11.9 "numpy<2.5"
cd "$folder"
PYTHONPATH=$folder/lib python3 - <<'PYTHON'
import shutil
from pathlib import Path

from rosbags.highlevel import AnyReader
from rosbags.rosbag2 import Reader, StoragePlugin, Writer
from rosbags.typesys import Stores, get_typestore
from ruamel.yaml import YAML

store, yaml = get_typestore(Stores.ROS2_JAZZY), YAML()
kind, key = "std_msgs/msg/Int64", "rosbag2_bagfile_information"
for plugin in (StoragePlugin.SQLITE3, StoragePlugin.MCAP):
    bags = []
    for topic, times in (("/lidar", (100, 300, 500)), ("/camera", (200, 400, 600))):
        bags.append(Path(plugin.name + topic.replace("/", "_")))
        with Writer(bags[-1], version=9, storage_plugin=plugin) as writer:
            connection = writer.add_connection(topic, kind, typestore=store)
            for time in times:
                writer.write(connection, time, store.serialize_cdr(store.types[kind](time), kind))
    whole = Path(plugin.name)
    whole.mkdir()
    first, second = (yaml.load(bag / "metadata.yaml")[key] for bag in bags)
    for bag in bags:
        shutil.copy(next(file for file in bag.iterdir() if file.suffix != ".yaml"), whole)
    for name in ("relative_file_paths", "topics_with_message_count", "files"):
        first[name] = [*first[name], *second[name]]
    first["message_count"], first["duration"] = 6, {"nanoseconds": 500}
    yaml.dump({key: first}, whole / "metadata.yaml")
    with Reader(whole) as reader:
        span, one = (reader.start_time, reader.end_time, reader.message_count), [time for _, time, _ in reader.messages()]
    with AnyReader(bags) as reader:
        two = [time for _, time, _ in reader.messages()]
    print(f"{plugin.name}: one folder {one} (start, end, count: {span}), two bags {two}")
    assert span == (100, 601, 6) and two == sorted(one) and one == [100, 300, 500, 200, 400, 600], "the behaviour has changed"
PYTHON
