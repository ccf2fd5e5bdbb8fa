# SPDX-License-Identifier: Apache-2.0
"""Where alerts go: onto spans and into logs."""
