"""Where Ray runs: `targets` says what each target offers, `lifecycle` brings the project's cluster up and down.

local, docker, aws, kubernetes/     the targets
shared/         what several of them need: ports, processes, forwards, keys, waiting
vm_config       cluster.yaml, for Ray's own autoscaler
ping            does a dashboard answer, and take this token?
"""
