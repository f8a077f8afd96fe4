//! Walks through the whole table: every line that help leads to is accepted, and what it sets prints and reads back.

mod common;

use command::{Outcome, Path};
use common::Visible;
use config::{Config, Sealer, tree};
use proptest::prelude::*;

/// Words that fit parameters; the first that help accepts is taken.
const VALUES: &[&str] = &[
    "1",
    "5",
    "0",
    "100",
    "1200",
    "700",
    "3000",
    "10.1.2.3",
    "10.9.9.9",
    "255.255.255.0",
    "0.0.0.255",
    "10.4.0.0/16",
    "fd00::1",
    "fd00::/48",
    "1/10",
    "word",
];

fn seal(plain: &str) -> Result<String, String> {
    Visible.seal(plain.as_bytes()).map_err(|error| error.to_string())
}

/// Follows the suggestions of `?`, by these choices, until the line ends.
fn line(path: &Path, choices: &mut impl Iterator<Item = usize>) -> Option<String> {
    let mut line = String::new();
    for _ in 0..24 {
        let items = tree().help(path, &line).ok()?;
        for item in &items {
            assert!(
                !item.help.is_empty(),
                "'{line}{}' is not explained at {:?}",
                item.word,
                path.lines()
            );
        }
        let item = items.get(choices.next()? % items.len())?;
        if item.word == "<cr>" {
            return Some(line);
        }
        if !item.word.starts_with('<') {
            line.push_str(&item.word);
            line.push(' ');
            continue;
        }
        let start = choices.next()?;
        let value = (0..VALUES.len())
            .map(|step| VALUES[(start + step) % VALUES.len()])
            .find(|value| tree().help(path, &format!("{line}{value} ")).is_ok())?;
        line.push_str(value);
        line.push(' ');
    }
    None
}

fn walk(choices: Vec<usize>) -> (Config, usize) {
    let (mut config, mut path, mut applied) = (Config::default(), Path::default(), 0);
    let mut choices = choices.into_iter();
    while let Some(line) = line(&path, &mut choices) {
        match tree().apply(&mut config, &mut path, &line, &seal) {
            Ok(Outcome::Ended) => path = Path::default(),
            Ok(_) => applied += 1,
            // Refused by what it would change; never by its form.
            Err(command::Error::Refused { .. }) => {}
            Err(error) => panic!("{line}: {error}"),
        }
        let lines = path.lines();
        assert_eq!(tree().path(&config, &lines).as_ref(), Ok(&path), "{lines:?}");
    }
    (config, applied)
}

proptest! {
    #![proptest_config(ProptestConfig { max_shrink_iters: 100, ..ProptestConfig::with_cases(200) })]

    #[test]
    fn what_is_set_reads_back(choices in proptest::collection::vec(0usize..1000, 0..600)) {
        let (config, _) = walk(choices);
        let printed = config.to_text();
        let again = Config::parse(&printed);
        prop_assert_eq!(again.as_ref().map_err(|error| format!("{error}\n{printed}")), Ok(&config));
        prop_assert_eq!(again.unwrap().to_text(), printed);
        let _ = config.findings();
        let wrong = not_removable(&config);
        prop_assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    }

    #[test]
    fn octets(octets in proptest::collection::vec(any::<u8>(), 0..300)) {
        config::fuzz::configuration(&octets);
    }

    #[test]
    fn lines_of_keywords(words in proptest::collection::vec(prop_oneof![
        "\\PC{0,9}", "[ \n\t#|\"]{1,3}",
        Just("\n".to_owned()), Just("\n#exit\n".to_owned()), Just("context c\n".to_owned()), Just("crypto template t\n".to_owned()),
        Just("payload p match childsa\n".to_owned()), Just("wsg-service s\n".to_owned()), Just("interface i\n".to_owned()),
        Just("ip address 10.0.0.1/24\n".to_owned()), Just("no ".to_owned()), Just("default ".to_owned()), Just("bulkstats mode\n".to_owned()),
        Just("schema a format \"x|y\\\\\"\n".to_owned()), Just("ip access-list l\n permit any\n".to_owned()),
    ], 0..40)) {
        config::fuzz::configuration(words.concat().as_bytes());
    }
}

/// The walk reaches most of the table: otherwise the property above says little.
#[test]
fn the_walk_is_long() {
    let mut state = 12_345_u64;
    let mut applied = 0;
    for _ in 0..20 {
        let choices = (0..600)
            .map(|_| {
                state = state
                    .wrapping_mul(6_364_136_223_846_793_005)
                    .wrapping_add(1_442_695_040_888_963_407);
                usize::try_from(state >> 40).unwrap()
            })
            .collect();
        applied += walk(choices).1;
    }
    assert!(applied > 300, "{applied} lines");
}

