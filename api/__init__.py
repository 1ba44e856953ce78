"""HTTP in, jobs out: listeners, requests, routes, and how answers look."""
