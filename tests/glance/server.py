"""A glance-api process: the WSGI application of Glance's package, behind a server of Python's library.

    server.py DIRECTORY_OF_GLANCE_API_CONF

It prints "port" and its port, beside what Glance prints, and serves until its input ends.
"""

import os
import sys
import threading
import traceback
from socketserver import ThreadingMixIn
from wsgiref.simple_server import WSGIServer, make_server

os.environ["OS_GLANCE_CONFIG_DIR"] = sys.argv[1]
from glance.common import wsgi_app  # noqa: E402


class Server(ThreadingMixIn, WSGIServer):
    daemon_threads = True


def main():
    try:
        application = wsgi_app.init_app()
    except Exception:
        # Glance's logging keeps it from stderr.
        traceback.print_exc()
        raise
    server = make_server("127.0.0.1", 0, application, server_class=Server)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    print("port", server.server_port, flush=True)
    sys.stdin.read()
    server.shutdown()


if __name__ == "__main__":
    main()
