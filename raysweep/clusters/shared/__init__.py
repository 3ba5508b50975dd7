"""What several targets need: ports and processes of this machine, and the keys of an S3 store."""