/// A thousand pre-shared keys are read in a moment.
#[test]
fn long_files_are_read_quickly() {
    let mut text = "crypto remote-secret-list l\n".to_owned();
    for number in 0..1_000 {
        text.push_str(&format!(
            "remote-id id-type fqdn id enb{number} secret encrypted key +abcdefghijklmnopqrstuvwxyz\n"
        ));
    }
    let begin = std::time::Instant::now();
    let config = Config::parse(&text).unwrap();
    let took = begin.elapsed();
    assert_eq!(config.remote_secret_lists["l"].secrets.len(), 1_000);
    assert!(took < std::time::Duration::from_secs(2), "{took:?}");
    println!("1000 lines in {took:?}");
}

/// Each line of a canonical text, with the lines that lead to it and the number of lines below it.
fn placed(text: &str) -> Vec<(Vec<String>, String, usize)> {
    let indentation = |line: &str| line.len() - line.trim_start().len();
    let lines: Vec<&str> = text.lines().filter(|line| line.starts_with("  ")).collect();
    let mut modes: Vec<(usize, String)> = Vec::new();
    let mut placed = Vec::new();
    for (number, line) in lines.iter().enumerate() {
        let content = line.trim().to_owned();
        modes.retain(|(other, _)| *other < indentation(line));
        let deeper = |other: &&&str| indentation(other) > indentation(line);
        let below = lines.iter().skip(number + 1).take_while(deeper).count();
        if content != "#exit" {
            placed.push((
                modes.iter().map(|(_, line)| line.clone()).collect(),
                content.clone(),
                below,
            ));
        }
        modes.push((indentation(line), content));
    }
    placed
}

/// What has a `no` in front loses it, the rest gets one; afterwards this line and what is below it is gone, and nothing else. Says what
/// cannot be removed so.
fn not_removable(config: &Config) -> Vec<String> {
    let mut wrong = Vec::new();
    let before = placed(&config.to_text());
    for (number, (modes, line, _)) in before.iter().enumerate() {
        // These are always there.
        if ["context local", "deployment-mode remote-access"].contains(&line.as_str()) {
            continue;
        }
        let mut config = config.clone();
        let Ok(mut path) = tree().path(&config, modes) else {
            wrong.push(format!("{modes:?} leads nowhere"));
            continue;
        };
        let removal = line
            .strip_prefix("no ")
            .map_or_else(|| format!("no {line}"), ToOwned::to_owned);
        match tree().apply(&mut config, &mut path, &removal, &seal) {
            Ok(_) => {}
            // What others need stays.
            Err(error) if error.to_string().contains(" uses this ") => continue,
            Err(error) => {
                wrong.push(format!("{modes:?} {removal}: {error}"));
                continue;
            }
        }
        let inside = [&modes[..], std::slice::from_ref(line)].concat();
        // Identifiers are printed where they do not follow from the order.
        let plain = |line: &String| line.split(" context-id ").next().unwrap_or_default().to_owned();
        let key = |(modes, line): (&Vec<String>, &String)| {
            let mut key: Vec<String> = modes.iter().map(plain).collect();
            key.push(plain(line));
            key
        };
        let rest: Vec<Vec<String>> = before
            .iter()
            .enumerate()
            .filter(|(other, (modes, _, _))| *other != number && !modes.starts_with(&inside))
            .map(|(_, (modes, line, _))| key((modes, line)))
            .collect();
        let after: Vec<Vec<String>> = placed(&config.to_text())
            .iter()
            .map(|(modes, line, _)| key((modes, line)))
            .collect();
        // Another line may take its place (the same command with less), and a mode may be empty now.
        let own = key((modes, line));
        let gone = |other: &&Vec<String>| !after.contains(other) && !own.starts_with(other);
        if after.contains(&own) || rest.iter().any(|other| gone(&other)) {
            wrong.push(format!("{modes:?} {removal}"));
        }
    }
    wrong
}

#[test]
fn every_line_that_is_printed_can_be_removed() {
    for name in ["gateway", "undone"] {
        let file = format!("{}/tests/golden/{name}.cfg", env!("CARGO_MANIFEST_DIR"));
        let config = Config::parse(&std::fs::read_to_string(file).unwrap()).unwrap();
        let wrong = not_removable(&config);
        assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    }
}
