"""Who may use a handle, and when it ends: threads, callbacks, finalizers, forks, the end of the interpreter."""

from __future__ import annotations

import gc
import io
import os
import signal
import threading
import weakref
from typing import Any, Callable

import image_cache
import support
from image_cache import InvalidArgument
from image_cache._handle import _open
from support import CacheTest

START = """
import gc, io, os, sys, threading, image_cache
cache = image_cache.Cache(sys.argv[1], driver=int(sys.argv[2]))
"""


class Lifetimes(CacheTest):
    def in_threads(self, *functions: Callable[[], Any]) -> None:
        errors: list[BaseException] = []

        def guarded(function: Callable[[], Any]) -> None:
            try:
                function()
            except BaseException as error:
                errors.append(error)

        threads = [threading.Thread(target=guarded, args=(function,)) for function in functions]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        self.assertEqual(errors, [])

    def test_a_closed_cache_refuses_calls_and_its_readers_go_on(self) -> None:
        self.cache_image("1", b"bytes")
        reader = self.cache.open_for_read("1")
        self.cache.close()
        self.cache.close()
        self.assertTrue(self.cache.closed)
        self.assertIn("closed", str(self.assert_fails(InvalidArgument, self.cache.prune)))
        self.assertEqual(reader.read(), b"bytes")
        reader.close()

    def test_handles_log_after_their_cache_has_gone(self) -> None:
        messages: list[str] = []
        cache = self.open_cache(log=lambda _, message: messages.append(message))
        writer = cache.begin_write("1")
        cache.close()
        del cache
        gc.collect()
        writer.abort("tested after the close")
        self.assertTrue(any("tested after the close" in message for message in messages), messages)

    def test_a_signal_handler_may_use_the_object_that_it_interrupts(self) -> None:
        handled: list[bool] = []

        def handler() -> None:
            self.assert_fails(InvalidArgument, self.cache.list_cached)
            handled.append(self.cache.closed)

        with support.at_entry("_taken", handler):
            self.cache.close()  # the handler runs within it, while it has the lock of the object
        self.assertEqual(handled, [True])

    def test_a_file_that_its_own_source_closes_ends_after_the_call(self) -> None:
        def close_itself(size: int) -> bytes:
            tee.close()
            self.assertRaises(ValueError, tee.read, 1)
            return b"x"

        tee = self.cache.tee("1", close_itself)
        self.assertEqual(tee._read(image_cache._library.lib.image_cache_tee_read, bytearray(1)), 1)
        self.assertTrue(tee._use()._pointer is None)
        self.assertEqual(self.cache.list_incomplete(), [])

    def test_a_source_that_reads_its_own_tee_is_refused(self) -> None:
        tee = self.cache.tee("1", lambda size: tee.read(size))
        error = self.assert_fails(image_cache.SourceFailed, tee.read, 1)
        self.assertIsInstance(error.__cause__, InvalidArgument)
        tee.close()

    def test_a_cache_that_is_closed_in_a_fetch_ends_after_the_prefetch(self) -> None:
        for image_id in "12":
            self.cache.queue_image(image_id)

        def fetch(image_id: str, writer: image_cache.FetchWriter) -> None:
            self.cache.close()
            writer.write(b"x")

        self.assertEqual(self.cache.prefetch(fetch).fetched, 2)
        self.assertTrue(self.cache.closed)
        self.assertEqual(len(self.open_cache().list_cached()), 2)

    def test_threads_share_a_cache_and_wait_for_each_other_in_a_file(self) -> None:
        data = os.urandom(1 << 20)
        self.cache_image("1", data)
        reader = self.cache.open_for_read("1")
        pieces: list[bytes] = []

        def read() -> None:
            while piece := reader.read(10_000):
                pieces.append(piece)

        self.in_threads(read, read, lambda: [self.cache.list_cached() for _ in range(50)])
        reader.close()
        self.assertEqual(
            sorted(map(len, pieces)), sorted(len(data[at : at + 10_000]) for at in range(0, 1 << 20, 10_000))
        )
        self.assertEqual(sum(map(len, pieces)), len(data))

    def test_other_threads_run_during_a_call(self) -> None:
        """The wait in one thread ends because of another one: the call has released the interpreter's lock."""
        writer = self.cache.begin_write("1")
        stream = self.cache.stream("1", support.fail)
        # Without a timeout, a read that held the lock would never return. run_tests.py ends a deadlock.
        self.in_threads(
            lambda: self.assertEqual(stream.readall(), b"bytes"), lambda: (writer.write(b"bytes"), writer.commit())
        )
        stream.close()

    def test_a_close_waits_for_the_call_of_another_thread(self) -> None:
        entered, may_return = threading.Event(), threading.Event()

        def source(size: int) -> bytes:
            entered.set()
            may_return.wait()
            return b"x"

        tee = self.cache.tee("1", source)
        read: list[bytes] = []

        def close() -> None:
            entered.wait()
            threading.Thread(target=may_return.set).start()
            tee.close()

        self.in_threads(lambda: read.append(tee.read(1)), close)
        self.assertEqual(read, [b"x"])

    def test_a_read_waits_for_that_of_another_thread(self) -> None:
        pieces: list[bytes] = []
        other: list[threading.Thread] = []

        def source(size: int) -> bytes:
            if not other:
                other.append(threading.Thread(target=lambda: pieces.append(tee.read(1))))
                other[0].start()
                # The other thread must wait. A short time lets a read that does not wait fail.
                other[0].join(0.2)
                pieces.append(b"first")
            return b"x"

        with self.cache.tee("1", source) as tee:
            tee.read(1)
            other[0].join()
        self.assertEqual(pieces, [b"first", b"x"])

    def test_a_finalizer_within_a_log_function_ends_its_handle_later(self) -> None:
        """The library refuses every call there: a reader that is collected then would stay open for ever."""
        self.cache_image("1", b"x")
        kept = [self.cache.open_for_read("1")]
        fd = kept[0].fileno()
        cache = self.open_cache(log=lambda *_: kept.clear())
        with self.assertWarns(ResourceWarning):
            cache.begin_write("2").abort("tested")
        cache.is_cached("1")
        self.assertRaises(OSError, os.fstat, fd)
        self.assertEqual(kept, [])

    def test_nothing_leaks(self) -> None:
        self.cache.close()
        self.cache = self.open_cache(durability=image_cache.Durability.NONE)  # 300 commits need not wait for the disk
        self.cache_image("1", b"x" * 1000)

        def use_everything() -> None:
            with self.cache.open_for_read("1") as reader:
                reader.read()
            with self.cache.tee("2", support.fail) as tee:
                self.assertRaises(image_cache.SourceFailed, tee.read, 1)
            with self.cache.stream("3", lambda at, size: b"x"[at:]) as stream:
                stream.readall()
            self.cache.delete_cached_image("3")
            self.cache.queue_image("4")
            self.cache.prefetch(lambda *_: support.fail())
            self.cache.verify("1", progress=lambda *_: None)
            self.cache.list_cached(), self.cache.get_statistics()
            self.cache.begin_write("5").abort()
            self.assertRaises(image_cache.NotFound, self.cache.open_for_read, "6")

        def measure() -> tuple[int, int]:
            gc.collect()
            return len(os.listdir("/proc/self/fd")), len(_open)

        def resident() -> int:
            with open("/proc/self/statm") as file:
                return int(file.read().split()[1]) * os.sysconf("SC_PAGESIZE")

        for _ in range(20):
            use_everything()
        before, memory = measure(), resident()
        for _ in range(100):
            use_everything()
        self.assertEqual(measure(), before)
        self.assertLess(resident() - memory, 4 << 20)

    def test_lists_are_freed(self) -> None:
        for i in range(20):
            self.cache.queue_image(f"{i:0200}")

        def resident() -> int:
            with open("/proc/self/statm") as file:
                return int(file.read().split()[1]) * os.sysconf("SC_PAGESIZE")

        def list_often(times: int) -> None:
            for _ in range(times):
                self.cache.list_queued()  # more than 1 KB

        list_often(100)
        before = resident()
        list_often(4000)
        self.assertLess(resident() - before, 2 << 20)

    def test_callbacks_live_as_long_as_they_are_needed(self) -> None:
        class Store:
            def read(self, size: int) -> bytes:
                return b""

        store = Store()
        gone = weakref.ref(store)
        tee = self.cache.tee("1", store)
        del store
        gc.collect()
        self.assertIsNotNone(gone())
        self.assertEqual(tee.read(1), b"")
        tee.close()
        del tee
        gc.collect()
        self.assertIsNone(gone())

    def test_a_forked_child_is_refused_and_harms_nothing(self) -> None:
        self.cache_image("1", b"bytes")
        reader, writer = self.cache.open_for_read("1"), self.cache.begin_write("2")
        tee = self.cache.tee("3", io.BytesIO(b"x"))
        writer.write(b"half")
        child = os.fork()
        if child == 0:
            code = 1
            try:
                for use in (self.cache.prune, lambda: reader.read(1), lambda: writer.write(b"x"), lambda: tee.read(1)):
                    self.assert_fails(image_cache.Forked, use)
                for handle in (reader, writer, tee, self.cache):
                    handle.close()
                code = 0
            finally:
                os._exit(code)
        self.assertEqual(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), 0)
        writer.write(b", whole")
        writer.commit()
        self.assertEqual((reader.read(), tee.readall(), self.read_image("2")), (b"bytes", b"x", b"half, whole"))
        reader.close()
        tee.close()


    def test_a_child_does_not_wait_for_a_lock_of_the_parents_threads(self) -> None:
        entered, may_return = threading.Event(), threading.Event()

        def source(size: int) -> bytes:
            entered.set()
            may_return.wait()
            return b"x"

        tee = self.cache.tee("1", source)
        reading = threading.Thread(target=tee.read, args=(1,))
        reading.start()
        entered.wait()
        child = os.fork()
        if child == 0:
            code = 1
            try:
                signal.alarm(30)  # a deadlock ends
                self.assert_fails(image_cache.Forked, tee.read, 1)
                tee.close()
                code = 0
            finally:
                os._exit(code)
        status = os.waitpid(child, 0)[1]
        may_return.set()
        reading.join()
        tee.close()
        self.assertEqual(status, 0)


