"""What several targets use.

commands        runs docker, kind and the like; what one said that failed is kept, and shown
images          the kit's own images
ports           which ports are free, and who has the others
processes       the processes of a cluster on this machine
forward         a port of a cluster, forwarded to this machine for as long as the cluster is up
s3_keys         keys, bucket and endpoint of a cluster's own store
until           waits until something is true
"""
