"""Clusters on Kubernetes: kind, minikube, or an existing one.

raycluster      common to all three: up, down, scale, logs
plan            what the options add to an overlay; manifests renders it
api             the Kubernetes API; waiting reports what is wrong while objects start
kube_secrets    token and keys, as Secrets
"""
