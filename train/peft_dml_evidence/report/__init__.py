# SPDX-License-Identifier: Apache-2.0
"""The results page, its plots and summary.json, made from the cells' JSON files alone."""
