//! Operations on writers and readers, and shorthands that cache or read a whole image.

use std::ops::ControlFlow;
use std::time::Duration;

use image_cache::{Algorithm, ExportOptions, ImageCache, ImportOptions, Reader};
use rustix::fs::{OFlags, fcntl_getfl};
use rustix::io::{FdFlags, fcntl_getfd};

use super::cache::with_image_id;
use super::words::{buffer_of, data, number, text};
use super::{Handle, OperationResult, Output, Scenario, Stop, status_of, words};

pub fn operate(scenario: &mut Scenario, name: &str, arguments: &[&[u8]]) -> Option<OperationResult> {
    Some(match (name, arguments) {
        ("begin_write", [name, id]) => begin_write(scenario, name, id),
        ("writer_expect_size", [name, bytes]) => expect_size(scenario, name, bytes),
        ("writer_expect_digest", [name, algorithm, hex]) => expect_digest(scenario, name, algorithm, hex),
        ("write_chunk", [name, chunk]) => write_chunk(scenario, name, chunk),
        ("write_chunks", [name, chunk, piece]) => write_chunks(scenario, name, chunk, piece),
        ("commit", [name]) => commit(scenario, name),
        ("abort", [name]) => abort(scenario, name, b""),
        ("abort", [name, reason]) => abort(scenario, name, reason),
        ("cache_image", [id, chunk]) => cache_image(scenario, id, chunk),
        ("open_for_read", [name, id]) => open_for_read(scenario, name, id),
        ("read", [name, capacity]) => read(scenario, name, capacity),
        ("read_at", [name, offset, capacity]) => read_at(scenario, name, offset, capacity),
        ("read_all", [name, capacity]) => read_all(scenario, name, capacity),
        ("reader_size", [name]) => scenario.reader(name).map(|reader| Output::ok(&reader.size().to_string())),
        ("reader_path", [name]) => scenario.reader(name).map(|reader| path(reader)),
        ("reader_fd", [name]) => scenario.reader(name).map(|reader| descriptor(reader)),
        ("reader_close", [name]) => close(scenario, name),
        ("read_image", [id]) => scenario.cache().map(|cache| bytes_output(read_image(cache, id))),
        ("export", [id]) => scenario.cache().map(|cache| bytes_output(with_image_id(id, |id| export(cache, id)))),
        ("import", [id, bytes]) => import(scenario, id, bytes),
        ("write_hole", [name, length]) => write_hole(scenario, name, length),
        ("every_call_with", [id]) => scenario.cache().map(|cache| every_call(cache, id)),
        _ => return None,
    })
}

fn begin_write(scenario: &mut Scenario, name: &[u8], id: &[u8]) -> OperationResult {
    let name = scenario.unused_name(name)?;
    let cache = scenario.cache()?;
    let begun = with_image_id(id, |id| cache.begin_write(id));
    Ok(scenario.insert(name, begun.map(Handle::Writer)))
}

fn expect_size(scenario: &mut Scenario, name: &[u8], bytes: &[u8]) -> OperationResult {
    let bytes = number(bytes)?;
    Ok(Output::status(scenario.writer(name)?.expect_size(bytes)))
}

fn expect_digest(scenario: &mut Scenario, name: &[u8], algorithm: &[u8], hex: &[u8]) -> OperationResult {
    let (algorithm, hex) = (text(algorithm)?, text(hex)?);
    let writer = scenario.writer(name)?;
    Ok(Output::status(Algorithm::from_name(algorithm).and_then(|algorithm| writer.expect_digest(algorithm, hex))))
}

fn write_chunk(scenario: &mut Scenario, name: &[u8], chunk: &[u8]) -> OperationResult {
    let chunk = data(chunk)?;
    Ok(Output::status(scenario.writer(name)?.write_chunk(&chunk)))
}

