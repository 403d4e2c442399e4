//! Makes manual pages of section 3 and one reference page in Markdown from the comments of `image_cache.h`.
//!
//! The header is the one text. A function's comment has, in this order: what it does in one sentence; a list of its parameters; a
//! list of the statuses that it returns; more paragraphs, one of which begins with "Threads:"; and perhaps examples.

mod header;
mod man;
mod markdown;

use std::error::Error;
use std::fs;
use std::path::Path;
use std::process::ExitCode;

fn main() -> ExitCode {
    let arguments: Vec<_> = std::env::args().skip(1).collect();
    let [header, directory] = &arguments[..] else {
        eprintln!("usage: image-cache-manual HEADER DIRECTORY\nWrites DIRECTORY/man3/*.3 and DIRECTORY/reference.md.");
        return ExitCode::FAILURE;
    };
    match write(header.as_ref(), directory.as_ref()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

fn write(header: &Path, directory: &Path) -> Result<(), Box<dyn Error>> {
    let text = fs::read_to_string(header).map_err(|error| format!("{}: {error}", header.display()))?;
    let header = header::Header::parse(&text)?;
    let pages = directory.join("man3");
    fs::create_dir_all(&pages)?;
    // A function that was removed leaves no page.
    for entry in fs::read_dir(&pages)? {
        fs::remove_file(entry?.path())?;
    }
    for (name, page) in man::pages(&header) {
        fs::write(pages.join(format!("{name}.3")), page)?;
    }
    fs::write(directory.join("reference.md"), markdown::reference(&header))?;
    Ok(())
}
