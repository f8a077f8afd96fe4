//! The data plane's pipeline in memory, which is measured by a program of its own: `starward-pipeline`.

use std::path::Path;

use serde_json::Value;

use crate::process::output;

const PROGRAM: &str = "starward-pipeline";

/// Runs the program beside this one and gives what it found: objects of the summary's list. Nothing when it is not there.
///
/// It leaves a JSON object with the list `findings` in `bench/pipeline.json` of the target directory.
pub fn measure(target: &Path) -> Result<Vec<Value>, String> {
    let own = std::env::current_exe().map_err(|error| format!("own program: {error}"))?;
    let program = own.with_file_name(PROGRAM);
    if !program.is_file() {
        eprintln!("skipped: {} is not there", program.display());
        return Ok(Vec::new());
    }
    eprintln!("the pipeline in memory");
    eprint!("{}", output(&[&program.display().to_string()])?);
    let file = target.join("bench/pipeline.json");
    let text = std::fs::read_to_string(&file).map_err(|error| format!("{}: {error}", file.display()))?;
    let all: Value = serde_json::from_str(&text).map_err(|error| format!("{}: {error}", file.display()))?;
    let findings = all["findings"].as_array();
    findings
        .cloned()
        .ok_or_else(|| format!("{}: no findings", file.display()))
}
