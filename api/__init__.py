"""HTTP in, jobs out: listeners, requests, routes, and how answers look.

A request is a row of the route table (`routes.py`); the row says which job it becomes and how the answer is made of
the job's outcome. Jobs never see HTTP. What they may count on:

    stdin     the body of a request whose row streams it; a hijacked connection
    stdout    the body of the answer of a `raw` row; a hijacked connection, where plain bytes are put in frames unless
              the job said at `ready` that there is a terminal (`Tty`); it can be detached (`streams.Detachable`)
    stderr    a hijacked connection's second kind of frame
    emit      lines of an answer that tells progress
    ready     the answer's head goes out; errors before it are statuses, after it they come late
"""

from .route import Route
from .serve import install

__all__ = ["Route", "install"]
