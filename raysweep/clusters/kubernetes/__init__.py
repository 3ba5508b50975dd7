"""Clusters on Kubernetes: kind, minikube, or an existing one.

raycluster      what the three have in common: up, down, scale, logs
plan            what the options put on top of an overlay; manifests renders it
api             the cluster's API; waiting tells what is wrong while objects come up
kube_secrets    token and keys, as Secrets
"""
