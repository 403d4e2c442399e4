// agent LIBRARY CACHE_DIR: caches, reads, tees, lists and prunes, in Node, through the FFI module koffi.
'use strict';
const koffi = require('koffi');

const [libraryPath, directory] = process.argv.slice(2);
const library = koffi.load(libraryPath);

koffi.struct('image_cache_error_t', {
  status: 'int32_t', os_error: 'int32_t', message: koffi.array('char', 504, 'String'),
});
const Entry = koffi.struct('image_cache_entry_t', {
  image_id: 'const char *', size: 'uint64_t', hits: 'uint64_t',
  last_accessed: 'int64_t', last_modified: 'int64_t', digest: 'const char *',
});
const Source = koffi.proto('int64_t image_cache_source_fn(void *user_data, void *buffer, size_t capacity)');

// Declares a function that can fail: its name and its parameters before the error. It throws on failure.
function canFail(name, parameters) {
  const call = library.func(`int32_t image_cache_${name}(${parameters}, _Out_ image_cache_error_t *error)`);
  return (...values) => {
    const error = {};
    if (call(...values, error) !== 0) throw new Error(error.message);
  };
}

const optionsNew = library.func('void *image_cache_options_new()');
const setMaxSize = canFail('options_set_max_size', 'void *options, uint64_t bytes');
const open = canFail('open', 'const char *directory, void *options, _Out_ void **cache');
const beginWrite = canFail('begin_write', 'void *cache, const char *id, _Out_ void **writer');
const writeChunk = canFail('write_chunk', 'void *writer, const uint8_t *data, size_t length');
const commit = canFail('commit', 'void *writer');
const openForRead = canFail('open_for_read', 'void *cache, const char *id, _Out_ void **reader');
const read = canFail('read', 'void *reader, _Out_ uint8_t *buffer, size_t capacity, _Out_ size_t *length');
const teeOpen = canFail(
  'tee_open', 'void *cache, const char *id, image_cache_source_fn *source, void *user_data, _Out_ void **tee');
const teeRead = canFail('tee_read', 'void *tee, _Out_ uint8_t *buffer, size_t capacity, _Out_ size_t *length');
const teeIsCaching = library.func('bool image_cache_tee_is_caching(void *tee)');
const listCached = canFail('list_cached', 'void *cache, _Out_ void **list');
const listNext = library.func('bool image_cache_list_next(void *list, _Out_ void **entry)');
const prune = canFail('prune', 'void *cache, _Out_ uint64_t *images, _Out_ uint64_t *bytes');
const endOf = (name) => library.func(`void image_cache_${name}(void *handle)`);

function create(make, ...values) {
  const out = [null];
  make(...values, out);
  return out[0];
}

function readAll(readSome, handle) {
  const parts = [], buffer = Buffer.alloc(4), length = [1];
  while (Number(length[0]) > 0) {
    readSome(handle, buffer, buffer.length, length);
    parts.push(Buffer.from(buffer.subarray(0, Number(length[0]))));
  }
  return Buffer.concat(parts).toString();
}

const options = optionsNew();
setMaxSize(options, 15);
const cache = create(open, directory, options);
endOf('options_free')(options);

const writer = create(beginWrite, cache, 'cirros');
writeChunk(writer, Buffer.from('0123456789'), 10);
commit(writer);
console.log('cached cirros: 10 bytes');
const reader = create(openForRead, cache, 'cirros');
console.log(`read cirros: ${readAll(read, reader)}`);
endOf('reader_close')(reader);

// A source must not throw: it returns -1 instead. Unregister it after the tee is closed.
const parts = ['tea', 'tea', 'tea'];
const source = koffi.register((userData, buffer, capacity) => {
  try {
    const part = Buffer.from(parts.shift() ?? '');
    if (part.length > capacity) return -1;
    if (part.length === 0) return 0; // the end
    koffi.encode(buffer, koffi.array('uint8_t', part.length), part);
    return part.length;
  } catch {
    return -1;
  }
}, koffi.pointer(Source));
const tee = create(teeOpen, cache, 'fedora', source, null);
console.log(`tee fedora: ${readAll(teeRead, tee)}, ${teeIsCaching(tee) ? 'cached' : 'not cached'}`);
endOf('tee_close')(tee);
koffi.unregister(source);

const list = create(listCached, cache);
for (const entry = [null]; listNext(list, entry);) {
  const { image_id, size, hits } = koffi.decode(entry[0], Entry);
  console.log(`listed ${image_id}: ${size} bytes, hits: ${hits}`);
}
endOf('list_free')(list);

const images = [0], bytes = [0];
prune(cache, images, bytes);
console.log(`pruned: ${images[0]} image, ${bytes[0]} bytes`);
endOf('close')(cache);
