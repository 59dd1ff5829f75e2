"""Data sets checked before anything is trained on them: what is wrong, how bad it is, and what to do."""

from rcnnkit.checking.check import Checked, check_data
from rcnnkit.checking.findings import Finding, Kind

__all__ = ["Checked", "Finding", "Kind", "check_data"]
