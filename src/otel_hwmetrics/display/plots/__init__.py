# SPDX-License-Identifier: Apache-2.0
"""Pictures of recorded runs: what a job used over time, and what its jobs used at the most.

`gather` reads a run, `timeline` and `overview` say what is to be seen (`picture`), `interactive` draws it as a page for a browser
with plotly, `still` as PNG or SVG with matplotlib. Both are of the extra ``plot``, and nothing here is loaded without them.
"""
