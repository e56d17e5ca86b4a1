"""Volumes of your own, one label each: listed as image files are."""

from edgeward.data.sources.folder import open_source

__all__ = ["open_source"]
