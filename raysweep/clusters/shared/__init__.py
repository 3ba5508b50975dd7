"""Used by several targets: ports and processes on this machine, and the keys of an S3 store."""
