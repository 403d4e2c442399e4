//! Link arguments of the shared library.

/// The ABI's number, in the shared library's soname: it grows when a program that was linked with an older library would
/// not work with a newer one, whatever the crate's version is. `cmake/CargoLibrary.cmake` reads it here.
const ABI: u32 = 0;

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    // What programs that were linked with the library look for; tests get the name from the environment.
    let soname = format!("libimage_cache.so.{ABI}");
    println!("cargo:rustc-cdylib-link-arg=-Wl,-soname,{soname}");
    println!("cargo:rustc-env=IMAGE_CACHE_SONAME={soname}");
    // Never unloaded: a thread that called the library has thread-local values, whose destructors run when the thread ends.
    println!("cargo:rustc-cdylib-link-arg=-Wl,-z,nodelete");
    // No text relocations, nothing writable that need not be, and no function that is to come from whoever loads it: an
    // SQLite that was compiled to nothing would be the host's own.
    println!("cargo:rustc-cdylib-link-arg=-Wl,-z,text,-z,relro,-z,now,-z,defs");
}
