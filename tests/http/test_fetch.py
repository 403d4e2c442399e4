#!/usr/bin/env python3
"""Tests examples-c/fetch_http against a web server on the loopback device: working, broken and crashing servers.

    test_fetch.py PATH/fetch_http sqlite|xattr

The server is in image_server.py.
"""

import hashlib
import os
import pty
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
import threading
import time
import unittest

from image_server import IMAGE, start_server

SHA256, MD5 = hashlib.sha256(IMAGE).hexdigest(), hashlib.md5(IMAGE).hexdigest()


class Fetch(unittest.TestCase):
    def setUp(self):
        self.directory = tempfile.mkdtemp(prefix="fetch-http-", dir=".")
        self.addCleanup(shutil.rmtree, self.directory)
        self.cache = os.path.join(self.directory, "cache")
        self.server = start_server()
        self.out = os.path.join(self.directory, "out")  # contains only the output at the end
        os.mkdir(self.out)
        self.output = os.path.join(self.out, "output")
        self.addCleanup(self.server.server_close)
        self.addCleanup(self.server.shutdown)

    def command(self, path, *options):
        url = path if "://" in path else f"http://127.0.0.1:{self.server.server_port}/{path}"
        return [PROGRAM, url, self.cache, "image", "--driver", DRIVER, *options]

    def fetch(self, path, *options, code=0, printed=""):
        environment = {name: value for name, value in os.environ.items() if "proxy" not in name.lower()}
        run = subprocess.run(
            self.command(path, *options),
            stdin=subprocess.DEVNULL, capture_output=True, timeout=60, env=environment,
        )
        errors = run.stderr.decode()
        if "IMAGE_CACHE_ERROR_UNSUPPORTED" in errors and DRIVER == "xattr":
            print("SKIPPED: the file system of this directory has no user extended attributes", flush=True)
            os._exit(77)
        self.assertEqual(run.returncode, code, errors)
        self.assertIn(printed, errors)
        return run.stdout

    def file(self, *names):
        path = os.path.join(self.cache, *names)
        if not os.path.exists(path):
            return None
        with open(path, "rb") as file:
            return file.read()

    def write_old(self, mode=0o640):
        with open(self.output, "wb") as file:
            file.write(b"old")
        os.chmod(self.output, mode)

    def assert_output(self, content):
        self.assertEqual(os.listdir(self.out), ["output"])
        with open(self.output, "rb") as file:
            self.assertEqual(file.read(), content)

    def assert_cached(self, content=IMAGE):
        self.assertTrue(self.file("image") == content, "the image has other bytes")
        self.assertIsNone(self.file("incomplete", "image"))

    def assert_not_cached(self, kept):
        self.assertIsNone(self.file("image"))
        self.assertIsNone(self.file("incomplete", "image"))
        self.assertEqual(self.file("invalid", "image"), kept)

    # A failed run leaves what it has fetched, for the next one. Without a byte, it leaves nothing.
    def assert_left(self, content=b""):
        self.assertIsNone(self.file("image"))
        self.assertIsNone(self.file("invalid", "image"))
        self.assertTrue(self.file("incomplete", "image") == (content or None), "incomplete/ has other bytes")

    def test_a_second_run_reads_the_whole_image_from_the_cache(self):
        digest = ["--sha256", SHA256, "--size", str(len(IMAGE))]
        self.assertEqual(self.fetch("whole", "--output", "-", *digest, printed="now cached"), IMAGE)
        self.assert_cached()
        self.assertEqual(self.server.requests, ["/whole"])
        self.assertEqual(self.fetch("whole", "--output", "-", *digest, printed="from the cache"), IMAGE)
        self.assertEqual(self.server.requests, ["/whole"])

    def test_to_a_file(self):
        output = os.path.join(self.directory, "output")
        for printed in ("now cached", "from the cache"):
            self.assertEqual(self.fetch("whole", "--output", output, "--md5", MD5, printed=printed), b"")
            with open(output, "rb") as file:
                self.assertEqual(file.read(), IMAGE)
        self.assertEqual(len(self.server.requests), 1)

    def test_to_the_cache_only(self):
        self.assertEqual(self.fetch("whole", printed="now cached"), b"")
        self.assertEqual(self.fetch("whole", printed="from the cache"), b"")
        self.assert_cached()

    def test_object_store(self):
        self.assertEqual(self.fetch("chunked", "--output", "-", "--sha256", SHA256, printed="now cached"), IMAGE)
        self.assert_cached()

    def test_until_the_connection_closes(self):
        self.fetch("until_close", "--output", "-", code=1, printed="does not say where it ends")
        self.assertIsNone(self.file("image"))
        self.assertEqual(self.fetch("until_close", "--output", "-", "--size", str(len(IMAGE))), IMAGE)
        self.assert_cached()

    def test_empty_image(self):
        self.assertEqual(self.fetch("empty", "--output", "-", printed="now cached"), b"")
        self.assert_cached(b"")

    def test_redirection(self):
        self.fetch("moved", printed="now cached")
        self.assertEqual(self.server.requests, ["/moved", "/whole"])
        self.assert_cached()

    def test_endless_and_unsupported_redirections(self):
        self.fetch("round", code=1, printed="redirects")
        self.assertLess(len(self.server.requests), 20)
        self.fetch("moved_to_ftp", code=1, printed='Protocol "ftp"')
        self.assert_left()

    def test_a_file_url_is_refused(self):
        path = os.path.join(self.directory, "secret")
        with open(path, "wb") as file:
            file.write(IMAGE)
        self.fetch("file://" + os.path.abspath(path), code=1, printed='Protocol "file"')
        self.assert_left()

    def test_responses_that_are_not_an_image(self):
        self.write_old()
        for code in (202, 203, 204, 206, 300, 302, 304):
            with self.subTest(code):
                self.fetch(f"code/{code}", "--output", self.output, code=1, printed=f"the server answers {code}")
                self.assert_left()
                self.assert_output(b"old")

    def test_content_encoding(self):
        self.assertEqual(self.fetch("compressed", "--output", "-", code=1, printed="Content-Encoding"), b"")
        self.assert_left()
        self.assertEqual(self.server.encodings, ["identity"])
        for path in ("identity", "moved_by_compressed"):
            shutil.rmtree(self.cache)
            self.fetch(path, "--sha256", SHA256, printed="now cached")
            self.assert_cached()

    def test_a_byte_too_few(self):
        self.write_old()
        self.fetch("short", "--output", self.output, code=1, printed="IMAGE_CACHE_ERROR_SOURCE")
        self.assert_left(IMAGE[:-1])
        self.assert_output(b"old")

    def test_connection_ends_in_the_middle(self):
        output = self.output
        for path in ("dies", "dies_in_chunks"):
            with self.subTest(path):
                shutil.rmtree(self.cache, ignore_errors=True)
                self.write_old()
                self.fetch(path, "--output", output, code=1, printed="IMAGE_CACHE_ERROR_SOURCE")
                self.assert_output(b"old")
                left = self.file("incomplete", "image")
                self.assertTrue(left and IMAGE.startswith(left) and len(left) < len(IMAGE))
                self.assert_left(left)
                self.fetch(path, "--output", output, "--sha256", SHA256, printed="now cached")
                self.assert_output(IMAGE)
                self.assert_cached()
                self.assertEqual(self.server.requests.count("/" + path), 2)

    def test_wrong_digest(self):
        for option, digest in (("--sha256", "0" * 64), ("--md5", "0" * 32)):
            self.fetch("whole", option, digest, code=1, printed="IMAGE_CACHE_ERROR_DIGEST_MISMATCH")
            self.assert_not_cached(IMAGE)
        self.fetch("whole", "--sha256", SHA256.upper(), printed="now cached")
        self.assert_cached()

    def test_wrong_size(self):
        for size in (len(IMAGE) - 1, len(IMAGE) + 1):
            self.fetch("whole", "--size", str(size), code=1, printed="IMAGE_CACHE_ERROR_SIZE_MISMATCH")
            self.assertIsNone(self.file("image"))

    def test_two_digests(self):
        for md5, sha256 in (("0" * 32, SHA256), (MD5, "0" * 64)):
            for options in (["--md5", md5, "--sha256", sha256], ["--sha256", sha256, "--md5", md5]):
                self.fetch("whole", *options, code=1, printed="IMAGE_CACHE_ERROR_DIGEST_MISMATCH")
                self.assert_not_cached(IMAGE)
        self.fetch("whole", "--md5", MD5, "--sha256", SHA256, printed="now cached")
        self.fetch("whole", "--sha256", SHA256, "--md5", MD5, printed="from the cache")

    def test_cached_image_fails_the_expectations(self):
        self.fetch("whole", "--sha256", SHA256, printed="now cached")
        self.write_old()
        self.addCleanup(self.assert_cached)
        for options, name in (
            (["--sha256", "0" * 64], "DIGEST"), (["--sha256", "0" * 64, "--md5", MD5], "DIGEST"),
            (["--size", "1"], "SIZE"), (["--size", "1", "--sha256", SHA256], "SIZE"),
        ):
            for output in ([], ["--output", self.output], ["--output", "-"]):
                printed = f"IMAGE_CACHE_ERROR_{name}_MISMATCH"
                self.assertEqual(self.fetch("whole", *options, *output, code=1, printed=printed), b"")
                self.assert_output(b"old")
        self.fetch("whole", "--size", str(len(IMAGE)), "--sha256", SHA256.upper(), printed="from the cache")
        self.assertEqual(len(self.server.requests), 1)
        self.assert_cached()

    def test_cached_image_without_the_digest(self):
        for first, options in (([], ["--sha256", SHA256]), (["--sha256", SHA256], ["--md5", MD5]),
                               (["--md5", MD5], ["--md5", "0" * 32, "--sha256", SHA256])):
            with self.subTest(first):
                shutil.rmtree(self.cache, ignore_errors=True)
                self.server.requests.clear()
                self.fetch("whole", *first, printed="now cached")
                self.fetch("nowhere", "--output", "-", *options, code=1, printed="404")
                self.assert_cached()  # it is deleted only when the server has a new one
                code, printed = (1, "IMAGE_CACHE_ERROR_DIGEST_MISMATCH") if "0" * 32 in options else (0, "now cached")
                self.fetch("whole", *options, code=code, printed=printed)
                self.assertEqual(self.file("image"), None if code else IMAGE)
                self.assertEqual(self.server.requests, ["/whole", "/nowhere", "/whole"])
                if not code:
                    self.fetch("whole", *options, printed="from the cache")

    def test_output_keeps_its_mode_and_its_links(self):
        mask = os.umask(0o027)
        self.addCleanup(os.umask, mask)
        self.fetch("whole", "--output", self.output)
        self.assertEqual(stat.S_IMODE(os.stat(self.output).st_mode), 0o640)
        self.write_old(0o604)
        before = os.stat(self.output).st_ino
        link = os.path.join(self.directory, "link")
        os.symlink(os.path.join("out", "output"), link)
        with open(self.output, "rb") as reader:
            self.fetch("whole", "--output", link, printed="from the cache")
            self.assertEqual(reader.read(), b"old")  # an open descriptor keeps the old file
        self.assertTrue(os.path.islink(link))
        self.assertNotEqual(os.stat(self.output).st_ino, before)
        self.assertEqual(stat.S_IMODE(os.stat(self.output).st_mode), 0o604)
        self.assert_output(IMAGE)

    def test_output_that_is_not_a_regular_file(self):
        for printed in ("now cached", "from the cache"):
            self.assertEqual(self.fetch("whole", "--output", "/dev/stdout", printed=printed), IMAGE)
            self.fetch("whole", "--output", "/dev/full", code=1, printed="/dev/full: No space left")
        pipe, got = os.path.join(self.directory, "pipe"), []
        os.mkfifo(pipe)

        def read():
            with open(pipe, "rb") as file:
                got.append(file.read())

        reader = threading.Thread(target=read, daemon=True)
        reader.start()
        self.fetch("whole", "--output", pipe, printed="from the cache")
        reader.join(60)
        self.assertEqual(got, [IMAGE])
        self.assertTrue(stat.S_ISFIFO(os.stat(pipe).st_mode))

    def test_pipe_whose_reader_closed_it(self):
        command = self.command("whole", "--output", "-")
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as run:
            self.assertEqual(run.stdout.read(1), IMAGE[:1])
            run.stdout.close()
            errors = run.stderr.read().decode()
        self.assertEqual(run.returncode, 1, errors)  # not killed by a signal
        self.assertIn("Broken pipe", errors)
        self.assert_left(IMAGE[: 1 << 20])

    def test_output_on_a_full_device_is_not_cached(self):
        self.fetch("whole", "--output", "/dev/full", code=1, printed="/dev/full: No space left")
        self.assertIsNone(self.file("image"))

    def test_output_in_the_cache(self):
        self.fetch("whole", "--sha256", SHA256, printed="now cached")
        link = os.path.join(self.directory, "link")
        os.symlink(os.path.join("cache", "image"), link)
        for output in (link, os.path.join(self.cache, "image"), os.path.join(self.cache, "other")):
            self.fetch("whole", "--output", output, code=1, printed="IMAGE_CACHE_ERROR_INVALID_ARGUMENT")
            self.assert_cached()
            self.assertIsNone(self.file("other"))
        self.fetch("whole", "--sha256", SHA256, printed="from the cache")
        self.assertFalse([name for name in os.listdir(self.cache) if "fetch_http" in name])

    def test_killed_in_the_middle(self):
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGKILL):
            with self.subTest(number):
                self.write_old()
                self.server.waiting.clear()
                self.server.go_on.clear()
                with subprocess.Popen(
                    self.command("waits", "--output", self.output), stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL
                ) as process:
                    self.assertTrue(self.server.waiting.wait(60))
                    process.send_signal(number)
                    self.assertEqual(process.wait(60), -number)
                self.server.go_on.set()
                if number != signal.SIGKILL:
                    self.assertEqual(os.listdir(self.out), ["output"])
                with open(self.output, "rb") as file:
                    self.assertEqual(file.read(), b"old")
                self.assertIsNone(self.file("image"))
        self.fetch("whole", "--output", self.output, printed="now cached")
        self.assert_cached()

    # The program blocks in a write of the first chunk to the pipe while the image is truncated.
    def test_cached_image_fails_in_the_middle(self):
        self.fetch("whole", printed="now cached")
        with subprocess.Popen(
            self.command("whole", "--output", "-"),
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, bufsize=0,
        ) as process:
            self.assertEqual(process.stdout.read(1), IMAGE[:1])
            os.truncate(os.path.join(self.cache, "image"), 1_500_000)
            rest, errors = process.communicate(timeout=60)
        self.assertEqual(process.returncode, 1, errors)
        self.assertIn(b"IMAGE_CACHE_ERROR_IO", errors)
        self.assertTrue(IMAGE.startswith(IMAGE[:1] + rest) and len(rest) < len(IMAGE) - 1)
        self.assertEqual(len(self.server.requests), 1)

    def test_cache_that_cannot_be_opened(self):
        with open(self.cache, "wb"):
            pass
        options = ["--sha256", SHA256, "--md5", MD5, "--size", str(len(IMAGE))]
        for given in (options, options[:2], options[4:], []):
            self.assertEqual(self.fetch("whole", "--output", "-", *given, printed="it goes on without"), IMAGE)
        for given, name in ((["--sha256", "0" * 64], "DIGEST"), (["--md5", "0" * 32, *options[:2]], "DIGEST"),
                            (["--size", "1"], "SIZE"), (["--size", "1", *options[:4]], "SIZE")):
            self.write_old()
            self.fetch("whole", "--output", self.output, *given, code=1, printed=f"IMAGE_CACHE_ERROR_{name}_MISMATCH")
            self.assert_output(b"old")
        self.fetch("dies", "--output", "-", code=1, printed="IMAGE_CACHE_ERROR_SOURCE")
        requests = len(self.server.requests)
        self.fetch("whole", code=1)  # without an output there is nothing to do
        self.assertEqual(len(self.server.requests), requests)

    # A directory has the image's name: the cache opens, and the image cannot be cached.
    def test_image_that_cannot_be_cached(self):
        for directory in ("incomplete", "invalid", "queue", "image"):
            os.makedirs(os.path.join(self.cache, directory))
        self.assertEqual(self.fetch("whole", "--output", "-", "--md5", MD5, printed="not cached"), IMAGE)
        self.fetch("whole", "--output", "-", "--md5", "0" * 32, code=1, printed="IMAGE_CACHE_ERROR_DIGEST_MISMATCH")
        self.fetch("whole", code=1, printed="could not be cached")

    def test_ranges_on_one_connection(self):
        self.assertEqual(self.fetch("ranged", "--output", "-", "--sha256", SHA256, printed="now cached"), IMAGE)
        self.assert_cached()
        self.assertEqual((len(self.server.requests), self.server.connections), (4, 1))
        self.assertEqual(self.server.sent, len(IMAGE))

    def test_ranges_without_expectations(self):
        self.assertEqual(self.fetch("ranged", "--output", "-", printed="now cached"), IMAGE)
        self.assertEqual(self.server.sent, len(IMAGE))
        shutil.rmtree(self.cache)
        self.assertEqual(self.fetch("ranged_empty", "--output", "-", printed="now cached"), b"")
        self.assert_cached(b"")

    def test_connection_ends_in_a_range(self):
        self.assertEqual(self.fetch("ranged_dies", "--output", "-", "--sha256", SHA256, printed="now cached"), IMAGE)
        self.assertEqual(self.server.sent, len(IMAGE))

    def test_wrong_ranges(self):
        self.fetch("ranged_elsewhere", code=1, printed="the server answers 206")
        self.assert_left()
        self.fetch("ranged_changes", "--output", "-", code=1, printed="the image has changed on the server")
        self.assert_left(IMAGE[: 1 << 20])
        self.fetch("ranged", "--size", str(len(IMAGE) - 1), code=1, printed="IMAGE_CACHE_ERROR_SIZE_MISMATCH")

    # Each byte is sent once, whichever process requests it. A killed one costs one request.
    def test_runs_share_one_download(self):
        for path, killed in (("slowly_ranged", 0), ("slowly_ranged", 1), ("whole", 0)):
            with self.subTest(path, killed=killed):
                shutil.rmtree(self.cache, ignore_errors=True)
                self.server.sent = 0
                command = self.command(path, "--output", "-", "--sha256", SHA256)
                runs = [
                    subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
                    for _ in range(4)
                ]
                while killed and self.server.sent < 1_000_000:
                    time.sleep(0.01)
                for run in runs[:killed]:
                    run.kill()
                results = [(*run.communicate(timeout=60), run.returncode) for run in runs][killed:]
                for image, errors, code in results:
                    self.assertEqual(code, 0, errors)
                    self.assertTrue(image == IMAGE)
                self.assert_cached()
                if path != "whole":
                    self.assertLessEqual(self.server.sent, len(IMAGE) + killed * (1 << 20))

    def test_the_next_run_downloads_the_rest(self):
        with subprocess.Popen(
            self.command("slowly_ranged", "--sha256", SHA256), stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        ) as process:
            while not self.file("incomplete", "image"):
                time.sleep(0.01)
            process.kill()
        left = len(self.file("incomplete", "image"))
        self.server.sent = 0
        errors = self.fetch("slowly_ranged", "--sha256", SHA256, printed="of it by other runs")
        self.assert_cached()
        self.assertLessEqual(self.server.sent, len(IMAGE) - left + (1 << 20), errors)

    def test_not_found(self):
        self.assertEqual(self.fetch("nowhere", "--output", "-", code=1, printed="404"), b"")
        self.assert_left()

    def test_no_server(self):
        self.fetch("http://127.0.0.1:1/image", code=1, printed="IMAGE_CACHE_ERROR_SOURCE")
        self.assert_left()

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
        for options in (
            ["more"], ["--size"], ["--size", "-1"], ["--size", "1x"], ["--size", ""], ["--size", "9" * 20],
            ["--sha256", "not a digest"], ["--sha256", MD5], ["--md5", "x" * 32], ["--md5", "0" * 32, "--md5", MD5],
            ["--driver", "cards"], ["--what", "x"],
        ):
            self.fetch("whole", *options, code=2, printed="usage: ")
        self.fetch("whole", "--output", "no/such/directory", code=1, printed="no/such/directory: No such file")
        self.assertEqual(self.server.requests, [])


if __name__ == "__main__":
    PROGRAM, DRIVER = os.path.abspath(sys.argv[1]), sys.argv[2]
    unittest.main(argv=sys.argv[:1])
