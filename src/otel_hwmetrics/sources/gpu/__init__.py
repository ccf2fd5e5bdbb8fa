# SPDX-License-Identifier: Apache-2.0
"""GPUs: one file a vendor, over what `base` shares."""
