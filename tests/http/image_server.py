"""An HTTP server for tests. The URL's path selects the response: whole images, ranges of them, broken ones, redirects. It
records its requests, and counts connections and the bytes of ranges.
"""

import gzip
import http.server
import random
import re
import threading
import time

IMAGE = random.Random(7).randbytes(3_500_017)  # not a multiple of any chunk size


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def setup(self):
        super().setup()
        with self.server.counting:
            self.server.connections += 1

    def log_message(self, *arguments):
        pass

    def do_GET(self):
        self.server.requests.append(self.path)
        self.server.encodings.append(self.headers["Accept-Encoding"])
        self.close_connection = True
        if self.path.startswith("/code/"):
            return self.respond_code(int(self.path.rpartition("/")[2]))
        getattr(self, "respond_" + self.path.strip("/"), self.respond_missing)()

    def headers_of(self, code, **headers):
        self.send_response(code)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), str(value))
        self.end_headers()

    def respond_whole(self):
        self.headers_of(200, Content_Length=len(self.server.image))
        self.wfile.write(self.server.image)

    def respond_empty(self):
        self.headers_of(200, Content_Length=0)

    def respond_moved(self):
        self.headers_of(302, Location="/whole", Content_Length=0)

    # Status codes that are not errors in HTTP, and whose content is not the image.
    def respond_code(self, code):
        content = b"" if code in (204, 304) else IMAGE[:1000]
        self.headers_of(code, **({} if code in (204, 304) else {"Content_Length": len(content)}))
        self.wfile.write(content)

    # After 40 redirects the client gets the image, so a test of an endless loop ends.
    def respond_round(self):
        if self.server.requests.count(self.path) > 40:
            return self.respond_whole()
        self.headers_of(302, Location="/round", Content_Length=0)

    def respond_moved_to_ftp(self):
        self.headers_of(302, Location="ftp://127.0.0.1:1/image", Content_Length=0)

    def respond_compressed(self):
        content = gzip.compress(IMAGE, 1)
        self.headers_of(200, Content_Length=len(content), Content_Encoding="gzip")
        self.wfile.write(content)

    def respond_moved_by_compressed(self):
        self.headers_of(302, Location="/whole", Content_Length=0, Content_Encoding="gzip")

    def respond_identity(self):
        self.headers_of(200, Content_Length=len(IMAGE), Content_Encoding="identity")
        self.wfile.write(IMAGE)

    # Sends half of the image, then waits for the test.
    def respond_waits(self):
        self.headers_of(200, Content_Length=len(IMAGE))
        self.wfile.write(IMAGE[: len(IMAGE) // 2])
        self.server.waiting.set()
        self.server.go_on.wait(60)

    # Sends one byte less than Content-Length.
    def respond_short(self):
        self.headers_of(200, Content_Length=len(IMAGE))
        self.wfile.write(IMAGE[:-1])

    def respond_missing(self):
        self.headers_of(404, Content_Length=9)
        self.wfile.write(b"not found")

    # An object store sends chunks of uneven sizes and no length.
    def respond_chunked(self, stop=len(IMAGE)):
        self.headers_of(200, Transfer_Encoding="chunked")
        sizes, at = random.Random(3), 0
        while at < stop:
            piece = IMAGE[at : at + sizes.choice([1, 7, 511, 4096, 16383, 16385, 70000, 300001])]
            self.wfile.write(b"%x\r\n%s\r\n" % (len(piece), piece))
            at += len(piece)
        if stop == len(IMAGE):
            self.wfile.write(b"0\r\n\r\n")

    # Sends neither a length nor chunks: the end of the connection is the end of the image.
    def respond_until_close(self):
        self.headers_of(200)
        self.wfile.write(IMAGE)

    # Part of the image, on a connection that stays open.
    def respond_ranged(self, image=None, etag='"1"', pause=0.0, stop=None):
        image = self.server.image if image is None else image
        first, last = (int(number) for number in re.fullmatch(r"bytes=(\d+)-(\d+)", self.headers["Range"]).groups())
        if first >= len(image):
            return self.headers_of(416, Content_Range=f"bytes */{len(image)}", Content_Length=0)
        content = image[first : last + 1]
        content_range = f"bytes {first}-{first + len(content) - 1}/{len(image)}"
        self.headers_of(206, Content_Range=content_range, Content_Length=len(content), ETag=etag)
        self.close_connection = stop is not None
        for at in range(0, len(content[:stop]), 65536):
            time.sleep(pause)
            self.count_and_send(content[:stop][at : at + 65536])

    def count_and_send(self, content):
        with self.server.counting:
            self.server.sent += len(content)
        self.wfile.write(content)

    def respond_slowly_ranged(self):
        self.respond_ranged(pause=self.server.pause)

    def respond_ranged_empty(self):
        self.respond_ranged(image=b"")

    # Each connection ends after 100,000 bytes.
    def respond_ranged_dies(self):
        self.respond_ranged(stop=100_000)

    def respond_ranged_changes(self):
        self.respond_ranged(etag=f'"{len(self.server.requests)}"')

    def respond_ranged_elsewhere(self):
        self.headers_of(206, Content_Range=f"bytes 1-1000/{len(IMAGE)}", Content_Length=1000)
        self.wfile.write(IMAGE[1:1001])

    def respond_dies(self):
        if self.server.requests.count(self.path) > 1:
            return self.respond_whole()
        self.headers_of(200, Content_Length=len(IMAGE))
        self.wfile.write(IMAGE[: len(IMAGE) // 2])

    def respond_dies_in_chunks(self):
        return self.respond_chunked(len(IMAGE) // 2 if self.server.requests.count(self.path) == 1 else len(IMAGE))


class Server(http.server.ThreadingHTTPServer):
    request_queue_size = 128

    def handle_error(self, request, client_address):
        """Clients that were killed are part of the tests."""


def start_server():
    """Starts a server on the loopback device. `waiting` and `go_on` synchronize with the response "waits"."""
    server = Server(("127.0.0.1", 0), Handler)
    server.requests, server.encodings, server.image = [], [], IMAGE
    server.counting, server.connections, server.sent, server.pause = threading.Lock(), 0, 0, 0.02
    server.waiting, server.go_on = threading.Event(), threading.Event()
    threading.Thread(target=server.serve_forever, daemon=True, kwargs={"poll_interval": 0.02}).start()
    return server
