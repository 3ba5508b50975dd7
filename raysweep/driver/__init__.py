"""A job's life, from its command line to its exit code: `main` for strategy files, `run` for notebooks.

preflight       everything that can be wrong, before anything starts
runner          one sweep: the loop, put together and run
supervisor      starts a driver that died again
local_ray, capacity     the Ray that it runs on, and what that can ever give
"""
