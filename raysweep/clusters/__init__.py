"""Where Ray runs: `targets` says what each target offers, `lifecycle` brings the project's cluster up and down.

local, docker, aws, kubernetes/     the targets
shared/         used by several of them: images, ports, processes, forward, s3_keys, until (waiting)
vm_config       cluster.yaml, for Ray's own autoscaler
security_group  who may log in to its machines
ping            checks whether a dashboard answers and accepts this token
"""
