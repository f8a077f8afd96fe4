//! What is committed for people: the reference of commands, and the examples.

use std::path::Path;

/// `UPDATE_REFERENCE=1 cargo test -p config` writes the reference anew.
#[test]
fn the_reference_is_what_the_table_generates() {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/reference/commands.md");
    let generated = config::reference::commands();
    if std::env::var_os("UPDATE_REFERENCE").is_some() {
        std::fs::write(&file, &generated).unwrap();
    }
    assert!(
        std::fs::read_to_string(&file).is_ok_and(|committed| committed == generated),
        "docs/reference/commands.md is old: run UPDATE_REFERENCE=1 cargo test -p config"
    );
}

#[test]
fn the_examples_load_without_a_complaint() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples");
    let mut seen = 0;
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|extension| extension == "cfg") {
            let checked = config::check(&std::fs::read_to_string(&path).unwrap());
            assert_eq!(
                (checked.errors, checked.warnings, checked.findings),
                (vec![], vec![], vec![]),
                "{}",
                path.display()
            );
            assert_eq!(
                config::Config::parse(&checked.config.to_text()),
                Ok(checked.config)
            );
            seen += 1;
        }
    }
    assert!(seen > 0);
}

/// Sealing with a real master key: nothing plain is left, and what is sealed opens to what was typed.
#[test]
fn secrets_are_sealed_by_the_master_key() {
    let key = crypto::MasterKey::generate(&mut crypto::SystemRandom);
    let loaded = config::load(
        "context c\ncrypto template t\nauthentication remote pre-shared-key key \"correct horse\"\n",
        &key,
    );
    assert_eq!(loaded.errors, []);
    let text = loaded.config.to_text();
    assert!(!text.contains("horse"), "{text}");
    let sealed = text.lines().find_map(|line| {
        line.trim()
            .strip_prefix("authentication remote pre-shared-key encrypted key ")
    });
    assert_eq!(key.open(sealed.unwrap()).unwrap().as_bytes(), b"correct horse");
}
