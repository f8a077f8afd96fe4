//! The highest rate that gets through.

use std::time::Duration;

use serde_json::{Value, json};

/// The rates tried are LOWEST * STEP^n for n below STEPS: 1000 to 9 million packets a second, 5 % apart.
const LOWEST: f64 = 1000.0;
const STEP: f64 = 1.05;
const STEPS: u32 = 187;
/// Steps beside a guess that are tried first.
const NEARBY: u32 = 4;

/// Bisects for the highest rate at which no larger part than `loss` is lost in any direction, while senders keep the rate. Gives what was measured there.
///
/// Other work on the machine may spoil an attempt: a rate fails when it fails twice. A guess of the result (`around`) saves attempts.
pub(super) fn highest(
    loss: f64,
    around: Option<u64>,
    time: Duration,
    mut attempt: impl FnMut(u64) -> Result<Value, String>,
) -> Result<Value, String> {
    let mut best = None;
    let mut attempts = 0;
    let mut passes = |step: u32| -> Result<bool, String> {
        let rate = (LOWEST * STEP.powf(f64::from(step))) as u64;
        for _ in 0..2 {
            attempts += 1;
            let result = attempt(rate)?;
            if is_enough(&result, loss, rate as f64 * time.as_secs_f64()) {
                best = Some(result);
                return Ok(true);
            }
        }
        Ok(false)
    };
    // Lower than `low` is known to pass (or not tried), `high` and higher is known to fail.
    let (mut low, mut high) = (0, STEPS);
    if let Some(around) = around {
        let guess = ((around as f64 / LOWEST).ln() / STEP.ln()).max(0.0) as u32;
        for step in [guess.saturating_sub(NEARBY), guess.saturating_add(NEARBY)] {
            if (low..high).contains(&step) {
                match passes(step)? {
                    true => low = step + 1,
                    false => high = step,
                }
            }
        }
    }
    while low < high {
        let middle = low.midpoint(high);
        match passes(middle)? {
            true => low = middle + 1,
            false => high = middle,
        }
    }
    let mut best = best.ok_or_else(|| format!("more is lost at {LOWEST} packets a second already"))?;
    best["attempts"] = json!(attempts);
    Ok(best)
}

/// Whether the senders sent what they should, and enough of it came.
fn is_enough(result: &Value, loss: f64, wanted: f64) -> bool {
    let directions = || {
        ["up", "down"]
            .iter()
            .filter_map(|direction| result.get(*direction))
    };
    let fits = |one: &Value| {
        let sent = one["sent"].as_f64().unwrap_or_default();
        sent >= wanted * (1.0 - loss) && one["loss"].as_f64().is_some_and(|lost| lost <= loss)
    };
    directions().count() > 0 && directions().all(fits)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A gateway that passes everything up to `limit` and loses the rest.
    fn gateway(limit: u64, spoiled: &mut u32) -> impl FnMut(u64) -> Result<Value, String> {
        move |rate| {
            if *spoiled > 0 {
                *spoiled -= 1;
                return Ok(json!({ "up": { "sent": rate, "loss": 1.0 } }));
            }
            let loss = rate.saturating_sub(limit) as f64 / rate as f64;
            Ok(json!({ "up": { "sent": rate, "loss": loss }, "rate": rate }))
        }
    }

    #[test]
    fn the_highest_rate_is_found_with_and_without_a_guess() {
        let time = Duration::from_secs(1);
        for limit in [1_500, 80_000, 400_000, 5_000_000_u64] {
            for around in [
                None,
                Some(1),
                Some(limit / 2),
                Some(limit),
                Some(limit * 3),
                Some(u64::MAX),
            ] {
                let found = highest(0.01, around, time, gateway(limit, &mut 0)).unwrap();
                let rate = found["rate"].as_f64().unwrap();
                let reached = rate / limit as f64;
                assert!((0.95..=1.011).contains(&reached), "{limit} {around:?}: {rate}");
            }
        }
        let near = highest(0.01, Some(80_000), time, gateway(80_000, &mut 0)).unwrap();
        let blind = highest(0.01, None, time, gateway(80_000, &mut 0)).unwrap();
        assert!(near["attempts"].as_u64() < blind["attempts"].as_u64());
    }

    #[test]
    fn one_spoiled_attempt_is_forgiven_and_nothing_is_made_up() {
        let time = Duration::from_secs(1);
        let found = highest(0.0, None, time, gateway(80_000, &mut 1)).unwrap();
        assert!(found["rate"].as_u64().unwrap() > 75_000);
        let error = highest(0.01, None, time, gateway(10, &mut 0)).unwrap_err();
        assert!(error.contains("already"), "{error}");
        assert!(highest(0.01, None, time, |_| Err("no tunnel".to_owned())).is_err());
        // A sender that does not keep the rate proves nothing.
        let lazy = |_| Ok(json!({ "up": { "sent": 10, "loss": 0.0 } }));
        assert!(highest(0.01, None, time, lazy).is_err());
        assert!(!is_enough(&json!({}), 0.01, 0.0));
    }
}
