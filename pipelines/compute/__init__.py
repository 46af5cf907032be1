"""Where work runs: in this process, on local workers, on a Dask cluster, or in SLURM jobs.

Nothing here changes a parameter or a digest or, where the kernels train, a bit of a result, so it
is steered by a file that is not in git and by the environment (:mod:`.settings`), never by
parameters.
A stage has a :class:`Pool`; a process of its own, the :mod:`.keeper`, owns the workers and lives
from the first stage that trains to a minute after the last. ``docs/RUNNING.md`` is the manual.
"""

from pipelines.compute.placement import Place, announced, place
from pipelines.compute.pool import (
    Abandoned,
    Pool,
    WorkerDied,
    announce,
    worker_number,
)
from pipelines.compute.settings import (
    Compute,
    data_directory,
    gpus_wanted,
    settings,
    visible_gpus,
)

__all__ = [
    "Abandoned",
    "Compute",
    "Place",
    "Pool",
    "WorkerDied",
    "announce",
    "announced",
    "data_directory",
    "gpus_wanted",
    "place",
    "settings",
    "visible_gpus",
    "worker_number",
]