class TheEndOfTheInterpreter(CacheTest):
    def setUp(self) -> None:
        super().setUp()
        self.cache_image("1", b"bytes")

    def run_to_the_end(self, program: str, *options: str) -> str:
        ran = self.run_program(START + program, *options)
        self.assertEqual((ran.returncode, ran.stdout), (0, "done\n"), ran.stderr)
        return ran.stderr

    def test_open_handles_are_closed_and_hits_are_kept(self) -> None:
        program = """
reader, writer = cache.open_for_read("1"), cache.begin_write("2")
reader.read()
print("done")
"""
        self.assertEqual(self.run_to_the_end(program), "")
        self.assertEqual(self.cache.get_hit_count("1"), 1)
        self.assertEqual([image.image_id for image in self.cache.list_invalid()], ["2"])
        warned = self.run_to_the_end(program.replace('"2"', '"3"'), "-W", "always::ResourceWarning")
        for handle in ("reader", "writer", "cache"):
            self.assertIn(f"unclosed {handle} at the end of the program", warned)

    def test_daemon_threads_in_callbacks_do_not_abort_the_process(self) -> None:
        for body in ("while True: pass", "threading.Event().wait(0.001)"):
            program = f"""
entered = threading.Event()
def source(size):
    entered.set()
    {body}
    return b"x"
def work():
    while True:
        cache.tee("2", source).read(1)
for _ in range(4):
    threading.Thread(target=work, daemon=True).start()
entered.wait()
print("done")
"""
            self.run_to_the_end(program)

    def test_a_thread_that_begins_a_call_at_the_end_is_ended(self) -> None:
        self.run_to_the_end("""
image_cache._exit._is_ending = True  # as when the exit handlers run
survived = []
thread = threading.Thread(target=lambda: (cache.prune(), survived.append(1)))
thread.start()
thread.join()
cache.prune()
assert not survived and not image_cache._exit.busy
cache.close()
print("done")
""")

    def test_a_program_may_use_the_cache_in_its_own_exit_handlers(self) -> None:
        self.run_to_the_end("""
import atexit
atexit.register(lambda: (cache.prune(), cache.close(), print("done")))
""")

    def test_a_forked_child_that_ends_normally_leaves_the_parents_handles(self) -> None:
        self.run_to_the_end("""
writer = cache.begin_write("2")
if os.fork() == 0:
    sys.exit()
assert os.wait()[1] == 0
writer.commit()
cache.close()
print("done")
""")
        self.assertTrue(self.cache.is_cached("2"))

    def test_garbage_cycles_and_late_finalizers_are_harmless(self) -> None:
        self.run_to_the_end("""
class Late:
    def __del__(self):
        try:
            self.reader.read(1)
        except (ValueError, SystemExit):
            pass
late = Late()
late.reader, late.itself = cache.open_for_read("1"), late
sys.late = late
print("done")
""")
