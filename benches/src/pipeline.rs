//! The data plane's pipeline in memory, which is measured by a program of its own: `starward-pipeline`.

use std::path::Path;

use serde_json::{Value, json};

use crate::process::output;

const PROGRAM: &str = "starward-pipeline";

/// Runs the program beside this one and gives what it found: objects of the summary's list, or one that says why there are none.
pub fn measure(target: &Path) -> Vec<Value> {
    eprintln!("the pipeline in memory");
    let own = std::env::current_exe().map_err(|error| format!("own program: {error}"));
    let found = own.and_then(|own| findings(&own.with_file_name(PROGRAM), target));
    found.unwrap_or_else(|reason| {
        eprintln!("  {reason}");
        vec![json!({ "name": "pipeline", "ours": null, "not_measured": reason })]
    })
}

/// What the program finds. It leaves a JSON object with the list `findings` in `bench/pipeline.json` of the target directory.
fn findings(program: &Path, target: &Path) -> Result<Vec<Value>, String> {
    if !program.is_file() {
        return Err(format!(
            "{} is not there: 'make bench' builds it",
            program.display()
        ));
    }
    eprint!("{}", output(&[&program.display().to_string()])?);
    let file = target.join("bench/pipeline.json");
    let text = std::fs::read_to_string(&file).map_err(|error| format!("{}: {error}", file.display()))?;
    let all: Value = serde_json::from_str(&text).map_err(|error| format!("{}: {error}", file.display()))?;
    let findings = all["findings"].as_array().filter(|list| !list.is_empty());
    findings
        .cloned()
        .ok_or_else(|| format!("{}: no findings", file.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_that_is_not_there_is_a_reason_and_not_nothing() {
        // Beside the tests there is none.
        let found = measure(Path::new("/nonexistent"));
        assert_eq!((found.len(), &found[0]["ours"]), (1, &Value::Null));
        let reason = found[0]["not_measured"].as_str().unwrap();
        assert!(reason.contains("starward-pipeline is not there"), "{reason}");
    }
}
