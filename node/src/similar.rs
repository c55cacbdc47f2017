//! Names that are spelled like one that nobody knows, for whoever mistyped it.

/// Names that are offered in the place of an unknown one.
const NEAR_MAX: usize = 3;
/// Longest name that is compared: comparing takes time by the product of both lengths, and no name of a model is longer.
const NAME_BYTES: usize = infernet_protocol::ids::MODEL_ID_BYTES;
/// How alike such a name must be, from 0 to 1.
const NEAR_ENOUGH: f64 = 0.55;
/// How alike a name counts that holds the other, or is held by it.
const HOLDS: f64 = 0.9;

/// Those of `known` that are like `name`, the most alike first. What stands before a name's last slash counts less.
pub(crate) fn similar<'a>(name: &str, known: impl Iterator<Item = &'a str>) -> Vec<&'a str> {
    if name.len() > NAME_BYTES {
        return Vec::new();
    }
    let name = name.to_lowercase();
    let last = |name: &str| name.rsplit('/').next().unwrap_or(name).to_owned();
    let mut scored: Vec<(f64, &str)> = known
        .map(|known| {
            let holds = known.contains(&name) || name.contains(known);
            let alike = strsim::normalized_damerau_levenshtein(&name, known)
                .max(strsim::normalized_damerau_levenshtein(&last(&name), &last(known)));
            (if holds { alike.max(HOLDS) } else { alike }, known)
        })
        .filter(|(alike, _)| *alike >= NEAR_ENOUGH)
        .collect();
    scored.sort_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(b.1)));
    scored.into_iter().take(NEAR_MAX).map(|(_, name)| name).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mistyped_names_find_what_was_meant() {
        let known = ["qwen3:8b", "meta/llama-3.1-8b", "infernet-demo"];
        let near = |name: &str| similar(name, known.into_iter());
        assert_eq!(near("infernet-dmeo"), ["infernet-demo"]);
        assert_eq!(near("Llama-3.1-8b"), ["meta/llama-3.1-8b"]);
        assert_eq!(near("qwen3"), ["qwen3:8b"]);
        assert!(near("zzzz").is_empty());
        assert!(near(&"qwen3:8b".repeat(1 << 20)).is_empty(), "and at once");
    }
}
