#!/usr/bin/env python3
"""Tests examples-c/nbdkit_image_cache: servers of one image share one download from a slow web server.

    test_nbdkit.py PATH/nbdkit_image_cache.so

The web server is in image_server.py. The test needs nbdkit, nbdcopy and qemu-img.
"""

import hashlib
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import unittest

from image_server import start_server

IMAGE = random.Random(9).randbytes(24 << 20)
SHA256 = hashlib.sha256(IMAGE).hexdigest()


class Nbdkit(unittest.TestCase):
    def setUp(self):
        self.directory = tempfile.mkdtemp(prefix="nbdkit-", dir=".")
        self.addCleanup(shutil.rmtree, self.directory)
        self.cache = os.path.join(self.directory, "cache")
        self.server = start_server()
        self.server.image, self.server.pause = IMAGE, 0.002
        self.addCleanup(self.server.server_close)
        self.addCleanup(self.server.shutdown)

    def parameters(self, path="slowly_ranged", sha256=SHA256, size=len(IMAGE)):
        url = f"http://127.0.0.1:{self.server.server_port}/{path}"
        return [PLUGIN, f"cache={self.cache}", "image=disk", f"url={url}", f"size={size}", f"sha256={sha256}"]

    def start(self, command, output, **parameters):
        """A server with one client, `command`. The server ends with it."""
        environment = {name: value for name, value in os.environ.items() if "proxy" not in name.lower()}
        self.outputs = [*getattr(self, "outputs", []), os.path.join(self.directory, output)]
        return subprocess.Popen(
            ["nbdkit", "-U", "-", *self.parameters(**parameters), "--run", f"{command} {self.outputs[-1]}"],
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment,
        )

    def serve(self, *options, **parameters):
        """A server without a client, and its socket."""
        socket = os.path.join(self.directory, "socket")
        command = ["nbdkit", "-f", "-U", socket, *self.parameters(**parameters), *options]
        server = subprocess.Popen(command, stdin=subprocess.DEVNULL, stderr=subprocess.PIPE)
        self.addCleanup(server.communicate)
        self.addCleanup(server.kill)
        self.wait_for(lambda: os.path.exists(socket) or server.poll() is not None)
        return server, "nbd+unix:///?socket=" + socket

    def wait_for(self, condition):
        end = time.monotonic() + 20
        while not condition():
            self.assertLess(time.monotonic(), end, "it took more than 20 s")
            time.sleep(0.02)

    def finish(self, server):
        _, errors = server.communicate(timeout=120)
        self.assertEqual(server.returncode, 0, errors.decode())
        return errors.decode()

    def file(self, *names):
        path = os.path.join(self.cache, *names)
        if not os.path.exists(path):
            return None
        with open(path, "rb") as file:
            return file.read()

    def test_two_servers_share_one_download(self):
        servers = [
            self.start("qemu-img convert -f raw -O raw $uri", "converted"),
            self.start("nbdcopy $uri", "copied"),
        ]
        for server in servers:
            self.finish(server)
        for output in self.outputs:
            with open(output, "rb") as file:
                self.assertTrue(file.read() == IMAGE, output)
        self.assertTrue(self.file("disk") == IMAGE)
        self.assertEqual(self.server.sent, len(IMAGE))
        print(f"{len(self.server.requests)} requests, {self.server.sent} bytes", file=sys.stderr)

    # The killed server costs the piece that it was fetching.
    def test_one_of_two_servers_is_killed(self):
        killed, uri = self.serve()
        client = subprocess.Popen(["nbdcopy", uri, "null:"], stderr=subprocess.DEVNULL)
        self.addCleanup(client.wait)
        self.addCleanup(client.kill)
        other = self.start("nbdcopy $uri", "copied")
        self.wait_for(lambda: self.server.sent > len(IMAGE) // 3)
        killed.kill()
        self.finish(other)
        with open(self.outputs[0], "rb") as file:
            self.assertTrue(file.read() == IMAGE)
        self.assertTrue(self.file("disk") == IMAGE)
        self.assertLessEqual(self.server.sent, len(IMAGE) + (1 << 20))

    def test_a_web_server_without_ranges(self):
        self.finish(self.start("nbdcopy $uri", "copied", path="whole"))
        with open(self.outputs[0], "rb") as file:
            self.assertTrue(file.read() == IMAGE)
        self.assertTrue(self.file("disk") == IMAGE)

    def test_an_image_that_is_cached_needs_no_web_server(self):
        self.finish(self.start("nbdcopy $uri", "first"))
        requests = len(self.server.requests)
        self.finish(self.start("nbdcopy $uri", "second"))
        with open(self.outputs[1], "rb") as file:
            self.assertTrue(file.read() == IMAGE)
        self.assertEqual(len(self.server.requests), requests)

    # The reader thread caches the image. The client reads only its end, which it does not wait for.
    def test_a_guest_that_reads_the_end_first(self):
        self.server.pause = 0.01
        server, uri = self.serve()
        read = f"read -P {IMAGE[-1]} {len(IMAGE) - 1} 1"
        run = subprocess.run(["qemu-io", "-r", "-f", "raw", "-c", read, uri], capture_output=True, timeout=60)
        self.assertEqual(run.returncode, 0, run.stdout + run.stderr)
        self.assertNotIn(b"Pattern verification failed", run.stdout)
        self.assertIsNone(self.file("disk"))
        self.wait_for(lambda: self.file("disk") is not None)
        self.assertTrue(self.file("disk") == IMAGE)
        self.assertLessEqual(self.server.sent, len(IMAGE) + 65536)

    def test_wrong_digest(self):
        server, uri = self.serve(sha256="0" * 64)
        self.wait_for(lambda: self.file("invalid", "disk") is not None)
        self.wait_for(lambda: b"DIGEST_MISMATCH" in server.stderr.readline())
        run = subprocess.run(["nbdcopy", uri, "null:"], capture_output=True, timeout=60)
        self.assertNotEqual(run.returncode, 0)
        self.assertIn(b"Input/output error", run.stderr)
        self.assertIsNone(self.file("disk"))

    # The server ends at once, though its reader thread waits for a web server that sends nothing.
    def test_a_server_that_ends(self):
        self.server.pause = 30
        server, _ = self.serve()
        self.wait_for(lambda: self.server.requests)
        began = time.monotonic()
        server.send_signal(signal.SIGTERM)
        server.wait(60)
        self.assertLess(time.monotonic() - began, 10)

    def test_a_web_server_that_fails(self):
        server, _ = self.serve("--run", "nbdcopy $uri null:", path="nowhere")
        _, errors = server.communicate(timeout=60)
        self.assertNotEqual(server.returncode, 0)
        self.assertIn(b"the server answers 404", errors)

    def test_wrong_parameters(self):
        for parameters in ({"sha256": "0"}, {"size": "x"}):
            server = self.start("true", "nothing", **parameters)
            _, errors = server.communicate(timeout=60)
            self.assertNotEqual(server.returncode, 0, errors)


if __name__ == "__main__":
    PLUGIN = os.path.abspath(sys.argv[1])
    for tool in ("nbdkit", "nbdcopy", "qemu-img", "qemu-io"):
        if shutil.which(tool) is None:
            print(f"SKIPPED: {tool} is not installed")
            sys.exit(77)
    unittest.main(argv=sys.argv[:1])
