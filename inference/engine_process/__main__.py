"""The process of an engine, which a worker starts.

python -m inference.engine_process FILE_DESCRIPTOR_OF_A_SOCKET
"""

from __future__ import annotations

import signal
import sys

# These signals are meant for the worker, which closes the socket when it stops. A supervisor sends them to every
# process of the service. They are ignored before torch is imported, which takes seconds.
for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
    signal.signal(number, signal.SIG_IGN)

if __name__ == "__main__":
    from inference.engine_process.child import serve

    serve(int(sys.argv[1]))
