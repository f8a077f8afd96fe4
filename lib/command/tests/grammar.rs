//! Lines against a small set of commands.

use command::{Error, Grammar};
use proptest::prelude::*;

fn grammar() -> Grammar<&'static str> {
    let mut grammar = Grammar::default();
    grammar.explain("show", "Shows something");
    grammar.explain("ip", "Internet protocol");
    grammar.explain("ipv6", "Internet protocol version 6");
    grammar.explain("no", "Removes");
    grammar.add(
        "ip address {<address:ipv4'Host'> <mask:mask> | <prefix:prefix4>} [secondary'One more']",
        "Sets an address",
        "address",
    );
    grammar.add(
        "ip access-group <list:name(47)'Access list'> [!priority'Order'] [in'Packets that come in'|out'Packets that leave']",
        "Applies an access list",
        "group",
    );
    grammar.add("ipv6 address <prefix:prefix6>", "Sets an address", "address6");
    grammar.add("show clock", "Shows the time", "clock");
    grammar.add(
        "show context [all'Every context' | name'One context' <name:name(79)>]",
        "Shows contexts",
        "context",
    );
    grammar.add(
        "list {transform-set'Sets'|~transformset} <set:name(10)>*3 [log'Log it'] [twice'Two times']",
        "Lists",
        "list",
    );
    grammar.add(
        "group {!1|2'1024 bits'|14'2048 bits'|31'Curve'|!3des}",
        "Chooses a group",
        "group-number",
    );
    grammar.add("key <key:secret(8)>", "Sets the key", "key");
    grammar
}

fn action(line: &str) -> &'static str {
    let grammar = grammar();
    grammar
        .parse(line)
        .unwrap_or_else(|error| panic!("{line}: {error}"))
        .action
}

fn failure(line: &str) -> (Option<usize>, String) {
    let grammar = grammar();
    let Err(error) = grammar.parse(line) else {
        panic!("{line} was accepted")
    };
    (error.column(), error.to_string())
}

#[test]
fn declarations_are_sound() {
    assert_eq!(grammar().defects(), Vec::<String>::new());
    let mut wrong: Grammar<()> = Grammar::default();
    wrong.add("a {b", "", ());
    wrong.add("ip thing <x:1-2> other <y:1-2>", "Does", ());
    assert_eq!(wrong.defects().len(), 3, "{:?}", wrong.defects());
}

#[test]
fn unique_abbreviations_and_case() {
    assert_eq!(action("ip ad 10.0.0.1 255.0.0.0"), "address");
    assert_eq!(action("IP ADDRESS 10.0.0.1/8 SEC"), "address");
    assert_eq!(action("ipv6 a fd00::1/64"), "address6");
    assert_eq!(action("sh cl"), "clock");
    assert_eq!(action("sh con"), "context");
    let grammar = grammar();
    let found = grammar.parse("show con n MixedCase").unwrap();
    assert_eq!(
        found.args.text("name"),
        Some("MixedCase"),
        "values keep their case"
    );
    assert!(found.args.has("name"), "abbreviated keywords are known in full");
}

#[test]
fn errors_point_at_the_word() {
    assert_eq!(
        failure("shove clock"),
        (Some(0), "Unknown command - \"shove\"".into())
    );
    assert_eq!(
        failure("show c"),
        (Some(5), "Ambiguous \"c\": clock or context".into())
    );
    assert_eq!(
        failure("ip address 10.0.0.1"),
        (
            Some(19),
            "Incomplete command: expected <mask> (a netmask (255.255.255.0))".into()
        )
    );
    assert_eq!(
        failure("ip address 10.0.0.1 255.0.255.0"),
        (
            Some(20),
            "\"255.0.255.0\" is not a netmask (255.255.255.0) (<mask>)".into()
        )
    );
    assert_eq!(
        failure("show clock now"),
        (Some(11), "Unexpected \"now\": the command ends before it".into())
    );
    let (column, text) = failure("ip address nowhere");
    assert_eq!(column, Some(11));
    assert!(text.contains("<address>") && text.contains("<prefix>"), "{text}");
    assert_eq!(
        failure("key 123456789"),
        (
            Some(4),
            "\"***\" is not a secret of 1 to 8 characters (<key>)".into()
        )
    );
}

#[test]
fn unsupported_keywords_say_so() {
    assert_eq!(failure("group 1"), (Some(6), "not supported: group 1".into()));
    assert_eq!(
        failure("ip access-group x pri"),
        (Some(18), "not supported: ip access-group x pri".into())
    );
    assert_eq!(failure("group 3").0, Some(6), "numbers are not abbreviated");
    assert_eq!(action("group 31"), "group-number");
}

