//! Operations on one image that others disturb, or that run beside each other. Each delivers right bytes only, and returns what ends it.

use std::time::Duration;

use image_cache::{Algorithm, Error, ImageCache, RangeSource, Stream, StreamRole};

use crate::checks::md5_hex;
use crate::fixture::{Fixture, bytes_of};
use crate::operations::{Effect, Operation, OperationResult, Outcome};
use crate::setup::Setup;
use crate::streams::{leave_unfinished, source};

/// The image of all of them.
pub const IMAGE: &str = "new";

/// At most this long a hasty stream waits for the source of another one. It is shorter than most waits.
const HASTE: Duration = Duration::from_millis(1);

const CACHES: &[Effect] = &[Effect::Caches(IMAGE), Effect::ReadsOnly(IMAGE)];

pub const STREAM: Operation = on_image("shared_stream", |setup| {
    let mut stream = open(setup.cache())?;
    expect_digest(&mut stream)?;
    read_to_end(stream)
});

pub const HASTY_STREAM: Operation = on_image("shared_hasty_stream", |setup| {
    let mut stream = open(setup.cache())?;
    expect_digest(&mut stream)?;
    stream.set_source_timeout(HASTE)?;
    read_to_end(stream)
});

/// The size is known, so that the close of the stream ends the fetch. It reads ahead first.
pub const STREAM_OF_KNOWN_SIZE: Operation = on_image("shared_stream_of_known_size", |setup| {
    const AHEAD: usize = 2500;
    let expected = bytes_of(IMAGE);
    let mut stream = open(setup.cache())?;
    stream.expect_size(expected.len() as u64)?;
    let mut ahead = [0; 100];
    let length = stream.read_at(AHEAD as u64, &mut ahead)?;
    assert!(length > 0 && ahead[..length] == expected[AHEAD..AHEAD + length], "wrong bytes were read ahead");
    let mut bytes = Vec::new();
    while bytes.len() < expected.len() {
        read_more(&mut stream, &mut bytes)?;
    }
    Ok(outcome(&stream))
});

pub const TWO_STREAMS: Operation = on_image("shared_streams_of_one_process", |setup| {
    let mut streams = [open(setup.cache())?, open(setup.cache())?];
    for stream in &mut streams {
        stream.set_source_timeout(HASTE)?;
    }
    let mut received = [Vec::new(), Vec::new()];
    let mut are_at_end = [false; 2];
    while are_at_end.contains(&false) {
        for ((stream, bytes), is_at_end) in streams.iter_mut().zip(&mut received).zip(&mut are_at_end) {
            *is_at_end = *is_at_end || !read_more(stream, bytes)?;
        }
    }
    check_whole(&received[0]);
    check_whole(&received[1]);
    Ok(outcome(&streams[0]))
});

/// One of two streams in a process has read its first bytes only when the other one ends.
pub const IDLE_STREAM: Operation = on_image("shared_stream_that_is_idle", |setup| {
    let [mut idle, mut first] = [open(setup.cache())?, open(setup.cache())?];
    for stream in [&mut idle, &mut first] {
        stream.set_source_timeout(HASTE)?;
        expect_digest(stream)?;
    }
    let mut bytes = [0; 10];
    let length = idle.read_at(0, &mut bytes)?;
    assert!(bytes_of(IMAGE).starts_with(&bytes[..length]), "wrong bytes were streamed");
    // The digest may be wrong: both report that.
    let ended = read_to_end(first);
    let outcome = read_to_end(idle)?;
    ended.map(|_| outcome)
});

pub const RESUMED_STREAM: Operation = Operation {
    prepare: |setup| setup.open().and_then(|()| leave_unfinished(setup, IMAGE)),
    ..on_image("shared_stream_that_resumes", |setup| {
        let mut stream = open(setup.cache())?;
        stream.set_source_timeout(HASTE)?;
        expect_digest(&mut stream)?;
        read_to_end(stream)
    })
};

/// Follows a writer of the same process, which ends meanwhile.
pub const STREAM_BEHIND_A_WRITER: Operation = Operation {
    prepare: |setup| {
        setup.open()?;
        setup.begin(IMAGE)?;
        setup.write(&bytes_of(IMAGE)[..1200])
    },
    ..on_image("shared_stream_behind_a_writer", |setup| {
        let mut stream = open(setup.cache())?;
        stream.set_source_timeout(HASTE)?;
        let mut bytes = Vec::new();
        read_more(&mut stream, &mut bytes)?;
        let mut writer = setup.writer.take().expect("there is a writer");
        // It may have lost its file.
        let _ = writer.write_chunk(&bytes_of(IMAGE)[1200..]).and_then(|()| writer.commit());
        while read_more(&mut stream, &mut bytes)? {}
        check_whole(&bytes);
        Ok(outcome(&stream))
    })
};

