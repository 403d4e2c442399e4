#!/usr/bin/env python3
"""examples-c/fetch_http against a real web server on the loopback device: good servers, bad ones and dying ones.

    test_fetch.py PATH/fetch_http sqlite|xattr

The server is Python's http.server; what an URL's path says is how it answers. It counts its requests.
"""

import hashlib
import http.server
import os
import pty
import random
import shutil
import subprocess
import sys
import tempfile
import threading
import unittest

IMAGE = random.Random(7).randbytes(3_500_017)  # no multiple of anything
SHA256, MD5 = hashlib.sha256(IMAGE).hexdigest(), hashlib.md5(IMAGE).hexdigest()


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *arguments):
        pass

    def do_GET(self):
        self.server.requests.append(self.path)
        self.close_connection = True
        getattr(self, "answer_" + self.path.strip("/"), self.answer_missing)()

    def headers_of(self, code, **headers):
        self.send_response(code)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), str(value))
        self.end_headers()

    def answer_whole(self):
        self.headers_of(200, Content_Length=len(IMAGE))
        self.wfile.write(IMAGE)

    def answer_empty(self):
        self.headers_of(200, Content_Length=0)

    def answer_moved(self):
        self.headers_of(302, Location="/whole", Content_Length=0)

    def answer_missing(self):
        self.headers_of(404, Content_Length=9)
        self.wfile.write(b"not found")

    # An object store does not say how long the object is, and sends it as it gets it from its disks.
    def answer_chunked(self, stop=len(IMAGE)):
        self.headers_of(200, Transfer_Encoding="chunked")
        sizes, at = random.Random(3), 0
        while at < stop:
            piece = IMAGE[at : at + sizes.choice([1, 7, 511, 4096, 16383, 16385, 70000, 300001])]
            self.wfile.write(b"%x\r\n%s\r\n" % (len(piece), piece))
            at += len(piece)
        if stop == len(IMAGE):
            self.wfile.write(b"0\r\n\r\n")

    # Neither a length nor chunks: the connection's end is the image's.
    def answer_until_close(self):
        self.headers_of(200)
        self.wfile.write(IMAGE)

    def answer_dies(self):
        if self.server.requests.count(self.path) > 1:
            return self.answer_whole()
        self.headers_of(200, Content_Length=len(IMAGE))
        self.wfile.write(IMAGE[: len(IMAGE) // 2])

    def answer_dies_in_chunks(self):
        return self.answer_chunked(len(IMAGE) // 2 if self.server.requests.count(self.path) == 1 else len(IMAGE))


class Fetch(unittest.TestCase):
    def setUp(self):
        self.folder = tempfile.mkdtemp(prefix="fetch-http-", dir=".")
        self.addCleanup(shutil.rmtree, self.folder)
        self.cache = os.path.join(self.folder, "cache")
        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.requests = []
        self.addCleanup(self.server.server_close)
        threading.Thread(target=self.server.serve_forever, daemon=True, kwargs={"poll_interval": 0.02}).start()
        self.addCleanup(self.server.shutdown)

    def fetch(self, path, *options, code=0, seen=""):
        url = path if "://" in path else f"http://127.0.0.1:{self.server.server_port}/{path}"
        environment = {name: value for name, value in os.environ.items() if "proxy" not in name.lower()}
        run = subprocess.run(
            [PROGRAM, url, self.cache, "image", "--driver", DRIVER, *options],
            stdin=subprocess.DEVNULL, capture_output=True, timeout=60, env=environment,
        )
        errors = run.stderr.decode()
        if "IMAGE_CACHE_ERROR_UNSUPPORTED" in errors and DRIVER == "xattr":
            print("SKIPPED: the file system of this folder has no user extended attributes", flush=True)
            os._exit(77)
        self.assertEqual(run.returncode, code, errors)
        self.assertIn(seen, errors)
        return run.stdout

    def file(self, *names):
        path = os.path.join(self.cache, *names)
        if not os.path.exists(path):
            return None
        with open(path, "rb") as file:
            return file.read()

    def assert_cached(self, content=IMAGE):
        self.assertEqual(self.file("image"), content)
        self.assertIsNone(self.file("incomplete", "image"))

    def assert_not_cached(self, kept):
        self.assertIsNone(self.file("image"))
        self.assertIsNone(self.file("incomplete", "image"))
        self.assertEqual(self.file("invalid", "image"), kept)

    def test_whole_image_and_a_second_run_without_a_request(self):
        digest = ["--sha256", SHA256, "--size", str(len(IMAGE))]
        self.assertEqual(self.fetch("whole", "--output", "-", *digest, seen="now cached"), IMAGE)
        self.assert_cached()
        self.assertEqual(self.server.requests, ["/whole"])
        self.assertEqual(self.fetch("whole", "--output", "-", *digest, seen="from the cache"), IMAGE)
        self.assertEqual(self.server.requests, ["/whole"])

    def test_to_a_file(self):
        output = os.path.join(self.folder, "output")
        for seen in ("now cached", "from the cache"):
            self.assertEqual(self.fetch("whole", "--output", output, "--md5", MD5, seen=seen), b"")
            with open(output, "rb") as file:
                self.assertEqual(file.read(), IMAGE)
        self.assertEqual(len(self.server.requests), 1)

    def test_to_the_cache_only(self):
        self.assertEqual(self.fetch("whole", seen="now cached"), b"")
        self.assertEqual(self.fetch("whole", seen="from the cache"), b"")
        self.assert_cached()

    def test_object_store(self):
        self.assertEqual(self.fetch("chunked", "--output", "-", "--sha256", SHA256, seen="now cached"), IMAGE)
        self.assert_cached()

    def test_until_the_connection_closes(self):
        self.assertEqual(self.fetch("until_close", "--output", "-", "--size", str(len(IMAGE))), IMAGE)
        self.assert_cached()

    def test_empty_image(self):
        self.assertEqual(self.fetch("empty", "--output", "-", seen="now cached"), b"")
        self.assert_cached(b"")

    def test_redirection(self):
        self.fetch("moved", seen="now cached")
        self.assertEqual(self.server.requests, ["/moved", "/whole"])
        self.assert_cached()

    def test_server_dies_in_the_middle(self):
        output = os.path.join(self.folder, "output")
        for path in ("dies", "dies_in_chunks"):
            with self.subTest(path):
                shutil.rmtree(self.cache, ignore_errors=True)
                self.fetch(path, "--output", output, code=1, seen="IMAGE_CACHE_ERROR_SOURCE")
                self.assertEqual(os.path.getsize(output), 0)
                kept = self.file("invalid", "image")
                self.assertTrue(kept and IMAGE.startswith(kept) and len(kept) < len(IMAGE))
                self.assert_not_cached(kept)
                self.fetch(path, "--output", output, "--sha256", SHA256, seen="now cached")
                self.assert_cached()
                self.assertEqual(self.server.requests.count("/" + path), 2)

    def test_wrong_digest(self):
        for option, digest in (("--sha256", "0" * 64), ("--md5", "0" * 32)):
            self.fetch("whole", option, digest, code=1, seen="IMAGE_CACHE_ERROR_DIGEST_MISMATCH")
            self.assert_not_cached(IMAGE)
        self.fetch("whole", "--sha256", "no digest", code=1, seen="IMAGE_CACHE_ERROR_INVALID_ARGUMENT")
        self.assertIsNone(self.file("image"))
        self.fetch("whole", "--sha256", SHA256.upper(), seen="now cached")
        self.assert_cached()

    def test_wrong_size(self):
        for size in (len(IMAGE) - 1, len(IMAGE) + 1):
            self.fetch("whole", "--size", str(size), code=1, seen="IMAGE_CACHE_ERROR_SIZE_MISMATCH")
            self.assertIsNone(self.file("image"))

    def test_not_found(self):
        self.assertEqual(self.fetch("nowhere", "--output", "-", code=1, seen="404"), b"")
        self.assert_not_cached(None)

    def test_no_server(self):
        self.fetch("http://127.0.0.1:1/image", code=1, seen="IMAGE_CACHE_ERROR_SOURCE")
        self.assert_not_cached(None)

    def test_progress_on_a_terminal(self):
        terminal, stderr = pty.openpty()
        self.addCleanup(os.close, terminal)
        url = f"http://127.0.0.1:{self.server.server_port}/whole"
        command = [PROGRAM, url, self.cache, "image", "--driver", DRIVER]
        code = subprocess.run(command, stdin=subprocess.DEVNULL, stderr=stderr, timeout=60).returncode
        os.close(stderr)
        self.assertEqual(code, 0)
        self.assertIn("3.3 MiB of 3.3 MiB, 100%", os.read(terminal, 1 << 16).decode())

    def test_bad_arguments(self):
        for options in (["more"], ["--size"], ["--size", "-1"], ["--size", "1x"], ["--driver", "cards"], ["--what", "x"]):
            self.fetch("whole", *options, code=2, seen="usage: ")
        self.fetch("whole", "--output", "no/such/folder", code=1, seen="no/such/folder: No such file")
        self.assertEqual(self.server.requests, [])


if __name__ == "__main__":
    PROGRAM, DRIVER = os.path.abspath(sys.argv[1]), sys.argv[2]
    unittest.main(argv=sys.argv[:1])
