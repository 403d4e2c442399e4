//! Verifying images: what is found, what is left alone, and what becomes of the rest.

#[path = "../common/mod.rs"]
mod common;
mod found;
mod lengths;
mod meanwhile;
mod passes;

use std::fs::File;
use std::ops::ControlFlow;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::time::Duration;

use image_cache::{Algorithm, Error, ImageCache, Verified, VerifyOptions};

const MIB: usize = 1 << 20;
const CRC_OF_DIGITS: &str = "crc64nvme:ae8b14860a799888";

fn all(cache: &ImageCache) -> Verified {
    cache.verify(None, &VerifyOptions::default(), |_, _, _| ControlFlow::Continue(())).unwrap()
}

fn one(cache: &ImageCache, id: &str) -> Result<Verified, Error> {
    cache.verify(Some(id), &VerifyOptions::default(), |_, _, _| ControlFlow::Continue(()))
}

fn within(seconds: u64) -> VerifyOptions {
    VerifyOptions { skip_verified_within: Duration::from_secs(seconds), ..VerifyOptions::default() }
}

fn flip(path: &Path, offset: u64) {
    let file = File::options().read(true).write(true).open(path).unwrap();
    let mut byte = [0];
    file.read_exact_at(&mut byte, offset).unwrap();
    file.write_all_at(&[byte[0] ^ 1], offset).unwrap();
}

fn digest(cache: &ImageCache, id: &str) -> Option<String> {
    cache.get_image(id).unwrap().digest
}

fn reason(cache: &ImageCache, id: &str) -> String {
    let invalid = cache.list_invalid().unwrap().into_iter().find(|image| image.image_id == id);
    invalid.and_then(|image| image.reason).unwrap_or_default()
}

fn expected(digest: &str) -> impl Fn(&mut image_cache::Writer) + use<> {
    let (name, hex) = digest.split_once(':').unwrap();
    let (algorithm, hex) = (Algorithm::from_name(name).unwrap(), hex.to_owned());
    move |writer| writer.expect_digest(algorithm, &hex).unwrap()
}
