//! The documents: links and paths lead somewhere, code compiles or is an excerpt of a tested file, and no page is too long.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

#[path = "common/c_code.rs"]
mod c_code;

/// The directories with documents, from the root.
const DIRECTORIES: [&str; 6] = ["", "docs", "examples", "go", "python", "tests/scenarios"];

/// A longer page has more than one subject. The language of the scenarios has a reference.
const MAX_LINES: usize = 200;
const MAX_LINES_OF: [(&str, usize); 2] = [("README.md", 150), ("tests/scenarios/README.md", 240)];

/// Where the code of other languages than C comes from.
const SOURCES: [(&str, &[&str]); 6] = [
    ("cpp", &["examples/cpp/agent.cpp"]),
    ("go", &["examples/go/main.go"]),
    ("js", &["examples/node/agent.js"]),
    ("python", &["examples/python/callbacks.py", "examples/python/agent.py"]),
    ("rust", &["examples/rust/agent.rs", "src/ffi/queue.rs"]),
    ("sql", &["tests/glance/take_over.sql", "tests/glance/hand_back.sql"]),
];

/// Blocks that are not checked.
const OTHER_LANGUAGES: [&str; 4] = ["cmake", "sh", "text", ""];

/// Paths in the documents begin with one of these.
const TREES: &[&str] = &[
    "bench/",
    "cachectl/",
    "cmake/",
    "debian/",
    "docs/",
    "examples-c/",
    "examples/",
    "fuzz/",
    "go/",
    "include/",
    "python/",
    "scripts/",
    "src/",
    "tests/",
];

struct Document {
    /// From the root.
    path: PathBuf,
    text: String,
}

struct Block<'a> {
    language: &'a str,
    code: String,
}

impl Document {
    fn name(&self) -> String {
        self.path.display().to_string()
    }

    /// The lines outside of fenced blocks.
    fn prose(&self) -> impl Iterator<Item = &str> {
        let mut is_code = false;
        self.text.lines().filter(move |line| {
            let is_fence = line.trim_start().starts_with("```");
            is_code ^= is_fence;
            !is_code && !is_fence
        })
    }

    fn blocks(&self) -> Vec<Block<'_>> {
        let mut blocks = Vec::new();
        let mut open: Option<Block<'_>> = None;
        for line in self.text.lines() {
            match (line.strip_prefix("```"), open.as_mut()) {
                (Some(language), None) => open = Some(Block { language, code: String::new() }),
                (Some(_), Some(_)) => blocks.extend(open.take()),
                (None, Some(block)) => block.code = format!("{}{line}\n", block.code),
                (None, None) => {}
            }
        }
        assert!(open.is_none(), "{}: a fence is not closed", self.name());
        blocks
    }

    /// The targets of its links.
    fn links(&self) -> Vec<&str> {
        let parts = self.prose().flat_map(|line| line.split("](").skip(1));
        parts.filter_map(|part| part.split_once(')')).map(|(target, _)| target).collect()
    }

    /// The anchors of its headings, as GitHub makes them.
    fn anchors(&self) -> BTreeSet<String> {
        let headings = self.prose().filter(|line| line.starts_with('#'));
        headings.map(|heading| anchor(heading.trim_start_matches('#').trim())).collect()
    }

    /// The texts between backticks.
    fn spans(&self) -> Vec<&str> {
        self.prose()
            .filter(|line| !line.starts_with("    "))
            .flat_map(|line| line.split('`').skip(1).step_by(2))
            .collect()
    }
}

