"""Volumes: named folders that outlive containers, kept by drivers. `local` is the one that is always there.

drivers.py    the interface of a driver, and how one is asked: never for ever
local.py      the local driver: a folder under the data root, or what its options have mounted there
store.py      the rows
shelf.py      all volumes in memory, who holds and who uses them; what changes together with driver and rows
volumes.py    the jobs for clients        use.py    the jobs for the daemon
copyup.py     a new volume gets what the image has at its place
"""
