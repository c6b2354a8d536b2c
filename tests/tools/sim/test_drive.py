# SPDX-License-Identifier: Apache-2.0
import itertools
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from peft_dml_ros.core.measurements import CameraImage, GnssFix, ImuSample, LidarSweep, OdometrySample, RadarSweep
from peft_dml_tools.sim.drive import Drive, DriveSpec
from peft_dml_tools.sim.weather import Weather

KINDS = {
    "CAM": CameraImage,
    "LIDAR": LidarSweep,
    "RADAR": RadarSweep,
    "IMU": ImuSample,
    "GNSS": GnssFix,
    "ODOM": OdometrySample,
}


def _payload(measurement) -> bytes:
    if isinstance(measurement, CameraImage):
        return measurement.jpeg
    if isinstance(measurement, (LidarSweep, RadarSweep)):
        return measurement.points.tobytes()
    return repr(measurement).encode()


@pytest.fixture(scope="module")
def measurements(drive):
    return list(drive.measurements())


def test_every_sensor_speaks_in_stamp_order_and_never_at_once(drive, measurements):
    stamps = [m.stamp_ns for _, m in measurements]
    assert all(a < b for a, b in itertools.pairwise(stamps))
    assert {name for name, _ in measurements} == set(drive.rig.sensors)
    for name, measurement in measurements:
        assert isinstance(measurement, KINDS[name.split("_")[0]])
        assert measurement.stamp_ns % 1000 == 0


def test_any_number_of_workers_gives_the_same_bytes(drive, measurements):
    other = Drive(drive.seed, drive.duration_s, drive.spec, workers=2)
    assert [(n, _payload(m)) for n, m in other.measurements()] == [(n, _payload(m)) for n, m in measurements]


def test_truth_holds_only_what_was_met(drive, measurements):
    sweeps = {m.stamp_ns: m for _, m in measurements if isinstance(m, LidarSweep)}
    assert set(drive.truth) == set(sweeps)
    pose = drive.rig["LIDAR_TOP"].base_SE3_sensor
    stamp, boxes = list(drive.truth.items())[5]
    points = pose.transform(sweeps[stamp].points[:, :3].astype(np.float64))
    assert len(boxes.ids) == len(boxes) > 5
    assert (boxes.contain(points, 0.15).any(axis=1)).mean() > 0.75  # the rest is seen by radars alone
    assert len(boxes) < len(drive.truth_at(stamp))


def test_truth_can_be_had_before_the_measurements(drive, measurements):
    fresh = Drive(drive.seed, drive.duration_s, drive.spec)
    stamp = list(drive.truth)[3]
    assert fresh.truth[stamp].ids == drive.truth[stamp].ids


DRIVE = "drive = Drive(1, 30.0, workers=2); drive.events; print('going', flush=True); list(drive.measurements())"
SCENES = "print('going', flush=True); app(['simulate', '--scenes', '2', '--workers', '2', '--out', sys.argv[1]])"


@pytest.mark.parametrize("work", [DRIVE, SCENES])
def test_an_interrupt_is_told_once_not_by_every_worker(work, tmp_path):
    code = (
        "import sys; from peft_dml_tools.sim.drive import Drive; from peft_dml_ros.cli.main import app\n"
        "if __name__ == '__main__':\n"
        "    try:\n"
        f"        {work}\n"
        "    except KeyboardInterrupt:\n"
        "        sys.exit(130)\n"
    )
    # As a terminal does it: the signal goes to the whole group, and nobody ignores it to begin with.
    begin = (
        "import signal, os, sys; signal.signal(signal.SIGINT, signal.SIG_DFL); os.execv(sys.executable, sys.argv[1:])"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", begin, sys.executable, "-c", code, tmp_path],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    assert process.stdout.readline() == "going\n"
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children")
    limit_s = time.monotonic() + 20
    while len(children.read_text().split()) < 3 and time.monotonic() < limit_s:  # one of them tracks resources
        time.sleep(0.02)
    time.sleep(0.3)  # the workers are still importing, when a signal hits hardest
    os.killpg(process.pid, signal.SIGINT)
    _, said = process.communicate(timeout=30)
    assert process.returncode == 130
    assert said.count("\n") <= 1, said
    assert "Traceback" not in said


def test_an_interrupt_that_another_thread_takes_waits_for_the_pool():
    """A thread that blocks nothing, such as a library's, is given the signal; Python raises it in the main thread."""
    code = (
        "import os, signal, threading, time; from peft_dml_tools.sim.workers import no_interrupts\n"
        "threading.Thread(target=time.sleep, args=(5,), daemon=True).start()\n"
        "inside = True\n"
        "try:\n"
        "    with no_interrupts():\n"
        "        os.kill(os.getpid(), signal.SIGINT)\n"
        "        time.sleep(0.5)\n"
        "        inside = False\n"
        "except KeyboardInterrupt:\n"
        "    print('inside' if inside else 'after')\n"
    )
    begin = f"import signal; signal.signal(signal.SIGINT, signal.default_int_handler)\n{code}"
    done = subprocess.run([sys.executable, "-c", begin], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout == "after\n"


def test_an_interrupt_ends_a_pool_that_is_writing_results():
    code = (
        "import signal; from peft_dml_tools.sim.workers import in_processes\n"
        "def interrupt(*_):\n"
        "    raise KeyboardInterrupt\n"
        "if __name__ == '__main__':\n"
        "    signal.signal(signal.SIGALRM, interrupt)\n"
        "    results = in_processes(bytes, [300_000_000] * 100, 2, ahead=2)\n"
        "    next(results)\n"
        "    signal.setitimer(signal.ITIMER_REAL, 0.3)\n"
        "    try:\n"
        "        list(map(len, results))\n"
        "    except KeyboardInterrupt:\n"
        "        print('ended')\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout == "ended\n"


def test_keyframes_come_every_half_second():
    drive = Drive(1, 2.0, DriveSpec(lidar_hz=20.0))
    assert np.diff(drive.keyframes_ns).tolist() == [500_000_000] * 3
    assert drive.keyframes_ns[0] == drive.events[0].stamp_ns + 500_000_000


def test_weather_of_the_drive_reaches_its_sensors_and_leaves_the_truth():
    clear = Drive(11, 1.0, DriveSpec(camera_hz=2))
    foggy = Drive(11, 1.0, DriveSpec(camera_hz=2, weather=Weather.parse("fog=40")))
    sees = {"clear": [], "foggy": []}
    for (name, before), (_, after) in zip(clear.measurements(), foggy.measurements(), strict=True):
        if name == "LIDAR_TOP":
            for key, sweep in (("clear", before), ("foggy", after)):
                sees[key].append((np.linalg.norm(sweep.points[:, :3], axis=1) > 40).sum())
        elif name == "CAM_FRONT":
            assert before.jpeg != after.jpeg
        elif name == "IMU":
            np.testing.assert_array_equal(before.accel_mps2, after.accel_mps2)
    assert sum(sees["foggy"]) < 0.2 * sum(sees["clear"])
    for stamp, boxes in clear.truth.items():
        assert boxes.ids == foggy.truth[stamp].ids
