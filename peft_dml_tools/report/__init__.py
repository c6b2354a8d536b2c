# SPDX-License-Identifier: Apache-2.0
"""One self-contained HTML page about a session: animation, camera views, timelines and tables."""