fn write_chunks(scenario: &mut Scenario, name: &[u8], chunk: &[u8], piece: &[u8]) -> OperationResult {
    let (chunk, piece) = (data(chunk)?, buffer_of(piece)?.len());
    if piece == 0 {
        return Err(Stop::BadLine("pieces of 0 bytes"));
    }
    let writer = scenario.writer(name)?;
    Ok(Output::status(chunk.chunks(piece).try_for_each(|piece| writer.write_chunk(piece))))
}

fn commit(scenario: &mut Scenario, name: &[u8]) -> OperationResult {
    scenario.writer(name)?;
    match scenario.handles.remove(text(name)?) {
        Some(Handle::Writer(writer)) => Ok(Output::status(writer.commit())),
        _ => Err(Stop::BadLine("no writer of that name is open")),
    }
}

fn abort(scenario: &mut Scenario, name: &[u8], reason: &[u8]) -> OperationResult {
    scenario.writer(name)?;
    if let Some(Handle::Writer(writer)) = scenario.handles.remove(text(name)?) {
        writer.abort(text(reason)?);
    }
    Ok(Output::ok(""))
}

fn cache_image(scenario: &mut Scenario, id: &[u8], chunk: &[u8]) -> OperationResult {
    let (cache, chunk) = (scenario.cache()?, data(chunk)?);
    Ok(Output::status(with_image_id(id, |id| {
        let mut writer = cache.begin_write(id)?;
        writer.write_chunk(&chunk)?;
        writer.commit()
    })))
}

fn open_for_read(scenario: &mut Scenario, name: &[u8], id: &[u8]) -> OperationResult {
    let name = scenario.unused_name(name)?;
    let cache = scenario.cache()?;
    let opened = with_image_id(id, |id| cache.open_for_read(id));
    Ok(scenario.insert(name, opened.map(Handle::Reader)))
}

fn bytes_output(read: image_cache::Result<Vec<u8>>) -> Output {
    Output::of(read, |bytes| words::fingerprint(&bytes))
}

fn read(scenario: &mut Scenario, name: &[u8], capacity: &[u8]) -> OperationResult {
    let mut buffer = buffer_of(capacity)?;
    let length = scenario.reader(name)?.read(&mut buffer);
    Ok(bytes_output(length.map(|length| buffer[..length].to_vec())))
}

fn read_at(scenario: &mut Scenario, name: &[u8], offset: &[u8], capacity: &[u8]) -> OperationResult {
    let (offset, mut buffer) = (number(offset)?, buffer_of(capacity)?);
    let length = scenario.reader(name)?.read_at(offset, &mut buffer);
    Ok(bytes_output(length.map(|length| buffer[..length].to_vec())))
}

fn read_all(scenario: &mut Scenario, name: &[u8], capacity: &[u8]) -> OperationResult {
    let mut buffer = buffer_of(capacity)?;
    Ok(bytes_output(read_to_end(scenario.reader(name)?, &mut buffer)))
}

fn read_to_end(reader: &mut Reader, buffer: &mut [u8]) -> image_cache::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    loop {
        match reader.read(buffer)? {
            0 => return Ok(bytes),
            length => bytes.extend_from_slice(&buffer[..length]),
        }
    }
}

fn read_image(cache: &ImageCache, id: &[u8]) -> image_cache::Result<Vec<u8>> {
    read_to_end(&mut with_image_id(id, |id| cache.open_for_read(id))?, &mut vec![0; 65536])
}

fn path(reader: &Reader) -> Output {
    Output::of(reader.path(), |path| {
        let is_same = |named: rustix::fs::Stat| {
            let open = rustix::fs::fstat(reader.descriptor().unwrap()).unwrap();
            (open.st_dev, open.st_ino) == (named.st_dev, named.st_ino)
        };
        let found = match rustix::fs::stat(path) {
            _ if !path.is_absolute() => "relative",
            Err(_) => "absent",
            Ok(named) if is_same(named) => "its_file",
            Ok(_) => "another_file",
        };
        found.to_owned()
    })
}

