# SPDX-License-Identifier: Apache-2.0
"""The demo: simulate a drive, break its sensors, record the boxes and draw them."""
