//! Help texts, manual pages and completions: complete, with examples that are accepted, and free of errors.

mod common;

use std::collections::BTreeSet;
use std::fs;

use common::{Cache, program, run};

/// The commands and subcommands, by the help of the program.
fn commands() -> Vec<Vec<String>> {
    let mut found = vec![Vec::new()];
    let mut all = Vec::new();
    while let Some(command) = found.pop() {
        let help = help_of(&command);
        let listed = help.split_once("Commands:\n").map_or("", |(_, rest)| rest.split("\n\n").next().unwrap());
        let names = listed.lines().filter_map(|line| line.strip_prefix("  ")).filter(|line| !line.starts_with(' '));
        found.extend(names.map(|line| {
            let mut command = command.clone();
            command.push(line.split_whitespace().next().unwrap().to_owned());
            command
        }));
        all.push(command);
    }
    assert!(all.len() > 20, "{all:?}");
    all
}

fn help_of(command: &[String]) -> String {
    run(program().args(command).arg("--help")).expect(0).stdout
}

/// The lines of the examples.
fn examples(help: &str) -> Vec<&str> {
    let place = help.rfind("\nExample").unwrap_or_else(|| panic!("no example: {help}"));
    help[place..].lines().filter(|line| line.starts_with("  ")).map(str::trim).collect()
}

#[test]
fn each_help_ends_in_an_example() {
    for command in commands() {
        let help = help_of(&command);
        let examples = examples(&help);
        assert!(examples.iter().any(|line| line.contains("image-cachectl")), "{command:?}: {help}");
        for name in &command {
            assert!(examples.iter().any(|line| line.contains(name.as_str())), "{command:?}: {help}");
        }
        let last = help.trim_end().lines().last().unwrap();
        assert!(last.starts_with("  "), "{command:?} does not end in its example: {last}");
        let long = help.lines().find(|line| line.chars().count() > 80);
        assert_eq!(long, None, "{command:?}");
    }
}

/// Each example runs up to the directory, which has no cache: its arguments are right.
#[test]
fn each_example_has_arguments_that_are_accepted() {
    let cache = Cache::absent("sqlite");
    common::file(&cache.beside("cirros.img"), b"hello");
    common::file(&cache.beside("disk.qcow2"), b"hello");
    let mut tried = 0;
    for command in commands() {
        for line in examples(&help_of(&command)) {
            let part = line.split(" | ").find(|part| part.starts_with("image-cachectl")).unwrap();
            let part =
                part.split(" > ").next().unwrap().replace("/var/lib/images", cache.directory().to_str().unwrap());
            let arguments = words(&part.replace("$SHA256", &"e".repeat(64)).replace("--owner glance", "--owner 0:0"));
            let mut example = program();
            example.args(&arguments[1..]).current_dir(cache.scratch.path());
            let run = run(example.env("IMAGE_CACHE_DIR", cache.directory()));
            assert!([0, 7].contains(&run.code), "{line}: {run:?}");
            tried += 1;
            let _ = fs::remove_dir_all(cache.directory());
        }
    }
    assert!(tried > 25, "only {tried} examples were found");
}

/// The words of a shell command, with single quotes.
fn words(line: &str) -> Vec<String> {
    let parts = line.split('\'').enumerate().flat_map(|(place, part)| match place % 2 {
        0 => part.split_whitespace().map(str::to_owned).collect::<Vec<_>>(),
        _ => vec![part.to_owned()],
    });
    parts.collect()
}

#[test]
fn the_document_has_every_command_and_exit_code() {
    let document = include_str!("../../docs/image-cachectl.md");
    for command in commands().into_iter().filter(|command| !command.is_empty()) {
        let has_subcommands = help_of(&command).contains("Commands:\n");
        let name = command.join(" ");
        assert!(has_subcommands || document.contains(&format!("`{name}`")), "the document lacks {name}");
    }
    let source = include_str!("../src/exit.rs");
    for line in source.lines().filter_map(|line| line.trim().strip_prefix("Self::")) {
        let Some((_, name)) = line.split_once(" => \"") else { continue };
        let name = name.trim_end_matches("\",");
        assert!(document.contains(&format!("| `{name}` |")), "the document lacks the exit code {name}");
    }
}

#[test]
fn there_is_a_page_for_each_command_and_completions_know_them() {
    let cache = Cache::absent("sqlite");
    let directory = cache.beside("generated");
    run(program().arg("generate").arg(&directory)).expect(0);
    let pages: BTreeSet<_> = fs::read_dir(directory.join("man1")).unwrap().map(|entry| entry.unwrap().path()).collect();
    let expected: BTreeSet<_> = commands()
        .into_iter()
        .map(|command| {
            directory.join("man1").join([vec!["image-cachectl".to_owned()], command].concat().join("-") + ".1")
        })
        .collect();
    assert_eq!(pages, expected);
    for page in &pages {
        let text = fs::read_to_string(page).unwrap();
        assert!(text.contains(".SH EXAMPLES"), "{} has no example", page.display());
    }
    for (shell, command) in [("bash", "make-room"), ("zsh", "make-room"), ("fish", "make-room")] {
        let script = run(program().args(["completions", shell])).expect(0).stdout;
        assert!(script.contains(command), "{shell} does not know {command}");
    }
}
