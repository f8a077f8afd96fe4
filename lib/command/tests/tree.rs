//! A small configuration: nodes with services.

use std::collections::BTreeMap;

use command::{Command, Error, Outcome, Path, Tree, lens};

#[derive(Debug, Default, PartialEq)]
struct Root {
    name: String,
    services: BTreeMap<String, Service>,
}

#[derive(Debug, Default, PartialEq)]
struct Service {
    mtu: u16,
    detect: bool,
    key: Option<String>,
    mode: Option<String>,
    rules: BTreeMap<u32, Rule>,
}

#[derive(Debug, Default, PartialEq)]
struct Rule {
    note: Option<String>,
}

fn tree() -> Tree<Root> {
    let mut tree = Tree::<Root>::new("Configuration", "config");
    tree.root()
        .add(Command::value(
            "name <value:text(20)'Name'>",
            "Names it",
            lens!(name),
            String::new(),
        ))
        .add(
            Command::<Root>::new("service <service:name(9)'Service name'>", "Makes a service")
                .enter(
                    "service",
                    lens!(services),
                    |root, args| {
                        let name: String = args.need("service")?;
                        if name == "bad" {
                            return Err(args.refuse("service", "no bad ones"));
                        }
                        root.services.entry(name.clone()).or_default();
                        Ok(name)
                    },
                    |name, _| format!("service {name}"),
                )
                .no("service <service:name(9)>")
                .unset(
                    |root, args| match root.services.remove(args.text("service").unwrap_or_default()) {
                        Some(_) => Ok(()),
                        None => Err(args.refuse("service", "there is no such service")),
                    },
                ),
        );
    tree.mode::<Service>("service", "Service", |key| format!("config-{key}"))
        .add(Command::value(
            "mtu <value:1-2000'Octets'>",
            "Limits",
            lens!(mtu),
            0,
        ))
        .add(Command::flag("detect", "Detects", lens!(detect), false))
        .add(
            Command::<Service>::new(
                "key {<key:secret(9)> | encrypted'Sealed' <key:sealed>}",
                "Sets the key",
            )
            .no("key")
            .set(|service, args| {
                service.key = args.text("key").map(str::to_owned);
                Ok(())
            })
            .unset(|service, _| {
                service.key = None;
                Ok(())
            })
            .show(|service, out| {
                if let Some(key) = &service.key {
                    out.quoted("key encrypted", key);
                }
            }),
        )
        .add(Command::optional(
            "mode <value:text(9)'Mode'>",
            "Mode",
            lens!(mode),
        ))
        .add(
            Command::<Service>::new("rule <number:1-10>", "Makes a rule").enter(
                "rule",
                lens!(rules),
                |service, args| {
                    let number = args.need("number")?;
                    service.rules.entry(number).or_default();
                    Ok(number)
                },
                |number, _| format!("rule {number}"),
            ),
        )
        .unsupported(&["peer-list"]);
    tree.mode::<Rule>("rule", "Rule", |key| format!("config-rule-{key}"))
        .add(Command::optional(
            "note <value:text(30)'Note'>",
            "Notes",
            lens!(note),
        ));
    tree
}

fn seal(plain: &str) -> Result<String, String> {
    Ok(format!("+{plain}"))
}

fn load(tree: &Tree<Root>, root: &mut Root, path: &mut Path, text: &str) -> Result<Outcome, Error> {
    text.lines()
        .map(|line| tree.apply(root, path, line, &seal))
        .last()
        .unwrap_or(Ok(Outcome::Nothing))
}

#[test]
fn declarations_are_sound() {
    assert_eq!(tree().defects(), Vec::<String>::new());
}

#[test]
fn sets_prints_and_reads_back() {
    let tree = tree();
    let (mut root, mut path) = (Root::default(), Path::default());
    let text = "name \"two words\"\nservice a\nmtu 1400\ndetect\nkey abc\nrule 3\nnote x\nexit\nrule 10\nservice b\nmtu 5";
    load(&tree, &mut root, &mut path, text).unwrap();
    let printed = tree.print(&root);
    assert_eq!(
        printed,
        "name \"two words\"\nservice a\n  mtu 1400\n  detect\n  key encrypted +abc\n  rule 3\n    note x\n  #exit\n  rule 10\n  #exit\n\
         #exit\nservice b\n  mtu 5\n#exit\n"
    );
    let (mut again, mut path) = (Root::default(), Path::default());
    load(&tree, &mut again, &mut path, &printed).unwrap();
    assert_eq!(again, root);
}

