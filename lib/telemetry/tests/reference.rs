//! The committed reference is what the tables generate. `UPDATE_REFERENCE=1 cargo test -p telemetry` writes it anew.

use std::path::Path;

#[test]
fn counters() -> std::io::Result<()> {
    check("counters.md", &telemetry::reference::counters())
}

#[test]
fn events() -> std::io::Result<()> {
    check("events.md", &telemetry::reference::events())
}

fn check(file: &str, generated: &str) -> std::io::Result<()> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/reference");
    if std::env::var_os("UPDATE_REFERENCE").is_some() {
        std::fs::create_dir_all(&folder)?;
        std::fs::write(folder.join(file), generated)?;
    }
    let committed = std::fs::read_to_string(folder.join(file))?;
    assert!(
        committed == generated,
        "docs/reference/{file} is old: run UPDATE_REFERENCE=1 cargo test -p telemetry"
    );
    Ok(())
}
