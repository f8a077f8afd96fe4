//! The committed reference is what the tables generate. `UPDATE_REFERENCE=1 cargo test -p mibs` writes it anew.

use std::path::Path;

#[test]
fn mib() -> std::io::Result<()> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/reference/mib.md");
    let generated = mibs::reference();
    if std::env::var_os("UPDATE_REFERENCE").is_some() {
        std::fs::write(&path, &generated)?;
    }
    let committed = std::fs::read_to_string(&path)?;
    assert!(
        committed == generated,
        "docs/reference/mib.md is old: run UPDATE_REFERENCE=1 cargo test -p mibs"
    );
    Ok(())
}
