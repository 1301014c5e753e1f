"""The mapping engine: load, check and apply `mappings/`. The language is explained in `mappings/README.md`.

Pure: no I/O but `load`, which reads the files; nothing here knows a vendor.
"""

from hub.mapping.examples import ExampleResult, run_examples
from hub.mapping.loading import FOLDER, MappingProblems, load
from hub.mapping.mappings import Mappings
from hub.mapping.record import Need, RecordMapping, Skip, digest, root_name

__all__ = [
    "FOLDER",
    "ExampleResult",
    "MappingProblems",
    "Mappings",
    "Need",
    "RecordMapping",
    "Skip",
    "digest",
    "load",
    "root_name",
    "run_examples",
]
