# SPDX-License-Identifier: Apache-2.0
"""Two runs side by side: what got worse, what got better, in words; silent about what may be noise.

`figures` gathers what is known of a run, `noise` says what differs more than the runs themselves vary, `judging` puts it
into words, `showing` prints it.
"""
