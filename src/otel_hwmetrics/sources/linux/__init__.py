# SPDX-License-Identifier: Apache-2.0
"""The kernel's files: read cheaply, parsed strictly. Shared by the sources; nothing here is one, and all of it imports anywhere."""
