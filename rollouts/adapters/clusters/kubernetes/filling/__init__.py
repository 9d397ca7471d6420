"""Fills a volume with a version's files: a Job fetches them from Headgate before the engine of a variant is made.

fill_volume  what runs in the Job
objects      the Job, the pass that it shows Headgate, and what it may reach
reading      how far it is, in words
filler       makes the Job, and tells how far it is
"""
