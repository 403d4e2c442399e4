// agent CACHE_DIR: caches, reads, tees, lists and prunes, in C++17, with handles that close themselves.
#include <image_cache.h>

#include <iostream>
#include <memory>
#include <stdexcept>
#include <string>
#include <string_view>
#include <vector>

namespace {

// Each handle is a unique_ptr that calls its closing function.
template <auto close> struct Close {
    template <typename Handle> void operator()(Handle *handle) const { close(handle); }
};
using Options = std::unique_ptr<image_cache_options_t, Close<image_cache_options_free>>;
using Cache = std::unique_ptr<image_cache_t, Close<image_cache_close>>;
using Reader = std::unique_ptr<image_cache_reader_t, Close<image_cache_reader_close>>;
using Tee = std::unique_ptr<image_cache_tee_t, Close<image_cache_tee_close>>;
using List = std::unique_ptr<image_cache_list_t, Close<image_cache_list_free>>;

// Calls a function that can fail, and throws its message.
template <typename Function, typename... Arguments> void call(Function function, Arguments... arguments)
{
    image_cache_error_t error{};
    if (function(arguments..., &error) != IMAGE_CACHE_OK)
        throw std::runtime_error(error.message);
}

template <typename Handle, typename Read> std::string read_all(Handle *handle, Read read)
{
    std::string bytes;
    std::vector<char> buffer(4);
    for (std::size_t length = 1; length > 0; bytes.append(buffer.data(), length))
        call(read, handle, buffer.data(), buffer.size(), &length);
    return bytes;
}

Cache open_cache(const char *directory)
{
    Options options(image_cache_options_new());
    call(image_cache_options_set_max_size, options.get(), std::uint64_t{15});
    image_cache_t *cache = nullptr;
    call(image_cache_open, directory, options.get(), &cache);
    return Cache(cache);
}

void write_and_read(const image_cache_t *cache)
{
    constexpr std::string_view data = "0123456789";
    image_cache_writer_t *writer = nullptr;
    call(image_cache_begin_write, cache, "cirros", &writer);
    try {
        call(image_cache_write_chunk, writer, data.data(), data.size());
    } catch (const std::exception &failure) {
        image_cache_abort(writer, failure.what());
        throw;
    }
    call(image_cache_commit, writer); // ends the writer, also when it throws
    std::cout << "cached cirros: " << data.size() << " bytes\n";

    image_cache_reader_t *reader = nullptr;
    call(image_cache_open_for_read, cache, "cirros", &reader);
    std::cout << "read cirros: " << read_all(Reader(reader).get(), image_cache_read) << '\n';
}

// A source must not throw: an exception would unwind through the library.
std::int64_t next_part(void *user_data, void *buffer, std::size_t capacity) noexcept
try {
    auto &parts = *static_cast<std::vector<std::string> *>(user_data);
    if (parts.empty())
        return 0;
    const auto length = parts.back().copy(static_cast<char *>(buffer), capacity);
    parts.back().erase(0, length);
    if (parts.back().empty())
        parts.pop_back();
    return static_cast<std::int64_t>(length);
} catch (...) {
    return -1;
}

void tee(const image_cache_t *cache)
{
    std::vector<std::string> parts{"tea", "tea", "tea"};
    image_cache_tee_t *handle = nullptr;
    call(image_cache_tee_open, cache, "fedora", next_part, &parts, &handle);
    Tee tee(handle);
    const auto bytes = read_all(tee.get(), image_cache_tee_read);
    std::cout << "tee fedora: " << bytes << (image_cache_tee_is_caching(tee.get()) ? ", cached\n" : ", not cached\n");
}

void list_and_prune(const image_cache_t *cache)
{
    image_cache_list_t *handle = nullptr;
    call(image_cache_list_cached, cache, &handle);
    List list(handle);
    for (const image_cache_entry_t *entry = nullptr; image_cache_list_next(list.get(), &entry);)
        std::cout << "listed " << entry->image_id << ": " << entry->size << " bytes, hits: " << entry->hits << '\n';
    std::uint64_t images = 0, bytes = 0;
    call(image_cache_prune, cache, &images, &bytes);
    std::cout << "pruned: " << images << " image, " << bytes << " bytes\n";
}

} // namespace

int main(int argc, char **argv)
try {
    if (argc != 2)
        throw std::runtime_error("usage: agent CACHE_DIR");
    const auto cache = open_cache(argv[1]);
    write_and_read(cache.get());
    tee(cache.get());
    list_and_prune(cache.get());
    return 0;
} catch (const std::exception &failure) {
    std::cerr << failure.what() << '\n';
    return 1;
}
