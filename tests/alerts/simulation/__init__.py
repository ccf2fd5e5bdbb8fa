# SPDX-License-Identifier: Apache-2.0
"""A simulated machine on which a simulated job trains, for days if need be, and on which anything can be made to fail.

- `world`: time and chance. The job passes time; whenever a sample is due, the machine is looked at.
- `gpus`, `host`: the machine, and what its sources tell of it at each look.
- `job`: the training, written as one writes a training: a loader, steps, checkpoints, evaluations. The step clock and
  the source that reads it are the package's own.
- `faults`: what can be made to fail, one row a fault.
- `runs`: healthy runs, and one run for each fault; what the alerts made of them.

All chance is seeded: the same run is the same on every machine.
"""
