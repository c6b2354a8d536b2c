#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# mcap 1.6.0 (Python) and rosbags 0.11.9: a file of mcap's own Writer(repeat_channels=False), whose summary has chunk indexes and
#   statistics, but no copies of the channels. The format leaves them to the writer: "Channel records may be duplicated in the
#   summary section".
#
# Guess before the run: both find the channels where they stand, in the chunks, and yield all three messages.
# Seen: mcap's own reader raises KeyError: 1, but yields all three from a stream that cannot seek. rosbags says message_count 3
#   and yields none, without an error: to it the file has no topics. Without copies of the schemas alone mcap's reader raises as well,
#   and rosbags yields all three, as it does when both kinds are missing: only then it looks into the chunks.
# Matters here: bags are read with rosbags: such a drive would be empty. The reader looks for the channels in the chunks.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
export PIP_DISABLE_PIP_VERSION_CHECK=1
python3 -m pip install -qq --target "$folder" mcap==1.6.0 rosbags==0.11.9 "numpy<2.5"
cd "$folder"
PYTHONPATH=$folder python3 - <<'PYTHON'
import io
from pathlib import Path

from mcap.reader import NonSeekingReader, make_reader
from mcap.writer import Writer
from rosbags.rosbag2 import Reader


def seen(reader):
    try:
        return [message.log_time for _, _, message in reader.iter_messages()]
    except KeyError as error:
        return repr(error)


found = {}
for names in ([], ["repeat_channels"], ["repeat_schemas"], ["repeat_channels", "repeat_schemas"]):
    options = dict.fromkeys(names, False)
    file = io.BytesIO()
    writer = Writer(file, **options)
    writer.start("ros2", "x")
    schema = writer.register_schema("std_msgs/msg/String", "ros2msg", b"string data\n")
    channel = writer.register_channel("/a", "cdr", schema)
    for time in (100, 200, 300):
        writer.add_message(channel, time, b"\x00\x01\x00\x00\x02\x00\x00\x00a\x00", time)
    writer.finish()
    Path("a.mcap").write_bytes(file.getvalue())
    with Reader("a.mcap") as bag:
        others = bag.message_count, [time for _, time, _ in bag.messages()]
    stream = seen(NonSeekingReader(io.BytesIO(file.getvalue())))
    found[" ".join(options)] = seen(make_reader(io.BytesIO(file.getvalue()))), *others
    print(f"{options}: mcap {seen(make_reader(io.BytesIO(file.getvalue())))}, from a stream {stream}; rosbags {others}")
    assert stream == [100, 200, 300], "the behaviour has changed"
every = [100, 200, 300]
assert found == {
    "": (every, 3, every),
    "repeat_channels": ("KeyError(1)", 3, []),
    "repeat_schemas": ("KeyError(1)", 3, every),
    "repeat_channels repeat_schemas": ("KeyError(1)", 3, every),
}, "the behaviour has changed"
PYTHON
