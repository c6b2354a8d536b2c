# SPDX-License-Identifier: Apache-2.0
"""From weights to a bundle: ONNX graphs, manifest, model card."""
