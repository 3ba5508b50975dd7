"""Clusters on Kubernetes: kind, minikube, or an existing one.

kind, minikube, existing    the targets; target is what they share
raycluster      common to all three: up, down, scale, logs
plan            what the options add to an overlay; manifests renders it
api             the Kubernetes API; waiting reports what is wrong while objects start
kube_secrets, package_map, job_secret    token and keys as Secrets, the resubmitter's code as a ConfigMap,
                a RayJob's own variables as a Secret
"""
