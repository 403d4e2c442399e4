//! Each good image is accepted in its own format, and in no other one.

use image_cache::{DriverChoice, Error};

use crate::builders::{Made, iso, qcow2, raw, vhd_dynamic, vhd_fixed, vhdx, vmdk, vmdk_stream, vmdk_with_a_new_cid};
use crate::common::Scratch;
use crate::corpus::{ALL, write};

/// What each builder makes is good, so each attack is refused for its one change. In every other format's place it is refused.
pub fn accepted(driver: DriverChoice) {
    let scratch = Scratch::new(driver);
    let images: [(&str, Made); 11] = [
        ("raw", raw()),
        ("raw", Made(Vec::new())),
        ("qcow2", qcow2(2)),
        ("qcow2", qcow2(3)),
        ("vmdk", vmdk()),
        ("vmdk", vmdk_with_a_new_cid()),
        ("vmdk", vmdk_stream()),
        ("vhd", vhd_fixed()),
        ("vhd", vhd_dynamic()),
        ("vhdx", vhdx()),
        ("iso", iso()),
    ];
    for accepted in ALL.split(',') {
        let cache = scratch.open_with(scratch.options.clone().formats(accepted).unwrap());
        for (format, image) in &images {
            let result = write(&cache, "image", &image.0);
            if *format == accepted {
                result.unwrap_or_else(|error| panic!("{format}: {error}"));
                cache.delete_cached_image("image").unwrap();
            } else {
                let why = result.expect_err(format).to_string();
                assert!(why.ends_with(&format!("its format is {format}, which is not accepted")), "{why}");
            }
        }
    }
    // A partition table is no format: neither in a raw image nor in an ISO image that boots from USB sticks.
    let mut hybrid = iso();
    hybrid.put(510, b"\x55\xaa").put(512, b"EFI PART");
    let cache = scratch.open_with(scratch.options.clone().formats("iso").unwrap());
    write(&cache, "image", &hybrid.0).unwrap();
    for names in ["", "raw,", "qcow", "raw,, qcow2", "RAW", "vpc"] {
        assert!(matches!(scratch.options.clone().formats(names), Err(Error::InvalidArgument(_))), "{names}");
    }
    for names in [" raw", "raw, qcow2", "iso ,raw"] {
        assert!(scratch.options.clone().formats(names).is_ok(), "{names}");
    }
}
