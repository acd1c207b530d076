//! Where a worker that was built for tests of crashes dies. A variable and not a setting: no worker in use has it.

use crate::failpoint::Point;

/// `point` or `point:hit`.
const VARIABLE: &str = "SERIATIM_FAILPOINT";

/// The point, and at which hit, from 1; nothing, if the variable is not set.
///
/// # Errors
/// If the variable names no point, or no hit.
pub fn failpoint() -> Result<Option<(Point, u32)>, String> {
    let Some(text) = std::env::var_os(VARIABLE) else { return Ok(None) };
    let text = text.to_string_lossy();
    let (name, hit) = text.split_once(':').unwrap_or((&text, "1"));
    let point = Point::named(name).ok_or_else(|| format!("{VARIABLE}: there is no point `{name}`"))?;
    let hit = hit.parse().ok().filter(|hit| *hit > 0).ok_or_else(|| format!("{VARIABLE}: `{hit}` is no hit"))?;
    Ok(Some((point, hit)))
}
