"""A CT volume in memory, and its way in and out of files."""

from ctgen.volume.volume import Volume

__all__ = ["Volume"]
