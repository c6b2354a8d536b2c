# SPDX-License-Identifier: Apache-2.0
"""Parameters: every misspelling is refused and the right name given, every error at once."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from peft_dml_ros.core.errors import ConfigError
from peft_dml_ros.core.params import PerceptionParams, describe
from peft_dml_tools.parameter_files import load_params

NAMES = [info.name for info in describe()]


def test_every_parameter_is_described_and_within_its_own_range():
    for info in describe():
        assert info.description, info.name
        if info.minimum is not None:
            assert info.minimum <= info.default
        if info.maximum is not None:
            assert info.default <= info.maximum


@given(st.sampled_from(NAMES), st.integers(0, 30))
def test_a_misspelt_name_is_refused_and_the_right_one_named(name, position):
    at = position % len(name)
    misspelt = name[:at] + "q" + name[at:]
    with pytest.raises(ConfigError, match=f"unknown parameter.*{name}"):
        load_params({misspelt: 1})


def test_all_errors_come_at_once():
    with pytest.raises(ConfigError) as error:
        load_params({"sync.period_s": 0.0, "threads": "many", "scor_threshold": 0.2})
    for part in ("sync.period_s", "threads", "scor_threshold"):
        assert part in str(error.value)


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"sensors": "LIDAR_TOP"}, "parameter 'sensors' = 'LIDAR_TOP': Input should be a list, such as"),
        ({"sensors": ["LIDER"]}, r"\['LIDER'\]: sensor name 'LIDER' fits no kind of sensor; fix: "),
        ({"sync.offsets": ["CAM=x"]}, "^parameters: CAM=x: each must be of the form SENSOR=SECONDS"),
    ],
)
def test_an_error_has_the_words_of_the_file_and_not_of_the_library(wrong, said):
    with pytest.raises(ConfigError, match=said):
        load_params(wrong)


def test_a_ros_parameter_file_is_read(tmp_path):
    file = tmp_path / "p.yaml"
    file.write_text("perception:\n  ros__parameters:\n    threads: 1\n    detection: {score_threshold: 0.3}\n")
    params = load_params(file)
    assert (params.threads, params.detection.score_threshold) == (1, 0.3)
    assert params.sync == PerceptionParams().sync


@pytest.mark.parametrize("text", [b"{", b"- 1\n- 2\n", b"threads: [1", b"\x89MCAP0\xff", b"1: 2\n"])
def test_a_broken_file_is_named(tmp_path, text):
    file = tmp_path / "broken.yaml"
    file.write_bytes(text)
    with pytest.raises(ConfigError, match=r"broken\.yaml[^\n]*\Z"):
        load_params(file)


def test_a_name_that_is_value_and_group_is_refused():
    with pytest.raises(ConfigError, match=r"sync\.period_s"):
        load_params({"sync": 1, "sync.period_s": 0.2})


@pytest.mark.parametrize("name", ["FOO", "lidar_top", "LIDAR TOP"])
def test_a_sensor_of_no_known_kind_is_refused(name):
    with pytest.raises(ConfigError, match=f"sensors.*{name}"):
        load_params({"sensors": ["LIDAR_TOP", name]})


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(ConfigError, match=r"absent\.yaml"):
        load_params(tmp_path / "absent.yaml")
