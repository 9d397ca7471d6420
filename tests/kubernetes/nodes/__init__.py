"""Nodes of the lab: one process that plays three kubelets. It runs pods as processes with addresses of their own.

True to a kubelet where traffic, files and diagnosis are concerned: a network and process numbers for each pod, volumes,
the three kinds of probes, preStop, SIGTERM, the grace period, SIGKILL, exit codes, last words, back-off, logs through
the API, events. It has no images, control groups or security contexts: beside its volumes a pod sees this machine's
files, and what an image brings is written down in images.py.
"""