fn descriptor(reader: &Reader) -> Output {
    Output::of(reader.descriptor(), |descriptor| {
        let read_only =
            fcntl_getfl(descriptor).is_ok_and(|mode| mode & (OFlags::WRONLY | OFlags::RDWR) == OFlags::RDONLY);
        let closes = fcntl_getfd(descriptor).is_ok_and(|flags| flags.contains(FdFlags::CLOEXEC));
        let mode = if read_only { "read_only" } else { "writable" };
        format!("{mode} {}", if closes { "close_on_exec" } else { "inherited" })
    })
}

fn close(scenario: &mut Scenario, name: &[u8]) -> OperationResult {
    scenario.reader(name)?;
    scenario.handles.remove(text(name)?);
    Ok(Output::ok(""))
}

/// Exports an image to a new file, and returns what is in it.
fn export(cache: &ImageCache, id: &str) -> image_cache::Result<Vec<u8>> {
    let (mut file, mut bytes) = (tempfile::tempfile().expect("a scratch file"), Vec::new());
    cache.export(id, &file, ExportOptions::default(), |_, _| ControlFlow::Continue(()))?;
    std::io::Read::read_to_end(&mut file, &mut bytes).expect("the file can be read");
    Ok(bytes)
}

/// Imports a new file with these bytes.
fn import(scenario: &mut Scenario, id: &[u8], bytes: &[u8]) -> OperationResult {
    let mut file = tempfile::tempfile().expect("a scratch file");
    std::io::Write::write_all(&mut file, &data(bytes)?).expect("the file can be written");
    let cache = scenario.cache()?;
    let go_on = |_, _| ControlFlow::Continue(());
    let imported = with_image_id(id, |id| cache.import(id, &file, &ImportOptions::default(), go_on));
    Ok(Output::of(imported, |_| String::new()))
}

fn write_hole(scenario: &mut Scenario, name: &[u8], length: &[u8]) -> OperationResult {
    let length = number(length)?;
    Ok(Output::status(scenario.writer(name)?.write_hole(length)))
}

/// Makes every call that takes an image id.
fn every_call(cache: &ImageCache, id: &[u8]) -> Output {
    let calls = [
        ("is_cached", with_image_id(id, |id| cache.is_cached(id)).err()),
        ("is_being_cached", with_image_id(id, |id| cache.is_being_cached(id)).err()),
        ("is_queued", with_image_id(id, |id| cache.is_queued(id)).err()),
        ("is_cacheable", with_image_id(id, |id| cache.is_cacheable(id)).err()),
        ("wait_cached", with_image_id(id, |id| cache.wait_cached(id, Duration::ZERO)).err()),
        ("get_image_size", with_image_id(id, |id| cache.image_size(id)).err()),
        ("get_hit_count", with_image_id(id, |id| cache.hit_count(id)).err()),
        ("queue_image", with_image_id(id, |id| cache.queue_image(id)).err()),
        ("delete_queued_image", with_image_id(id, |id| cache.delete_queued_image(id)).err()),
        ("delete_cached_image", with_image_id(id, |id| cache.delete_cached_image(id)).err()),
        ("delete_unused_image", with_image_id(id, |id| cache.delete_unused_image(id)).err()),
        ("pin", with_image_id(id, |id| cache.pin(id, "holder", None)).err()),
        ("unpin", with_image_id(id, |id| cache.unpin(id, "holder")).err()),
        ("open_for_read", with_image_id(id, |id| cache.open_for_read(id)).err()),
        ("export", with_image_id(id, |id| export(cache, id)).err()),
        ("begin_write", with_image_id(id, |id| cache.begin_write(id)).err()),
        ("tee_open", with_image_id(id, |id| cache.tee(id, std::io::empty())).err()),
        ("stream_open", with_image_id(id, |id| cache.stream(id, |_: u64, _: &mut [u8]| Ok(0))).err()),
    ];
    let statuses = calls.map(|(name, error)| (name, error.as_ref().map_or("OK", status_of)));
    if statuses.iter().all(|(_, status)| *status == statuses[0].1) {
        return Output::just(statuses[0].1);
    }
    Output::just(statuses.map(|(name, status)| format!("{name}:{status}")).join(" "))
}
