# SPDX-License-Identifier: Apache-2.0
"""Where files of ours go, what they are called, how they come to be there whole, and which of them are removed.

What a file holds tells of somebody's job, so it is for its user alone: files have the mode 0600, folders that are made
here 0700. A file is written under a temporary name beside its own and then renamed: no half file is ever met under the
final name. Other users may be able to write to the folder, if it is a shared one; so no link that is there already is
followed (https://cwe.mitre.org/data/definitions/59.html), a folder is opened once and everything in it reached from
there, and a folder that nobody named counts only if it is ours alone
(https://cwe.mitre.org/data/definitions/379.html).
"""

from otel_hwmetrics.folders.folder import DRAFTS_FOR, KEEP, Folder
from otel_hwmetrics.folders.names import file_name, host
from otel_hwmetrics.folders.places import OWN, folder, runtime_folders, served

__all__ = ["DRAFTS_FOR", "KEEP", "OWN", "Folder", "file_name", "folder", "host", "runtime_folders", "served"]
