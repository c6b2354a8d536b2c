# SPDX-License-Identifier: Apache-2.0
"""T4 data sets of version 1 in the tables of nuScenes: parquet clouds and mp4 cameras, a file a sensor.

Needs pyarrow and av (extra `datasets`). The layout is described in tier4/t4-devkit, docs/schema/v1.
"""

from fractions import Fraction
from pathlib import Path
from typing import Any, Final

import numpy as np

from peft_dml_ros.conversions.lidar import IntensityField, sweep_of_columns
from peft_dml_ros.conversions.topics import BASE_FRAME
from peft_dml_ros.core.errors import DataError
from peft_dml_ros.core.measurements import CameraImage, LidarSweep
from peft_dml_tools.datasets.nuscenes_tables import Record, Tables

CONTAINERS: Final = frozenset({"parquet", "av1_mp4"})
_FULL_RANGE: Final = 2  #: FFmpeg's AVCOL_RANGE_JPEG: T4 stores full-range BT.601


class T4Tables(Tables):
    """Tables of version 1, changed to those of nuScenes when they are read."""

    NEEDED = ("scene", "sample", "sample_data", "ego_pose", "sensor")

    def rows(self, table: str) -> list[Record]:
        """Return the records of a table of nuScenes. Raises DataError: a file is missing or damaged."""
        if table not in self._rows:
            made = {"calibrated_sensor": self._calibrations, "sample_data": self._data}.get(table)
            try:
                rows = made() if made else [_linked(row) for row in self.raw(table)]
            except (KeyError, TypeError, AttributeError) as error:
                msg = f"{self.folder / table}.json is not as T4 1.0 has it ({type(error).__name__}: {error})"
                raise DataError(f"{msg}; fix: copy it") from error
            self.require(table, rows)
            self._rows[table] = rows
        return self._rows[table]

    def _calibrations(self) -> list[Record]:
        """Return the calibration that each sensor's record holds."""
        return [
            {
                "token": row["token"],
                "sensor_token": row["token"],
                **_mounting(row),
                "camera_intrinsic": camera["intrinsic"] if (camera := row.get("camera") or {}) else [],
                "camera_distortion": [] if camera.get("is_rectified", True) else camera.get("distortion", []),
                "distortion_model": camera.get("distortion_model", ""),
            }
            for row in self.rows("sensor")
        ]

    def _data(self) -> list[Record]:
        """Return observations; those between keyframes belong to the next one, as in nuScenes."""
        cameras = {row["token"]: row.get("camera") or {} for row in self.rows("sensor")}
        samples = sorted(self.rows("sample"), key=lambda row: int(row["timestamp"]))
        times = np.array([row["timestamp"] for row in samples], dtype=np.int64)
        rows = []
        for row in self.raw("sample_data"):
            if not row.get("filename") or not row.get("is_valid", True):
                continue
            after = min(int(np.searchsorted(times, row["timestamp"])), len(samples) - 1)
            camera = cameras[row["sensor_token"]]
            rows.append(
                _linked(row)
                | {
                    "calibrated_sensor_token": row["sensor_token"],
                    "sample_token": row["sample_token"] or samples[after]["token"],
                    "width": int(camera.get("width", 0)),
                    "height": int(camera.get("height", 0)),
                }
            )
        return rows


def _mounting(row: Record) -> Record:
    """Return where a sensor's data lie in `base_link`: points may be stored in that frame, whatever the mounting."""
    if (row.get("lidar") or {}).get("frame_id") == BASE_FRAME:
        return {"translation": [0.0, 0.0, 0.0], "rotation": [1.0, 0.0, 0.0, 0.0]}
    return {"translation": row["translation"], "rotation": row["rotation"]}


def _linked(row: Record) -> Record:
    """Return a record whose missing links are empty, as in nuScenes."""
    return row | {name: row[name] or "" for name in ("prev", "next") if name in row}


def read_row_group(path: Path, index: int, stamp_ns: int, intensity: IntensityField) -> LidarSweep:
    """Read one sweep, a row group of a parquet file. Raises DataError: it is missing, damaged, or has no such sweep."""
    from pyarrow import parquet  # noqa: PLC0415  an extra
    from pyarrow.lib import ArrowException  # noqa: PLC0415

    try:
        table = parquet.ParquetFile(path).read_row_group(index)
        columns = {n: table[n].to_numpy() for n in table.column_names if n not in {"label", "instance"}}
        points = np.zeros(table.num_rows, dtype=[(name, values.dtype) for name, values in columns.items()])
        for name, values in columns.items():
            points[name] = values
    except (OSError, IndexError, KeyError, TypeError, ValueError, ArrowException) as error:
        msg = f"cannot read sweep {index} of {path}: {str(error).splitlines()[0]}"
        raise DataError(f"{msg}; fix: copy it again") from error
    if missing := {"x", "y", "z"} - columns.keys():
        msg = f"{path} lacks the columns {', '.join(sorted(missing))}; it has: {', '.join(columns)}"
        raise DataError(f"{msg}; fix: copy it again")
    return sweep_of_columns(points, stamp_ns, intensity, str(path))


class VideoFrames:
    """Frames of video files by number; a file stays open, and is read on while numbers rise by one."""

    def __init__(self) -> None:
        self._open: dict[Path, tuple[Any, Any, int]] = {}

    def read(self, path: Path, index: int, stamp_ns: int) -> CameraImage:
        """Return a frame. Raises DataError: the file is missing or damaged, or has no such frame."""
        import av  # noqa: PLC0415  an extra

        try:
            container, frames, following = self._open.get(path) or self._opened(av, path)
            stream = container.streams.video[0]
            # T4 asks for a tick a frame; ffmpeg's own choice is thousands of them.
            ticks = 1 / (stream.average_rate * stream.time_base) if stream.average_rate else Fraction(1)
            wanted = (stream.start_time or 0) + round(index * ticks)
            if following != index:
                container.seek(wanted, stream=stream)
                frames = container.decode(video=0)
            # A seek may land on a keyframe before.
            frame = next(f for f in frames if f.pts is None or f.pts > wanted - ticks / 2)
        except (OSError, av.error.FFmpegError, StopIteration, IndexError) as error:
            self._open.pop(path, None)
            msg = f"cannot read frame {index} of {path}: {error or 'there are fewer'}"
            raise DataError(f"{msg}; fix: copy it again") from error
        self._open[path] = (container, frames, index + 1)
        # PyAV takes full range for limited, whatever the frame says, where it is not named here.
        ranged = {"src_color_range": "JPEG"} if frame.color_range == _FULL_RANGE else {}
        return CameraImage(stamp_ns, pixels=frame.reformat(format="rgb24", **ranged).to_ndarray())

    @staticmethod
    def _opened(av: Any, path: Path) -> tuple[Any, Any, int]:
        container = av.open(str(path))
        return container, container.decode(video=0), 0
