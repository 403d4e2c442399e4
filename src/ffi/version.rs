//! The version of the library.

use std::ffi::{CStr, c_char};

/// The major version of this header.
pub const IMAGE_CACHE_VERSION_MAJOR: u32 = 0;
/// The minor version of this header.
pub const IMAGE_CACHE_VERSION_MINOR: u32 = 2;
/// The patch version of this header.
pub const IMAGE_CACHE_VERSION_PATCH: u32 = 0;

const VERSION: &CStr = match CStr::from_bytes_with_nul(concat!(env!("CARGO_PKG_VERSION"), "\0").as_bytes()) {
    Ok(version) => version,
    Err(_) => c"",
};

/// The version of the loaded library, for example "0.2.0".
///
/// Returns a constant that lives as long as the library.
///
/// The macros IMAGE_CACHE_VERSION_* are the version that the program was compiled against.
///
/// Threads: any. Blocks: never.
#[unsafe(no_mangle)]
pub extern "C" fn image_cache_version() -> *const c_char {
    VERSION.as_ptr()
}

/// The version of the loaded library as a number. It grows with each version.
///
/// Returns major << 16 | minor << 8 | patch.
///
/// Threads: any. Blocks: never.
#[unsafe(no_mangle)]
pub extern "C" fn image_cache_version_number() -> u32 {
    IMAGE_CACHE_VERSION_MAJOR << 16 | IMAGE_CACHE_VERSION_MINOR << 8 | IMAGE_CACHE_VERSION_PATCH
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_header_has_the_version_of_the_crate() {
        let numbers = [IMAGE_CACHE_VERSION_MAJOR, IMAGE_CACHE_VERSION_MINOR, IMAGE_CACHE_VERSION_PATCH];
        assert_eq!(numbers.map(|number| number.to_string()).join("."), env!("CARGO_PKG_VERSION"));
        assert_eq!(VERSION.to_str().unwrap(), env!("CARGO_PKG_VERSION"));
    }
}
