//! The document of an answer to `/v1/embeddings`, written vector by vector.
//!
//! Shape: <https://platform.openai.com/docs/api-reference/embeddings/create>.

use std::fmt::Write as _;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use crate::backend::Usage;
use crate::json;

/// How vectors are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Encoding {
    /// As numbers.
    Float,
    /// As base64 of their numbers, four little-endian bytes each.
    Base64,
}

/// A document that is being written.
#[derive(Clone, Debug)]
pub struct Document {
    model: String,
    encoding: Encoding,
    usage: Usage,
    written: usize,
}

impl Document {
    /// The answer in the name of `model`.
    #[must_use]
    pub fn new(model: &str, encoding: Encoding, usage: Usage) -> Self {
        Self {
            model: json::quoted(model),
            encoding,
            usage,
            written: 0,
        }
    }

    /// Writes the next vector, whose numbers are all finite.
    pub fn vector(&mut self, out: &mut String, vector: &[f32]) {
        out.push_str(match self.written {
            0 => r#"{"object":"list","data":["#,
            _ => ",",
        });
        // Writing into a string does not fail.
        let _ = write!(out, r#"{{"object":"embedding","index":{},"embedding":"#, self.written);
        match self.encoding {
            // This form has an exponent where a number is small, as JSON may.
            Encoding::Float => {
                for (index, number) in vector.iter().enumerate() {
                    let _ = write!(out, "{}{number:?}", if index == 0 { '[' } else { ',' });
                }
                out.push(']');
            }
            Encoding::Base64 => {
                let bytes: Vec<u8> = vector.iter().flat_map(|number| number.to_le_bytes()).collect();
                out.push('"');
                STANDARD.encode_string(bytes, out);
                out.push('"');
            }
        }
        out.push('}');
        self.written += 1;
    }

    /// Writes the rest, which there is after at least one vector, and gives what the document says it counted.
    pub fn end(self, out: &mut String) -> Usage {
        let (model, tokens) = (self.model, self.usage.input_tokens);
        let _ = write!(
            out,
            r#"],"model":{model},"usage":{{"prompt_tokens":{tokens},"total_tokens":{tokens}}}}}"#
        );
        self.usage
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::backend::Counted;

    fn written(encoding: Encoding) -> Value {
        let usage = Usage {
            input_tokens: 7,
            output_tokens: 0,
            counted: Counted::Engine,
        };
        let mut document = Document::new("a \"model\"", encoding, usage);
        let mut out = String::new();
        document.vector(&mut out, &[1.0, -0.25]);
        document.vector(&mut out, &[1e-9, f32::MIN_POSITIVE]);
        assert_eq!(document.end(&mut out), usage);
        serde_json::from_str(&out).unwrap()
    }

    #[test]
    fn a_document_is_openais() {
        let document = written(Encoding::Float);
        assert_eq!(
            document,
            json!({
                "object": "list",
                "data": [
                    {"object": "embedding", "index": 0, "embedding": [1.0, -0.25]},
                    {"object": "embedding", "index": 1, "embedding": document["data"][1]["embedding"]},
                ],
                "model": "a \"model\"",
                "usage": {"prompt_tokens": 7, "total_tokens": 7},
            })
        );
        let small: Vec<f32> = serde_json::from_value(document["data"][1]["embedding"].clone()).unwrap();
        assert_eq!(small, [1e-9, f32::MIN_POSITIVE], "no digit that counts is lost");
    }

    #[test]
    fn base64_holds_little_endian_numbers() {
        // 1.0 is 00 00 80 3f, -0.25 is 00 00 80 be.
        assert_eq!(written(Encoding::Base64)["data"][0]["embedding"], "AACAPwAAgL4=");
    }
}