pub const STREAM_OF_A_CACHED_IMAGE: Operation = Operation {
    prepare: |setup| {
        setup.open()?;
        setup.write_whole(IMAGE)?;
        setup.commit().map(drop)
    },
    ..on_image("shared_stream_of_a_cached_image", |setup| {
        let mut stream = open(setup.cache())?;
        expect_digest(&mut stream)?;
        read_to_end(stream)
    })
};

pub const WRITER: Operation = on_image("shared_writer", |setup| unless_taken(write(setup)));

pub const TEE: Operation = on_image("shared_tee", |setup| {
    let bytes = bytes_of(IMAGE);
    let mut tee = setup.cache().tee(IMAGE, bytes.as_slice())?;
    let (mut received, mut buffer) = (Vec::new(), [0; 1300]);
    loop {
        match tee.read(&mut buffer).expect("a tee goes on delivering") {
            0 => break,
            length => received.extend_from_slice(&buffer[..length]),
        }
    }
    check_whole(&received);
    Ok(if tee.is_caching() { Outcome::Done } else { Outcome::Partial })
});

pub const PRUNE: Operation = Operation {
    prepare: |setup| setup.open_with(setup.configuration.options().max_size(0)),
    effects: &[Effect::Evicts("kept"), Effect::Evicts("older"), Effect::Evicts("oldest")],
    ..on_image("shared_prune", |setup| setup.cache().prune().map(|_| Outcome::Done))
};

pub const CLEAN: Operation = Operation {
    effects: &[Effect::Cleans],
    ..on_image("shared_clean", |setup| setup.cache().clean(Some(Duration::ZERO)).map(|_| Outcome::Done))
};

pub const DELETE: Operation = Operation {
    effects: &[Effect::Deletes(IMAGE)],
    ..on_image("shared_delete", |setup| setup.cache().delete_cached_image(IMAGE).map(|()| Outcome::Done))
};

/// Caches it, deletes it, and caches it again.
pub const REPLACE: Operation = on_image("shared_replace", |setup| {
    for _ in 0..2 {
        setup.cache().delete_cached_image(IMAGE)?;
        unless_taken(write(setup))?;
    }
    Ok(Outcome::Done)
});

/// All of them.
pub const ALL: &[Operation] = &[
    STREAM,
    HASTY_STREAM,
    STREAM_OF_KNOWN_SIZE,
    TWO_STREAMS,
    IDLE_STREAM,
    RESUMED_STREAM,
    STREAM_BEHIND_A_WRITER,
    STREAM_OF_A_CACHED_IMAGE,
    WRITER,
    TEE,
    PRUNE,
    CLEAN,
    DELETE,
    REPLACE,
];

const fn on_image(name: &'static str, run: fn(&mut Setup) -> OperationResult) -> Operation {
    Operation { name, fixture: Fixture::Usual, prepare: Setup::open, run, effects: CACHES }
}

fn write(setup: &mut Setup) -> OperationResult {
    setup.begin(IMAGE)?;
    for chunk in bytes_of(IMAGE).chunks(1300) {
        setup.write(chunk)?;
    }
    setup.commit()
}

/// Another process may cache the image, or clean the file of a writer.
fn unless_taken(written: OperationResult) -> OperationResult {
    match written {
        Err(Error::AlreadyCached(_) | Error::BeingCached(_) | Error::Lost { .. }) => Ok(Outcome::Partial),
        written => written,
    }
}

fn open(cache: &ImageCache) -> image_cache::Result<Stream<impl RangeSource + Send + use<>>> {
    cache.stream(IMAGE, source(IMAGE))
}

fn expect_digest<S: RangeSource>(stream: &mut Stream<S>) -> image_cache::Result<()> {
    stream.expect_digest(Algorithm::Md5, &md5_hex(&bytes_of(IMAGE)))
}

fn read_to_end<S: RangeSource>(mut stream: Stream<S>) -> OperationResult {
    let mut bytes = Vec::new();
    while read_more(&mut stream, &mut bytes)? {}
    check_whole(&bytes);
    Ok(outcome(&stream))
}

/// False at the end. A wrong byte is a panic.
fn read_more<S: RangeSource>(stream: &mut Stream<S>, bytes: &mut Vec<u8>) -> Result<bool, Error> {
    let mut buffer = [0; 1000];
    let length = stream.read(&mut buffer)?;
    bytes.extend_from_slice(&buffer[..length]);
    assert!(bytes_of(IMAGE).starts_with(bytes), "a wrong byte was streamed, of the {length} before {}", bytes.len());
    Ok(length > 0)
}

fn check_whole(bytes: &[u8]) {
    assert!(bytes == bytes_of(IMAGE), "{} bytes were delivered", bytes.len());
}

fn outcome<S: RangeSource>(stream: &Stream<S>) -> Outcome {
    if stream.role() == StreamRole::Alone { Outcome::Partial } else { Outcome::Done }
}
