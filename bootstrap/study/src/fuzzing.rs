//! What must hold of any bytes that are taken for a record or a crawl: for `protocol/fuzz` and for the test below. A function
//! panics where its claims do not hold.

use infernet_protocol::codec;

use crate::crawl;
use crate::record::Record;

/// A record of a recording; whether it was read.
pub fn recording(input: &[u8]) -> bool {
    let Ok(record) = codec::from_slice::<Record>(input) else {
        return false;
    };
    assert_eq!(codec::to_vec(&record), input, "there is one encoding");
    true
}

/// The rows of a crawl: `c` before CSV, anything else before JSONL; whether they were read.
pub fn crawl(input: &[u8]) -> bool {
    let Some((format, text)) = input.split_first() else {
        return false;
    };
    let rows = match format {
        b'c' => crawl::read_csv(text),
        _ => crawl::read_jsonl(text),
    };
    let Ok(rows) = rows else { return false };
    // What was read is written and read as the same.
    let mut written = Vec::new();
    let again = crawl::write_jsonl(&rows, &mut written).map(|()| crawl::read_jsonl(written.as_slice()));
    assert!(matches!(again, Ok(Ok(again)) if again == rows), "rows survive");
    true
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    #[test]
    fn the_corpus_holds_and_so_does_what_is_cut_off_or_changed() {
        for (target, holds, read_at_least) in [
            ("recording", recording as fn(&[u8]) -> bool, 3),
            ("crawl", crawl as fn(&[u8]) -> bool, 2),
        ] {
            let folder = Path::new(env!("CARGO_MANIFEST_DIR"))
                .join("../../protocol/fuzz/corpus")
                .join(target);
            let entries = std::fs::read_dir(folder).unwrap();
            let inputs: Vec<_> = entries
                .map(|entry| std::fs::read(entry.unwrap().path()).unwrap())
                .collect();
            let read = inputs.iter().filter(|input| holds(input)).count();
            assert!(read >= read_at_least, "{target}: {read} of {} were read", inputs.len());
            for input in &inputs {
                for at in 0..input.len() {
                    holds(&input[..at]);
                    for change in [0x01, 0x20, 0x80] {
                        let mut input = input.clone();
                        input[at] ^= change;
                        holds(&input);
                    }
                }
            }
        }
    }
}
