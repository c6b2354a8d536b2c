# SPDX-License-Identifier: Apache-2.0
"""Cameras: faces into a depth buffer, light on each pixel, then exposure."""

from peft_dml_tools.sim.camera.renderer import Picture, Renderer, encode_depth, encode_jpeg

__all__ = ["Picture", "Renderer", "encode_depth", "encode_jpeg"]
