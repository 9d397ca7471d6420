"""Nodes of the lab: one process that plays three kubelets. It runs pods as processes with addresses of their own.

True to a kubelet where traffic and diagnosis are concerned: a network and process numbers for each pod, the three
kinds of probes, preStop, SIGTERM, the grace period, SIGKILL, exit codes, back-off, logs through the API, events. It has
no images, volumes, control groups or security contexts: a pod sees this machine's files, and what an image brings is
written down in images.py.
"""
