/* The calls that statuses.c makes: each function with valid and with invalid arguments. */
#ifndef STATUSES_CALLS_H
#define STATUSES_CALLS_H

#include <image_cache.h>

#include "statuses_fixtures.h"

/* X(function, before, call): `before` prepares the call. */
#define CALLS(X)                                                                                                       \
    X(options_set_driver, nothing, image_cache_options_set_driver(options, IMAGE_CACHE_DRIVER_XATTR, &error))          \
    X(options_set_driver, nothing, image_cache_options_set_driver(options, 99, &error))                                \
    X(options_set_change_driver, nothing, image_cache_options_set_change_driver(options, true, &error))                \
    X(options_set_change_driver, nothing, image_cache_options_set_change_driver(NULL, true, &error))                   \
    X(options_set_max_size, nothing, image_cache_options_set_max_size(options, 1, &error))                             \
    X(options_set_max_size, nothing, image_cache_options_set_max_size(NULL, 1, &error))                                \
    X(options_set_limit_mode, nothing, image_cache_options_set_limit_mode(options, 1, &error))                         \
    X(options_set_limit_mode, nothing, image_cache_options_set_limit_mode(options, 2, &error))                         \
    X(options_set_min_free, nothing, image_cache_options_set_min_free(options, 1, 100, &error))                        \
    X(options_set_min_free, nothing, image_cache_options_set_min_free(options, 1, 101, &error))                        \
    X(options_set_min_free_inodes, nothing, image_cache_options_set_min_free_inodes(options, 1, 1, &error))            \
    X(options_set_min_free_inodes, nothing, image_cache_options_set_min_free_inodes(NULL, 1, 1, &error))               \
    X(options_set_max_pinned, nothing, image_cache_options_set_max_pinned(options, 100, &error))                       \
    X(options_set_max_pinned, nothing, image_cache_options_set_max_pinned(options, 101, &error))                       \
    X(options_set_stall_time, nothing, image_cache_options_set_stall_time(options, 1, &error))                         \
    X(options_set_stall_time, nothing, image_cache_options_set_stall_time(NULL, 1, &error))                            \
    X(options_set_database, nothing, image_cache_options_set_database(options, "name", &error))                        \
    X(options_set_database, nothing, image_cache_options_set_database(options, "a/b", &error))                         \
    X(options_set_durability, nothing, image_cache_options_set_durability(options, 1, &error))                         \
    X(options_set_durability, nothing, image_cache_options_set_durability(options, 2, &error))                         \
    X(options_set_streaming, nothing, image_cache_options_set_streaming(options, true, &error))                        \
    X(options_set_streaming, nothing, image_cache_options_set_streaming(NULL, true, &error))                           \
    X(options_set_sparse, nothing, image_cache_options_set_sparse(options, true, &error))                              \
    X(options_set_sparse, nothing, image_cache_options_set_sparse(NULL, true, &error))                                 \
    X(options_set_formats, nothing, image_cache_options_set_formats(options, "raw,iso", &error))                       \
    X(options_set_formats, nothing, image_cache_options_set_formats(options, "floppy", &error))                        \
    X(options_set_inspector, nothing, image_cache_options_set_inspector(options, NULL, NULL, &error))                  \
    X(options_set_inspector, nothing, image_cache_options_set_inspector(NULL, NULL, NULL, &error))                     \
    X(options_set_log, nothing, image_cache_options_set_log(options, NULL, NULL, &error))                              \
    X(options_set_log, nothing, image_cache_options_set_log(NULL, NULL, NULL, &error))                                 \
    X(open, nothing, image_cache_open(inside("/new"), options, &new_cache, &error))                                    \
    X(open, nothing, image_cache_open(inside(""), options, &new_cache, &error))                                        \
    X(open, newer_index, image_cache_open(inside(""), options, &new_cache, &error))                                    \
    X(open, a_file, image_cache_open(inside("/file"), options, &new_cache, &error))                                    \
    X(open, nothing, image_cache_open(NULL, options, &new_cache, &error))                                              \
    X(is_cached, nothing, image_cache_is_cached(cache, "cached", &value, &error))                                      \
    X(is_cached, nothing, image_cache_is_cached(cache, "a/b", &value, &error))                                         \
    X(is_cached, nothing, image_cache_is_cached(cache, NULL, &value, &error))                                          \
    X(is_being_cached, chunk, image_cache_is_being_cached(cache, "written", &value, &error))                           \
    X(is_being_cached, nothing, image_cache_is_being_cached(cache, "a/b", &value, &error))                             \
    X(is_being_cached, nothing, image_cache_is_being_cached(cache, NULL, &value, &error))                              \
    X(is_queued, nothing, image_cache_is_queued(cache, "queued", &value, &error))                                      \
    X(is_queued, nothing, image_cache_is_queued(cache, "a/b", &value, &error))                                         \
    X(is_queued, nothing, image_cache_is_queued(cache, NULL, &value, &error))                                          \
    X(is_cacheable, nothing, image_cache_is_cacheable(cache, "new", &value, &error))                                   \
    X(is_cacheable, nothing, image_cache_is_cacheable(cache, "a/b", &value, &error))                                   \
    X(is_cacheable, nothing, image_cache_is_cacheable(cache, NULL, &value, &error))                                    \
    X(get_cache_size, nothing, image_cache_get_cache_size(cache, &number, &error))                                     \
    X(get_cache_size, nothing, image_cache_get_cache_size(cache, NULL, &error))                                        \
    X(get_image_size, nothing, image_cache_get_image_size(cache, "cached", &number, &error))                           \
    X(get_image_size, nothing, image_cache_get_image_size(cache, "absent", &number, &error))                           \
    X(get_image_size, nothing, image_cache_get_image_size(cache, "a/b", &number, &error))                              \
    X(get_image_size, nothing, image_cache_get_image_size(cache, NULL, &number, &error))                               \
    X(get_hit_count, nothing, image_cache_get_hit_count(cache, "cached", &number, &error))                             \
    X(get_hit_count, nothing, image_cache_get_hit_count(cache, "a/b", &number, &error))                                \
    X(get_hit_count, nothing, image_cache_get_hit_count(cache, NULL, &number, &error))                                 \
    X(list_cached, nothing, image_cache_list_cached(cache, &list, &error))                                             \
    X(list_cached, add_a_file, image_cache_list_cached(cache, &list, &error))                                          \
    X(list_cached, nothing, image_cache_list_cached(cache, NULL, &error))                                              \
    X(list_queued, nothing, image_cache_list_queued(cache, &list, &error))                                             \
    X(list_queued, nothing, image_cache_list_queued(cache, NULL, &error))                                              \
    X(get_image, nothing, image_cache_get_image(cache, "cached", &list, &error))                                       \
    X(get_image, nothing, image_cache_get_image(cache, "missing", &list, &error))                                      \
    X(get_image, nothing, image_cache_get_image(cache, "a/b", &list, &error))                                          \
    X(get_image, add_a_file, image_cache_get_image(cache, "cached", &list, &error))                                    \
    X(get_image, nothing, image_cache_get_image(cache, "cached", NULL, &error))                                        \
    X(list_incomplete, nothing, image_cache_list_incomplete(cache, &list, &error))                                     \
    X(list_incomplete, nothing, image_cache_list_incomplete(cache, NULL, &error))                                      \
    X(list_invalid, nothing, image_cache_list_invalid(cache, &list, &error))                                           \
    X(list_invalid, nothing, image_cache_list_invalid(cache, NULL, &error))                                            \
    X(delete_cached_image, nothing, image_cache_delete_cached_image(cache, "cached", &error))                          \
    X(delete_cached_image, nothing, image_cache_delete_cached_image(cache, "a/b", &error))                             \
    X(delete_cached_image, nothing, image_cache_delete_cached_image(cache, NULL, &error))                              \
    X(delete_unused_image, nothing, image_cache_delete_unused_image(cache, "cached", &value, &error))                  \
    X(delete_unused_image, nothing, image_cache_delete_unused_image(cache, "a/b", &value, &error))                     \
    X(delete_unused_image, pin, image_cache_delete_unused_image(cache, "cached", &value, &error))                      \
    X(delete_unused_image, nothing, image_cache_delete_unused_image(cache, "cached", NULL, &error))                    \
    X(delete_cached_image, pin, image_cache_delete_cached_image(cache, "cached", &error))                              \
    X(delete_all_cached_images, nothing, image_cache_delete_all_cached_images(cache, &number, &error))                 \
    X(delete_all_cached_images, nothing, image_cache_delete_all_cached_images(NULL, &number, &error))                  \
    X(delete_all_cached_images, pin, image_cache_delete_all_cached_images(cache, &number, &error))                     \
    X(prune, nothing, image_cache_prune(cache, &number, &second_number, &error))                                       \
    X(prune, nothing, image_cache_prune(NULL, &number, &second_number, &error))                                        \
    X(prune_to, nothing, image_cache_prune_to(cache, 0, &number, &second_number, &error))                              \
    X(prune_to, nothing, image_cache_prune_to(cache, 0, NULL, &second_number, &error))                                 \
    X(make_room, nothing, image_cache_make_room(cache, 0, &number, &second_number, &error))                            \
    X(make_room, nothing, image_cache_make_room(cache, UINT64_MAX, &number, &second_number, &error))                   \
    X(make_room, nothing, image_cache_make_room(cache, 1, &number, NULL, &error))                                      \
    X(set_max_size, nothing, image_cache_set_max_size(cache, 1, &error))                                               \
    X(set_max_size, have_hard_limit, image_cache_set_max_size(cache, 1, &error))                                       \
    X(set_max_size, nothing, image_cache_set_max_size(NULL, 1, &error))                                                \
    X(get_usage, nothing, image_cache_get_usage(cache, &usage, sizeof usage, &error))                                  \
    X(get_usage, nothing, image_cache_get_usage(cache, NULL, 0, &error))                                               \
    X(verify, nothing, image_cache_verify(cache, NULL, NULL, 0, &verified, sizeof verified, &error))                   \
    X(verify, nothing, image_cache_verify(cache, "cached", NULL, 0, &verified, sizeof verified, &error))               \
    X(verify, nothing, image_cache_verify(cache, "absent", NULL, 0, &verified, sizeof verified, &error))               \
    X(verify, nothing, image_cache_verify(cache, "a/b", NULL, 0, &verified, sizeof verified, &error))                  \
    X(verify, nothing, image_cache_verify(cache, NULL, newer, sizeof newer, &verified, sizeof verified, &error))       \
    X(verify, nothing, image_cache_verify(cache, NULL, NULL, 0, NULL, 0, &error))                                      \
    X(clean, leave_invalid, image_cache_clean(cache, 0, &number, &error))                                              \
    X(clean, chunk, image_cache_clean(cache, 0, &number, &error))                                                      \
    X(clean, nothing, image_cache_clean(NULL, 0, &number, &error))                                                     \
    X(pin, have_room, image_cache_pin(cache, "cached", "holder", 60, &error))                                          \
    X(pin, have_room, image_cache_pin(cache, "cached", "holder", 0, &error))                                           \
    X(pin, nothing, image_cache_pin(cache, "missing", "holder", 60, &error))                                           \
    X(pin, nothing, image_cache_pin(cache, "cached", "", 60, &error))                                                  \
    X(pin, nothing, image_cache_pin(cache, "a/b", "holder", 60, &error))                                               \
    X(pin, nothing, image_cache_pin(cache, "cached", "holder", 60, &error))                                            \
    X(unpin, pin, image_cache_unpin(cache, "cached", "holder", &error))                                                \
    X(unpin, nothing, image_cache_unpin(cache, "a/b", "holder", &error))                                               \
    X(unpin, nothing, image_cache_unpin(cache, "cached", NULL, &error))                                                \
    X(get_statistics, nothing, image_cache_get_statistics(cache, &statistics, sizeof statistics, &error))              \
    X(get_statistics, newer_statistics, image_cache_get_statistics(cache, &statistics, sizeof statistics, &error))     \
    X(get_statistics, add_a_file, image_cache_get_statistics(cache, &statistics, sizeof statistics, &error))           \
    X(get_statistics, nothing, image_cache_get_statistics(cache, &statistics, 0, &error))                              \
    X(queue_image, nothing, image_cache_queue_image(cache, "new", &value, &error))                                     \
    X(queue_image, nothing, image_cache_queue_image(cache, "a/b", &value, &error))                                     \
    X(queue_image, nothing, image_cache_queue_image(cache, NULL, &value, &error))                                      \
    X(delete_queued_image, nothing, image_cache_delete_queued_image(cache, "queued", &error))                          \
    X(delete_queued_image, nothing, image_cache_delete_queued_image(cache, "a/b", &error))                             \
    X(delete_queued_image, nothing, image_cache_delete_queued_image(cache, NULL, &error))                              \
    X(delete_all_queued_images, nothing, image_cache_delete_all_queued_images(cache, &number, &error))                 \
    X(delete_all_queued_images, nothing, image_cache_delete_all_queued_images(NULL, &number, &error))                  \
    X(prefetch, nothing, image_cache_prefetch(cache, fetch, NULL, &number, &second_number, &error))                    \
    X(prefetch, nothing, image_cache_prefetch(cache, NULL, NULL, &number, &second_number, &error))                     \
    X(open_for_read, nothing, image_cache_open_for_read(cache, "cached", &new_reader, &error))                         \
    X(open_for_read, nothing, image_cache_open_for_read(cache, "absent", &new_reader, &error))                         \
    X(open_for_read, nothing, image_cache_open_for_read(cache, "a/b", &new_reader, &error))                            \
    X(open_for_read, nothing, image_cache_open_for_read(cache, NULL, &new_reader, &error))                             \
    X(read, open_reader, image_cache_read(reader, buffer, sizeof buffer, &length, &error))                             \
    X(read, shorten,                                                                                                   \
      (image_cache_read(reader, buffer, 1, &length, &error),                                                           \
       image_cache_read(reader, buffer, sizeof buffer, &length, &error)))                                              \
    X(read, nothing, image_cache_read(NULL, buffer, sizeof buffer, &length, &error))                                   \
    X(read_at, open_reader, image_cache_read_at(reader, 2, buffer, sizeof buffer, &length, &error))                    \
    X(read_at, shorten, image_cache_read_at(reader, 2, buffer, sizeof buffer, &length, &error))                        \
    X(read_at, open_reader, image_cache_read_at(reader, 2, NULL, sizeof buffer, &length, &error))                      \
    X(export, open_target, image_cache_export(cache, "cached", target, 0, NULL, 0, &done, &error))                     \
    X(export, open_target,                                                                                             \
      image_cache_export(cache, "cached", target, IMAGE_CACHE_COPY_BYTES, NULL, 0, &done, &error))                     \
    X(export, open_target, image_cache_export(cache, "absent", target, 0, NULL, 0, &done, &error))                     \
    X(export, open_target, image_cache_export(cache, "a/b", target, 0, NULL, 0, &done, &error))                        \
    X(export, open_target, image_cache_export(cache, "cached", target, 9, NULL, 0, &done, &error))                     \
    X(export, nothing, image_cache_export(cache, "cached", -1, 0, NULL, 0, &done, &error))                             \
    X(export, open_target,                                                                                             \
      image_cache_export(cache, "cached", target, 0, newer_export, sizeof newer_export, &done, &error))                \
    X(export, open_target, image_cache_export(cache, "cached", target, 0, &stopping, sizeof stopping, &done, &error))  \
    X(import, open_source, image_cache_import(cache, "new", target, 0, NULL, 0, &done, &error))                        \
    X(import, refused_source, image_cache_import(cache, "new", target, 0, NULL, 0, &done, &error))                     \
    X(import, open_source, image_cache_import(cache, "cached", target, 0, NULL, 0, &done, &error))                     \
    X(import, begin_and_open, image_cache_import(cache, "written", target, 0, NULL, 0, &done, &error))                 \
    X(import, open_source, image_cache_import(cache, "a/b", target, 0, NULL, 0, &done, &error))                        \
    X(import, open_source, image_cache_import(cache, "new", target, 9, NULL, 0, &done, &error))                        \
    X(import, nothing, image_cache_import(cache, "new", -1, 0, NULL, 0, &done, &error))                                \
    X(import, open_source,                                                                                             \
      image_cache_import(cache, "new", target, 0, newer_import, sizeof newer_import, &done, &error))                   \
    X(import, open_source, image_cache_import(cache, "new", target, 0, &of_7_bytes, sizeof of_7_bytes, &done, &error)) \
    X(import, open_source, image_cache_import(cache, "new", target, 0, &of_nothing, sizeof of_nothing, &done, &error)) \
    X(import, open_source, image_cache_import(cache, "new", target, 0, &stopped, sizeof stopped, &done, &error))       \
    X(import, limited_source, image_cache_import(cache, "new", target, 0, NULL, 0, &done, &error))                     \
    X(import, lost_source, image_cache_import(cache, "new", target, 0, &losing, sizeof losing, &done, &error))         \
    X(tee_open, nothing, image_cache_tee_open(cache, "teed", read_text, &source, &new_tee, &error))                    \
    X(tee_open, nothing, image_cache_tee_open(cache, "a/b", read_text, &source, &new_tee, &error))                     \
    X(tee_open, nothing, image_cache_tee_open(cache, "teed", NULL, &source, &new_tee, &error))                         \
    X(tee_expect_size, open_tee, image_cache_tee_expect_size(my_tee, 1, &error))                                       \
    X(tee_expect_size, begin_tee, image_cache_tee_expect_size(my_tee, 1, &error))                                      \
    X(tee_refuse_empty, open_tee, image_cache_tee_refuse_empty(my_tee, &error))                                        \
    X(tee_refuse_empty, begin_tee, image_cache_tee_refuse_empty(my_tee, &error))                                       \
    X(tee_expect_digest, open_tee, image_cache_tee_expect_digest(my_tee, "md5", EMPTY_MD5, &error))                    \
    X(tee_expect_digest, open_tee, image_cache_tee_expect_digest(my_tee, "md4", EMPTY_MD5, &error))                    \
    X(tee_expect_digest, open_tee, image_cache_tee_expect_digest(my_tee, "md5", "d41d", &error))                       \
    X(tee_read, open_tee, read_tee(my_tee))                                                                            \
    X(tee_read, bad_tee, read_tee(my_tee))                                                                             \
    X(tee_read, tee_size, read_tee(my_tee))                                                                            \
    X(tee_read, tee_digest, read_tee(my_tee))                                                                          \
    X(tee_read, nothing, read_tee(NULL))                                                                               \
    X(stream_open, nothing, image_cache_stream_open(cache, "new", read_text_at, &source, &new_stream, &error))         \
    X(stream_open, nothing, image_cache_stream_open(cache, "cached", read_text_at, &source, &new_stream, &error))      \
    X(stream_open, nothing, image_cache_stream_open(cache, "a/b", read_text_at, &source, &new_stream, &error))         \
    X(stream_open, nothing, image_cache_stream_open(cache, "new", NULL, &source, &new_stream, &error))                 \
    X(stream_expect_size, open_stream, image_cache_stream_expect_size(my_stream, 1, &error))                           \
    X(stream_expect_size, begin_stream, image_cache_stream_expect_size(my_stream, 1, &error))                          \
    X(stream_expect_digest, open_stream, image_cache_stream_expect_digest(my_stream, "md5", EMPTY_MD5, &error))        \
    X(stream_expect_digest, open_stream, image_cache_stream_expect_digest(my_stream, "md4", EMPTY_MD5, &error))        \
    X(stream_expect_digest, open_stream, image_cache_stream_expect_digest(my_stream, "md5", "d41d", &error))           \
    X(stream_set_timeout, open_stream, image_cache_stream_set_timeout(my_stream, 1, &error))                           \
    X(stream_set_timeout, nothing, image_cache_stream_set_timeout(NULL, 1, &error))                                    \
    X(stream_set_source_timeout, open_stream, image_cache_stream_set_source_timeout(my_stream, 1, &error))             \
    X(stream_set_source_timeout, open_stream, image_cache_stream_set_source_timeout(my_stream, 0, &error))             \
    X(stream_read, open_stream, read_stream(my_stream))                                                                \
    X(stream_read, begin_stream, read_stream(my_stream))                                                               \
    X(stream_read, bad_stream, read_stream(my_stream))                                                                 \
    X(stream_read, stream_size, read_stream(my_stream))                                                                \
    X(stream_read, stream_digest, read_stream(my_stream))                                                              \
    X(stream_read, follow_writer, read_stream(my_stream))                                                              \
    X(stream_read, nothing, read_stream(NULL))                                                                         \
    X(stream_read_at, open_stream, image_cache_stream_read_at(my_stream, 2, buffer, 9, &length, &error))               \
    X(stream_read_at, bad_stream, image_cache_stream_read_at(my_stream, 2, buffer, 9, &length, &error))                \
    X(stream_read_at, open_stream, image_cache_stream_read_at(my_stream, 2, NULL, 9, &length, &error))                 \
    X(stream_read_at, impatient_stream, read_at_within())                                                              \
    X(wait_cached, nothing, image_cache_wait_cached(cache, "cached", 0, &value, &error))                               \
    X(wait_cached, leave_stream, image_cache_wait_cached(cache, "streamed", 0, &value, &error))                        \
    X(wait_cached, chunk, image_cache_wait_cached(cache, "written", 0, &value, &error))                                \
    X(wait_cached, nothing, image_cache_wait_cached(cache, "a/b", 0, &value, &error))                                  \
    X(wait_cached, nothing, image_cache_wait_cached(cache, NULL, 0, &value, &error))                                   \
    X(begin_write, nothing, image_cache_begin_write(cache, "new", &new_writer, &error))                                \
    X(begin_write, chunk, image_cache_begin_write(cache, "written", &new_writer, &error))                              \
    X(begin_write, nothing, image_cache_begin_write(cache, "cached", &new_writer, &error))                             \
    X(begin_write, nothing, image_cache_begin_write(cache, "a/b", &new_writer, &error))                                \
    X(begin_write, nothing, image_cache_begin_write(cache, NULL, &new_writer, &error))                                 \
    X(writer_expect_size, begin_with_room, image_cache_writer_expect_size(writer, 7, &error))                          \
    X(writer_expect_size, begin_within_limit, image_cache_writer_expect_size(writer, 7, &error))                       \
    X(writer_expect_size, begin, image_cache_writer_expect_size(writer, 1, &error))                                    \
    X(writer_expect_size, chunk, image_cache_writer_expect_size(writer, 1, &error))                                    \
    X(writer_expect_digest, begin, image_cache_writer_expect_digest(writer, "md5", EMPTY_MD5, &error))                 \
    X(writer_expect_digest, begin, image_cache_writer_expect_digest(writer, "md4", EMPTY_MD5, &error))                 \
    X(writer_expect_digest, begin, image_cache_writer_expect_digest(writer, "md5", "d41d", &error))                    \
    X(write_chunk, begin, image_cache_write_chunk(writer, "chunk", 5, &error))                                         \
    X(write_chunk, expect_size, image_cache_write_chunk(writer, "too long", 8, &error))                                \
    X(write_chunk, lose, image_cache_write_chunk(writer, "chunk", 5, &error))                                          \
    X(write_chunk, begin, image_cache_write_chunk(writer, NULL, 5, &error))                                            \
    X(write_hole, begin, image_cache_write_hole(writer, 5, &error))                                                    \
    X(write_hole, expect_size, image_cache_write_hole(writer, 9, &error))                                              \
    X(write_hole, lose, image_cache_write_hole(writer, 5, &error))                                                     \
    X(write_hole, nothing, image_cache_write_hole(NULL, 5, &error))                                                    \
    X(commit, chunk, commit(&writer))                                                                                  \
    X(commit, expect_size, commit(&writer))                                                                            \
    X(commit, expect_digest, commit(&writer))                                                                          \
    X(commit, inspect, commit(&writer))                                                                                \
    X(commit, lose, commit(&writer))                                                                                   \
    X(commit, race, commit(&writer))                                                                                   \
    X(commit, nothing, commit(&writer))

static const struct {
    const char *function;
    void (*before)(void);
} calls[] = {
#define ROW(function, before, call) {"image_cache_" #function, before},
    CALLS(ROW)};
enum { CALL_COUNT = sizeof calls / sizeof *calls, STATUS_COUNT = 20 };

static image_cache_status_t make_call(size_t which)
{
    size_t at = 0;
#define MAKE(function, before, call)                                                                                   \
    if (at++ == which)                                                                                                 \
        return call;
    CALLS(MAKE)
    return 0;
}

/* Documented statuses that no failing system call can provoke. */
static const struct {
    const char *function;
    image_cache_status_t status;
} unprovokable[] = {
    {"none at present", IMAGE_CACHE_OK},
};

#endif
