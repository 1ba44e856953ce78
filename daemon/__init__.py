"""Containers: their definitions, their life, and the processes in them.

    names.py      which container is meant          config.py   image and request make one configuration
    container.py  one container, in memory          host.py     HostConfig checked, and turned into a Command
    lifecycle.py  states and transitions            users.py    USER in numbers, out of the image's own files
    state.py      what outlives the daemon          reconcile.py  the only way to start

`install.install` is the door; everything else is called by jobs.
"""