fn anchor(heading: &str) -> String {
    let kept = heading.chars().filter(|letter| letter.is_alphanumeric() || matches!(letter, ' ' | '-' | '_'));
    kept.flat_map(char::to_lowercase).map(|letter| if letter == ' ' { '-' } else { letter }).collect()
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn documents() -> Vec<Document> {
    let mut documents = Vec::new();
    for directory in DIRECTORIES {
        for entry in fs::read_dir(root().join(directory)).unwrap() {
            let path = entry.unwrap().path();
            if path.extension().is_some_and(|extension| extension == "md") {
                let text = fs::read_to_string(&path).unwrap();
                documents.push(Document { path: path.strip_prefix(root()).unwrap().to_owned(), text });
            }
        }
    }
    assert!(documents.len() > 15, "only {} documents were found", documents.len());
    documents
}

/// Resolves `..` without looking at the file system.
fn joined(directory: &Path, target: &str) -> PathBuf {
    let mut path = directory.to_owned();
    for part in Path::new(target).components() {
        match part.as_os_str().to_str().unwrap() {
            ".." => assert!(path.pop(), "{target} leads out of the tree"),
            "." => {}
            name => path.push(name),
        }
    }
    path
}

fn assert_none(what: &str, wrong: &[String]) {
    assert!(wrong.is_empty(), "{what}:\n  {}", wrong.join("\n  "));
}

#[test]
fn each_link_leads_to_a_file_and_a_heading() {
    let documents = documents();
    let mut wrong = Vec::new();
    for document in &documents {
        for link in document.links().into_iter().filter(|link| !link.starts_with("http")) {
            let (target, fragment) = link.split_once('#').unwrap_or((link, ""));
            let path = match target {
                "" => document.path.clone(),
                target => joined(document.path.parent().unwrap(), target),
            };
            let page = documents.iter().find(|page| page.path == path);
            let has_heading = fragment.is_empty() || page.is_some_and(|page| page.anchors().contains(fragment));
            if !root().join(&path).is_file() || !has_heading {
                wrong.push(format!("{}: {link}", document.name()));
            }
        }
    }
    assert_none("links that lead nowhere", &wrong);
}

#[test]
fn each_path_exists() {
    let mut wrong = Vec::new();
    for document in documents() {
        let is_about_tests = document.path.ends_with("docs/testing.md");
        for span in document.spans() {
            let is_plain = !span.contains([' ', '*', '<', '{', '|']) && span.contains('/');
            let is_in_tests = is_about_tests && is_plain && root().join("tests").join(span).exists();
            let is_meant = TREES.iter().any(|tree| span.starts_with(tree)) || is_about_tests && span.contains(".rs");
            if is_plain && is_meant && !is_in_tests && !root().join(span).exists() {
                wrong.push(format!("{}: {span}", document.name()));
            }
        }
    }
    assert_none("paths that do not exist", &wrong);
}

#[test]
fn the_documents_that_the_header_names_exist() {
    let header = fs::read_to_string(root().join("include/image_cache.h")).unwrap();
    let words = header.split(|letter: char| letter.is_whitespace() || "(),".contains(letter));
    let names: BTreeSet<_> = words.filter(|word| word.contains(".md")).map(|word| word.trim_end_matches('.')).collect();
    assert!(names.len() >= 4, "only {names:?} were found");
    let documents = documents();
    let exists = |name: &str| {
        let (path, fragment) = name.split_once('#').unwrap_or((name, ""));
        let page = documents.iter().find(|page| page.path == Path::new(path));
        page.is_some_and(|page| fragment.is_empty() || page.anchors().contains(fragment))
    };
    let missing = names.into_iter().filter(|name| !exists(name)).map(str::to_owned);
    assert_none("documents that do not exist", &missing.collect::<Vec<_>>());
}

#[test]
fn each_task_of_make_exists() {
    let makefile = fs::read_to_string(root().join("Makefile")).unwrap();
    let mut wrong = Vec::new();
    for document in documents() {
        for span in document.spans() {
            let Some(task) = span.strip_prefix("make ").and_then(|task| task.split(' ').next()) else { continue };
            if !makefile.lines().any(|line| line.strip_prefix(task).is_some_and(|rest| rest.starts_with(':'))) {
                wrong.push(format!("{}: make {task}", document.name()));
            }
        }
    }
    assert_none("tasks that the Makefile does not have", &wrong);
}

#[test]
fn each_page_is_short() {
    let mut wrong = Vec::new();
    for document in documents() {
        let own = MAX_LINES_OF.iter().find(|(path, _)| document.path == Path::new(path));
        let limit = own.map_or(MAX_LINES, |(_, limit)| *limit);
        let lines = document.text.lines().count();
        if lines > limit {
            wrong.push(format!("{}: {lines} lines, more than {limit}", document.name()));
        }
    }
    assert_none("pages that are too long", &wrong);
}

#[test]
fn the_indexes_have_every_page() {
    let documents = documents();
    let page = |path: &str| documents.iter().find(|document| document.path == Path::new(path)).unwrap();
    for (index, prefix) in [(page("docs/README.md"), ""), (page("README.md"), "docs/")] {
        let links: BTreeSet<_> = index.links().into_iter().collect();
        for document in documents.iter().filter(|document| document.path.starts_with("docs")) {
            let name = document.path.file_name().unwrap().to_str().unwrap();
            let is_linked = name == "README.md" || links.contains(format!("{prefix}{name}").as_str());
            assert!(is_linked, "{} has no link to {name}", index.name());
        }
    }
}

#[test]
fn the_c_code_of_the_documents_compiles() {
    let mut fragments = Vec::new();
    for document in documents() {
        let blocks = document.blocks().into_iter().filter(|block| block.language == "c");
        // `tests/readme.rs` compiles and runs the program.
        fragments.extend(blocks.map(|block| block.code).filter(|code| !code.contains("int main(")));
    }
    assert!(fragments.len() >= 5, "only {} fragments were found", fragments.len());
    c_code::check(&fragments);
}

/// The lines without their common indentation.
fn unindented(lines: &[&str]) -> Vec<String> {
    let indentations = lines.iter().filter(|line| !line.trim().is_empty());
    let common = indentations.map(|line| line.len() - line.trim_start().len()).min().unwrap_or(0);
    lines.iter().map(|line| line.get(common..).unwrap_or_default().to_owned()).collect()
}

fn is_excerpt(code: &str, file: &str) -> bool {
    let code: Vec<_> = code.lines().collect();
    let text = fs::read_to_string(root().join(file)).unwrap();
    let lines: Vec<_> = text.lines().collect();
    let wanted = unindented(&code);
    lines.windows(code.len()).any(|lines| unindented(lines) == wanted)
}

#[test]
fn the_code_of_other_languages_is_an_excerpt_of_a_tested_file() {
    let mut wrong = Vec::new();
    let mut count = 0;
    for document in documents() {
        for block in document.blocks() {
            let Block { language, code } = &block;
            if *language == "c" || OTHER_LANGUAGES.contains(language) {
                continue;
            }
            count += 1;
            let sources = SOURCES.iter().find(|(known, _)| known == language).map_or(&[][..], |(_, sources)| sources);
            if !sources.iter().any(|source| is_excerpt(code, source)) {
                wrong.push(format!("{}: {language}, not in {sources:?}:\n{code}", document.name()));
            }
        }
    }
    assert!(count >= 5, "only {count} blocks were found");
    assert_none("code that no test runs", &wrong);
}

#[test]
fn the_guide_has_every_status_of_the_header() {
    let header = fs::read_to_string(root().join("include/image_cache.h")).unwrap();
    let guide = fs::read_to_string(root().join("docs/guide.md")).unwrap();
    let statuses: Vec<_> =
        header.lines().filter_map(|line| line.strip_prefix("#define IMAGE_CACHE_ERROR_")?.split(' ').next()).collect();
    assert!(statuses.len() >= 17, "only {} statuses were found", statuses.len());
    for status in statuses {
        let is_there = guide.lines().any(|line| line.starts_with('|') && line.contains(&format!("`{status}`")));
        assert!(is_there, "docs/guide.md has no row for {status}");
    }
}
