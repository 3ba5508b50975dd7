"""What people have for Ray Tune runs here: once each example and each framework, or with FROM_TUNE_FULL=1 under all of
its strategies.
"""

import os

FULL = bool(os.environ.get("FROM_TUNE_FULL"))
