"""Workers of the tests leave soon."""

import os

os.environ["SAFS_IDLE_SECONDS"] = "8"
