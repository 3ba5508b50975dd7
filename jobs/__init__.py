"""The strategies: one file each. The folder is the catalogue; `raysweep list` reads it."""
