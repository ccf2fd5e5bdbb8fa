# SPDX-License-Identifier: Apache-2.0
"""What people are shown of recordings. Nothing here touches the hardware, or writes into a recording."""
