# SPDX-License-Identifier: Apache-2.0
"""Public weights into the frozen encoders: every tensor of the file and of the encoder is accounted for."""
