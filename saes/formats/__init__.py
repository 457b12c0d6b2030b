"""SAEs that others trained: one reader per format, and a writer for SAELens 6."""

from saes.formats.detection import FORMATS, format_of, read_stored
from saes.formats.source import Source
from saes.formats.stored import StoredSAE

__all__ = ["FORMATS", "Source", "StoredSAE", "format_of", "read_stored"]
