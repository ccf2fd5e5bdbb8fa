# SPDX-License-Identifier: Apache-2.0
"""How it is read: one source a part of the machine, one reader a call. No source knows another."""
