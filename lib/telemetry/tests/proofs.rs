//! Every counter names the test that moves it, and that test exists.

use std::collections::BTreeSet;
use std::path::Path;

use telemetry::Counter;

#[test]
fn the_tests_that_move_counters_exist() -> std::io::Result<()> {
    let tests = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests");
    let named: BTreeSet<_> = Counter::all().map(|counter| counter.descriptor().test).collect();
    for name in named {
        // `folder::file::test`, or `folder::test` for a test in `main.rs`.
        let parts: Vec<_> = name.split("::").collect();
        let (file, test) = match parts[..] {
            [folder, test] => (tests.join(folder).join("main.rs"), test),
            [folder, file, test] => (tests.join(folder).join(file).with_extension("rs"), test),
            _ => panic!("'{name}' is not the name of a test"),
        };
        let text = std::fs::read_to_string(&file)?;
        assert!(
            text.contains(&format!("fn {test}(")),
            "{} has no test {test}",
            file.display()
        );
    }
    Ok(())
}
