//! What the guides tell operators to type.

#![expect(clippy::unwrap_used, reason = "a guide that cannot be read fails the test")]

use std::path::Path;

use config::{Exec, tree};

const GUIDES: [&str; 2] = ["docs/operator-guide.md", "README.md"];

fn read(guide: &str) -> String {
    std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").join(guide)).unwrap()
}

/// The blocks between fences, each with its language, and the text around them.
fn parts(text: &str) -> (Vec<(String, String)>, String) {
    let (mut blocks, mut prose) = (Vec::new(), String::new());
    for (number, part) in text.split("```").enumerate() {
        match part.split_once('\n') {
            Some((language, block)) if number % 2 == 1 => {
                blocks.push((language.to_owned(), block.to_owned()));
            }
            _ => prose.push_str(part),
        }
    }
    (blocks, prose)
}

/// Words in capitals stand for something: an address where one is meant, otherwise a name.
fn filled_in(line: &str) -> String {
    let stands_for = |word: &str| word.len() > 1 && word.chars().all(|c| c.is_ascii_uppercase());
    let words = line.split_whitespace().map(|word| match word {
        "ADDRESS" => "192.0.2.1",
        word if stands_for(word) => "name",
        word => word,
    });
    words.collect::<Vec<_>>().join(" ")
}

#[test]
fn configurations_load_without_a_bad_line() {
    let mut seen = 0;
    for guide in GUIDES {
        for (language, block) in parts(&read(guide)).0 {
            if language == "text" && block.starts_with("config\n") {
                let checked = config::check(&block);
                assert_eq!(
                    (checked.errors, checked.warnings),
                    (vec![], vec![]),
                    "{guide}:\n{block}"
                );
                seen += 1;
            }
        }
    }
    assert!(seen > 4);
}

#[test]
fn commands_parse() {
    let runs = |line: &str| Exec::parse(line, config::Privilege::Administrator).is_ok();
    let (mut seen, mut wrong) = (0, Vec::new());
    for guide in GUIDES {
        let (blocks, prose) = parts(&read(guide));
        let mut check = |text: &str, fine: bool| {
            seen += 1;
            if !fine {
                wrong.push(format!("{guide}: {text}"));
            }
        };
        for span in prose.split('`').skip(1).step_by(2) {
            let first = span.split_whitespace().next().unwrap_or_default();
            let line = filled_in(span);
            if !span.contains(' ') {
                continue;
            }
            let exec = ["bulkstats force", "task kill"];
            if ["show", "clear", "save", "terminal"].contains(&first)
                || exec.iter().any(|words| span.starts_with(words))
            {
                check(span, runs(&line));
            } else if tree().knows(first) {
                check(span, tree().knows(&line));
            }
        }
        for typed in blocks.iter().flat_map(|(_, block)| block.lines()) {
            if let Some((prompt, line)) = typed.split_once("# ")
                && prompt.starts_with("[local]")
            {
                check(
                    typed,
                    if prompt.contains('(') {
                        tree().knows(line)
                    } else {
                        runs(line)
                    },
                );
            }
        }
    }
    assert_eq!(wrong, Vec::<String>::new());
    assert!(seen > 60, "{seen}");
}