#[test]
fn options_in_any_order_and_repetitions() {
    assert_eq!(action("list transform-set a twice log"), "list");
    assert_eq!(action("list transform-set a b c log"), "list");
    let grammar = grammar();
    let found = grammar.parse("list tr a b c log twice").unwrap();
    assert_eq!(found.args.all("set").collect::<Vec<_>>(), ["a", "b", "c"]);
    assert_eq!(failure("list transform-set a log log").0, Some(25));
    assert_eq!(failure("list transform-set a b c d").0, Some(25));
}

#[test]
fn old_spellings_are_taken_in_full_only() {
    assert_eq!(action("list transformset a"), "list");
    assert!(
        grammar()
            .help("list ")
            .unwrap()
            .iter()
            .all(|item| item.word != "transformset")
    );
    assert_eq!(
        action("list transform a"),
        "list",
        "abbreviates the one that is shown"
    );
}

#[test]
fn quoted_words_are_values() {
    let grammar = grammar();
    let found = grammar.parse(r#"list transform-set "log""#).unwrap();
    assert_eq!(found.args.text("set"), Some("log"));
    assert!(!found.args.has("log"));
    assert!(grammar.parse(r#""show" clock"#).is_err());
}

#[test]
fn help_lists_what_can_follow() {
    let grammar = grammar();
    let words = |line: &str| -> Vec<String> {
        grammar
            .help(line)
            .unwrap()
            .into_iter()
            .map(|item| item.word)
            .collect()
    };
    assert_eq!(words("ip "), ["access-group", "address"]);
    assert_eq!(words("ip ad"), ["address"]);
    assert_eq!(words("ip address "), ["<address>", "<prefix>"]);
    assert_eq!(words("ip address 10.0.0.1/8 "), ["<cr>", "secondary"]);
    assert_eq!(words("show context "), ["<cr>", "all", "name"]);
    assert_eq!(words("group "), ["14", "2", "31"]);
    let help = grammar.help("sh").unwrap();
    assert_eq!(help[0].help, "Shows something");
    assert_eq!(grammar.help("show cl").unwrap()[0].help, "Shows the time");
    assert!(matches!(
        grammar.help("nothing like "),
        Err(Error::UnknownCommand { .. })
    ));
}

#[test]
fn tab_completes() {
    let grammar = grammar();
    let completion = grammar.complete("show co");
    assert_eq!(
        (completion.start, completion.words),
        (5, vec!["context".to_owned()])
    );
    assert_eq!(grammar.complete("ip a").words, ["access-group", "address"]);
    assert_eq!(grammar.complete("ip address 10").words, Vec::<String>::new());
    assert_eq!(grammar.complete("wrong thing").words, Vec::<String>::new());
}

#[test]
fn plain_secrets_are_known() {
    let grammar = grammar();
    assert!(grammar.parse("key abc").unwrap().args.has_plain_secret());
    assert!(!grammar.parse("show clock").unwrap().args.has_plain_secret());
}

proptest! {
    #[test]
    fn no_line_panics(line in "\\PC{0,80}") {
        let grammar = grammar();
        let _ = grammar.parse(&line);
        let _ = grammar.help(&line);
        let _ = grammar.complete(&line);
    }

    #[test]
    fn lines_made_of_our_words_are_judged_the_same_as_by_help(words in proptest::collection::vec(
        prop_oneof!["ip", "address", "show", "context", "all", "10.0.0.1/8", "secondary", "list", "a", "log", "group", "31"], 0..6)) {
        let grammar = grammar();
        let line = words.join(" ");
        let ends = grammar.help(&format!("{line} ")).is_ok_and(|items| items.iter().any(|item| item.word == "<cr>"));
        prop_assert_eq!(grammar.parse(&line).is_ok(), ends);
    }

    #[test]
    fn what_help_offers_is_accepted(words in proptest::collection::vec(0usize..8, 0..6)) {
        let grammar = grammar();
        let mut line = String::new();
        for choice in words {
            let items = grammar.help(&line).unwrap();
            let Some(item) = items.get(choice % items.len().max(1)) else { break };
            if item.word == "<cr>" {
                prop_assert!(grammar.parse(&line).is_ok());
                break;
            }
            let word = match item.word.as_str() {
                "<address>" => "10.0.0.1",
                "<mask>" => "255.0.0.0",
                "<prefix>" if line.starts_with("ipv6") => "fd00::/8",
                "<prefix>" => "10.0.0.0/8",
                other if other.starts_with('<') => "word",
                other => other,
            };
            line.push_str(word);
            line.push(' ');
            prop_assert!(grammar.help(&line).is_ok(), "{line}");
        }
    }
}
