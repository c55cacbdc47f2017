//! The clauses of a model that embeds.

use serde_json::Value;

use super::{Bench, Kept, Told};
use crate::backend::{ContentType, Endpoint, Job};
use crate::json;

/// How far two numbers of one vector may be apart: engines compute inputs together in another order than alone.
const NEAR: f64 = 1e-4;
/// Inputs of a job that is to be cancelled: far more than are embedded before it is.
const MANY: usize = 512;

impl Bench<'_> {
    fn embed(&self, input: &str, rest: &str) -> Job {
        let model = json::quoted(&self.model.name);
        Job {
            body: format!(r#"{{"model":{model},"input":{input}{rest}}}"#).into(),
            ..self.plain(Endpoint::Embeddings, "")
        }
    }

    pub(super) fn many_inputs(&self) -> Job {
        let inputs = vec![r#""Once upon a time there was a fox.""#; MANY];
        self.embed(&format!("[{}]", inputs.join(",")), "")
    }

    pub(super) async fn embeds(&self) -> Kept {
        for (input, count) in [
            (r#""a fox""#, 1),
            (r#"["a fox"]"#, 1),
            (r#"["a fox","naïve 日本語","a"]"#, 3),
        ] {
            let told = self.tell(self.embed(input, "")).await?;
            let document = document(&told)?;
            if told.content_type != ContentType::Json || document["model"] != self.model.id.as_str() {
                return Err(format!("{:?} of model {}", told.content_type, document["model"]));
            }
            if told.usage.input_tokens == 0 || told.usage.output_tokens != 0 {
                return Err(format!("{:?}", told.usage));
            }
            let claimed = &document["usage"];
            if self.subject.counts && claimed["prompt_tokens"] != told.usage.input_tokens
                || claimed["prompt_tokens"] != claimed["total_tokens"]
            {
                return Err(format!("the document says {claimed}, the backend {:?}", told.usage));
            }
            let vectors = vectors(&document)?;
            if vectors.len() != count || vectors.iter().any(|vector| vector.len() != vectors[0].len()) {
                return Err(format!("{} vectors for {count} inputs", vectors.len()));
            }
        }
        Ok(())
    }

    pub(super) async fn embeds_alike(&self) -> Kept {
        let alone = vectors(&document(&self.tell(self.embed(r#""a fox""#, "")).await?)?)?;
        let among = self.tell(self.embed(r#"["the whole of a longer text","a fox","a"]"#, ""));
        let among = vectors(&document(&among.await?)?)?;
        if !near(&alone[0], &among[1]) || near(&among[0], &among[1]) {
            return Err("they are not".into());
        }
        Ok(())
    }

    pub(super) async fn embeds_in_base64(&self) -> Kept {
        let numbers = vectors(&document(&self.tell(self.embed(r#""a fox""#, "")).await?)?)?;
        let base64 = self.tell(self.embed(r#""a fox""#, r#","encoding_format":"base64""#));
        match base64.await {
            Ok(told) if near(&decoded(&document(&told)?["data"][0]["embedding"])?, &numbers[0]) => Ok(()),
            Ok(_) => Err("they are others".into()),
            Err(error) if error.contains("status 4") => Ok(()),
            Err(error) => Err(error),
        }
    }

    pub(super) async fn embeds_token_ids(&self) -> Kept {
        for (input, count, tokens) in [("[5,6,7]", 1, 3), ("[[5,6,7],[8]]", 2, 4)] {
            match self.tell(self.embed(input, "")).await {
                Ok(told) => {
                    let found = vectors(&document(&told)?)?.len();
                    if found != count || told.usage.input_tokens < tokens {
                        return Err(format!("{found} vectors of {:?} for {input}", told.usage));
                    }
                }
                Err(error) if error.contains("status 4") => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    pub(super) async fn embeds_cancelled(&self) -> Kept {
        let answer = self.subject.backend.run(self.many_inputs()).await;
        drop(answer.map_err(|error| error.to_string())?);
        self.subject.engine.idle().await;
        Ok(())
    }
}

fn document(told: &Told) -> Result<Value, String> {
    serde_json::from_slice(&told.bytes).map_err(|error| error.to_string())
}

/// The vectors of a document, whose entries must be numbered from 0.
fn vectors(document: &Value) -> Result<Vec<Vec<f64>>, String> {
    let data = document["data"].as_array().ok_or("there is no `data`")?;
    let vector = |(index, entry): (usize, &Value)| {
        if entry["index"] != index || entry["object"] != "embedding" {
            return Err(format!("entry {index} is {} {}", entry["object"], entry["index"]));
        }
        serde_json::from_value(entry["embedding"].clone()).map_err(|error| error.to_string())
    };
    data.iter().enumerate().map(vector).collect()
}

fn decoded(text: &Value) -> Result<Vec<f64>, String> {
    use base64::Engine as _;
    let text = text.as_str().ok_or("it is no text")?;
    let bytes = base64::engine::general_purpose::STANDARD.decode(text);
    let bytes = bytes.map_err(|error| error.to_string())?;
    let number = |bytes: &[u8]| f64::from(f32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]));
    Ok(bytes.chunks_exact(4).map(number).collect())
}

fn near(a: &[f64], b: &[f64]) -> bool {
    a.len() == b.len() && a.iter().zip(b).all(|(a, b)| (a - b).abs() < NEAR)
}
