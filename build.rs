//! Link arguments of the shared library.

/// The ABI number in the shared library's soname. It grows when programs linked with an older library cannot work with a
/// newer one, independently of the crate's version. `cmake/CargoLibrary.cmake` reads it here.
const ABI: u32 = 0;

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    // Programs linked with the library load it by this name. Tests read it from the environment.
    let soname = format!("libimage_cache.so.{ABI}");
    println!("cargo:rustc-cdylib-link-arg=-Wl,-soname,{soname}");
    println!("cargo:rustc-env=IMAGE_CACHE_SONAME={soname}");
    // Never unloaded: the destructors of thread-local values run when a thread ends, and their code is in the library.
    println!("cargo:rustc-cdylib-link-arg=-Wl,-z,nodelete");
    // No text relocations, read-only relocation tables, and no undefined symbols: a missing SQLite must fail the link, and
    // not resolve to the host's SQLite.
    println!("cargo:rustc-cdylib-link-arg=-Wl,-z,text,-z,relro,-z,now,-z,defs");
}
