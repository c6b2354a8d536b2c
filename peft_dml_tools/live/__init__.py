# SPDX-License-Identifier: Apache-2.0
"""The live harness: starts nodes as child processes and reads their recordings back."""