#[test]
fn no_and_default_forms() {
    let tree = tree();
    let (mut root, mut path) = (Root::default(), Path::default());
    load(
        &tree,
        &mut root,
        &mut path,
        "service a\nmtu 9\ndetect\nkey x\nmode m",
    )
    .unwrap();
    load(
        &tree,
        &mut root,
        &mut path,
        "default mtu\nno detect\nno key\ndefault mode",
    )
    .unwrap();
    assert_eq!(root.services["a"], Service::default());
    load(&tree, &mut root, &mut path, "no service a").unwrap();
    assert!(root.services.is_empty() && path.is_root());
    let error = load(&tree, &mut root, &mut path, "no service a").unwrap_err();
    assert_eq!(
        (error.column(), error.to_string()),
        (Some(11), "there is no such service".into())
    );
}

#[test]
fn a_line_of_an_outer_mode_leaves_the_inner_one() {
    let tree = tree();
    let (mut root, mut path) = (Root::default(), Path::default());
    assert_eq!(
        load(&tree, &mut root, &mut path, "service a\nrule 1").unwrap(),
        Outcome::Entered
    );
    assert_eq!(tree.prompt(&path), "config-rule-1");
    assert_eq!(path.lines(), ["service a", "rule 1"]);
    assert_eq!(
        load(&tree, &mut root, &mut path, "mtu 7").unwrap(),
        Outcome::Applied
    );
    assert_eq!(tree.prompt(&path), "config-a");
    assert_eq!(load(&tree, &mut root, &mut path, "exit").unwrap(), Outcome::Left);
    assert_eq!(
        load(&tree, &mut root, &mut path, "# remark").unwrap(),
        Outcome::Nothing
    );
    assert_eq!(load(&tree, &mut root, &mut path, "exit").unwrap(), Outcome::Ended);
    load(&tree, &mut root, &mut path, "service a\nrule 1").unwrap();
    assert_eq!(load(&tree, &mut root, &mut path, "end").unwrap(), Outcome::Ended);
    assert!(path.is_root());
}

#[test]
fn the_mode_that_understood_most_explains_the_error() {
    let tree = tree();
    let (mut root, mut path) = (Root::default(), Path::default());
    load(&tree, &mut root, &mut path, "service a\nrule 1").unwrap();
    let before = path.clone();
    let error = load(&tree, &mut root, &mut path, "mtu 5000").unwrap_err();
    assert_eq!(error.column(), Some(4));
    assert_eq!(path, before, "a refused line moves nobody");
    let error = load(&tree, &mut root, &mut path, "peer-list x").unwrap_err();
    assert_eq!(error.to_string(), "not supported: peer-list");
    let error = load(&tree, &mut root, &mut path, "no peer-list").unwrap_err();
    assert_eq!(error.to_string(), "not supported: no peer-list");
    let error = load(&tree, &mut root, &mut path, "service bad").unwrap_err();
    assert_eq!(
        (error.column(), error.to_string()),
        (Some(8), "no bad ones".into())
    );
}

#[test]
fn a_path_is_found_again_by_its_lines() {
    let tree = tree();
    let (mut root, mut path) = (Root::default(), Path::default());
    load(&tree, &mut root, &mut path, "service a\nrule 1").unwrap();
    assert_eq!(tree.path(&root, &path.lines()).unwrap(), path);
    root.services.clear();
    assert_eq!(
        tree.path(&root, &path.lines()).unwrap_err().to_string(),
        "'service a' does not exist"
    );
    let error = tree.apply(&mut root, &mut path, "note x", &seal).unwrap_err();
    assert_eq!(error.to_string(), "'service a' does not exist any more");
}

#[test]
fn help_and_secrets_follow_the_mode() {
    let tree = tree();
    let (mut root, mut path) = (Root::default(), Path::default());
    load(&tree, &mut root, &mut path, "service a").unwrap();
    let words: Vec<String> = tree
        .help(&path, "")
        .unwrap()
        .into_iter()
        .map(|item| item.word)
        .collect();
    assert_eq!(
        words,
        [
            "default", "detect", "end", "exit", "key", "mode", "mtu", "no", "rule"
        ]
    );
    assert_eq!(tree.complete(&root, &path, "de").words, ["default", "detect"]);
    assert!(tree.has_plain_secret(&path, "key abc"));
    assert!(!tree.has_plain_secret(&path, "key encrypted abc"));
    let manual = command::reference::tree(&tree);
    let mtu = "### `mtu <value>`\n\nLimits. Also `no mtu`, `default mtu`.\n\n- `<value>`: Octets: an integer from 1 to 2000\n";
    assert!(manual.contains(mtu), "{manual}");
    assert!(!manual.contains("peer-list"), "{manual}");
}
