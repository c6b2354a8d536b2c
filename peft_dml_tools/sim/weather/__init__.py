# SPDX-License-Identifier: Apache-2.0
"""Fog, rain and snow for simulated and real frames: one scalar acts on LiDAR, radar and cameras alike."""

from peft_dml_tools.sim.weather.weather import Weather, apply, apply_to_snapshot, weather_rng

__all__ = ["Weather", "apply", "apply_to_snapshot", "weather_rng"]
