//! Models of the network for people: read from what `GET /v1/models` tells, put in order, and laid out as rows.

use std::cmp::Reverse;

use infernet_protocol::{MicroUsd, Price};
use serde_json::Value;

use crate::cli::ModelOrder;
use crate::out::{Column, plain};

/// One model.
#[derive(Clone, Debug, PartialEq)]
pub(in crate::commands) struct Model {
    pub(in crate::commands) id: String,
    pub(in crate::commands) price: Price,
    providers: u64,
    context: Option<u64>,
    ttft_ms: Option<u64>,
    /// Thousandths of a token per second.
    speed: Option<u64>,
    features: Vec<String>,
    quantisations: Vec<String>,
    /// As the gateway tells it.
    pub(in crate::commands) json: Value,
}

impl Model {
    /// Reads one object of the list; `None` where it is none.
    pub(in crate::commands) fn read(json: &Value) -> Option<Self> {
        let own = &json["infernet"];
        let price = |part: &str| MicroUsd(own["price"][part].as_u64().unwrap_or(0));
        let words = |name: &str| {
            let words = own[name].as_array().into_iter().flatten();
            words.filter_map(|word| word.as_str().map(plain)).collect()
        };
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "a speed for people, which is no negative number"
        )]
        let speed = own["tokens_per_second"].as_f64().map(|speed| (speed * 1000.0) as u64);
        Some(Self {
            id: plain(json["id"].as_str()?),
            price: Price {
                input: price("input_microusd_per_mtok"),
                output: price("output_microusd_per_mtok"),
                request: price("request_microusd"),
            },
            providers: own["providers"].as_u64().unwrap_or(0),
            context: json["context_length"].as_u64(),
            ttft_ms: own["ttft_ms"].as_u64(),
            speed,
            features: words("features"),
            quantisations: words("quantizations"),
            json: json.clone(),
        })
    }

    /// The first of some models that chats, or else the first.
    pub(in crate::commands) fn first_to_chat(models: &[Self]) -> &Self {
        let chats = |model: &&Self| model.features.iter().any(|feature| feature == "chat");
        models.iter().find(chats).unwrap_or(&models[0])
    }

    /// Whether a word is in its name, its features or its quantisations.
    pub(in crate::commands) fn matches(&self, word: &str) -> bool {
        let word = word.to_lowercase();
        let holds = |text: &String| text.to_lowercase().contains(&word);
        holds(&self.id)
            || self
                .features
                .iter()
                .any(|feature| holds(feature) || short(feature) == Some(&*word))
            || self.quantisations.iter().any(holds)
    }

    /// What matters most of it, in one line.
    pub(in crate::commands) fn in_short(&self) -> String {
        let providers = match self.providers {
            0 => "this node's own".to_owned(),
            1 => "1 provider".to_owned(),
            several => format!("{several} providers"),
        };
        let context = self
            .context
            .map(|context| format!("{} tokens of context", tokens(context)));
        let price = match self.price.is_free() {
            true => "free".to_owned(),
            false => format!(
                "{} in, {} out per million tokens",
                dollars(self.price.input),
                dollars(self.price.output)
            ),
        };
        let parts = [Some(providers), context, Some(price)];
        parts.into_iter().flatten().collect::<Vec<_>>().join(" · ")
    }

    fn cells(&self) -> Vec<String> {
        let known = |value: Option<String>| value.unwrap_or_else(|| "-".to_owned());
        let words = |words: Vec<&str>| known((!words.is_empty()).then(|| words.join(" ")));
        vec![
            self.id.clone(),
            match self.providers {
                0 => "own".to_owned(),
                providers => providers.to_string(),
            },
            known(self.context.map(tokens)),
            dollars(self.price.input),
            dollars(self.price.output),
            dollars(self.price.request),
            known(self.ttft_ms.map(|ms| format!("{ms} ms"))),
            known(self.speed.map(speed)),
            words(self.features.iter().filter_map(|feature| short(feature)).collect()),
            words(self.quantisations.iter().map(String::as_str).collect()),
        ]
    }
}

/// Puts models in this order; those of which it is not known come last, and names decide between equals.
pub(in crate::commands) fn sort(models: &mut [Model], order: ModelOrder) {
    let cost = |model: &Model| (model.price.output, model.price.input, model.price.request);
    let fast = |model: &Model| Reverse(model.speed.unwrap_or(0));
    models.sort_by(|a, b| a.id.cmp(&b.id));
    match order {
        ModelOrder::Price => models.sort_by_key(|model| (cost(model), fast(model))),
        ModelOrder::Speed => models.sort_by_key(|model| (fast(model), cost(model))),
        ModelOrder::Latency => models.sort_by_key(|model| (model.ttft_ms.unwrap_or(u64::MAX), cost(model))),
        ModelOrder::Context => models.sort_by_key(|model| (Reverse(model.context.unwrap_or(0)), cost(model))),
        ModelOrder::Providers => models.sort_by_key(|model| (Reverse(model.providers), cost(model))),
        ModelOrder::Name => {}
    }
}

/// Column of the price per request, which is left out where nobody asks one.
const PER_REQUEST: usize = 5;

/// The columns, what each matters to who chooses, and the rows; the `current` model is marked.
pub(in crate::commands) fn table(models: &[Model], current: Option<&str>) -> (Vec<Column<'static>>, Vec<Vec<String>>) {
    let column = |name, matters| Column { name, matters };
    let mut columns = vec![
        Column::always("model"),
        column("providers", 4),
        column("context", 5),
        column("in /M", 8),
        column("out /M", 9),
        column("/request", 8),
        column("first token", 6),
        column("tokens/s", 7),
        column("features", 3),
        column("quantisations", 2),
    ];
    let mut rows: Vec<Vec<String>> = models.iter().map(Model::cells).collect();
    if models.iter().all(|model| model.price.request.0 == 0) {
        columns.remove(PER_REQUEST);
        rows.iter_mut().for_each(|row| drop(row.remove(PER_REQUEST)));
    }
    if let Some(current) = current {
        columns.insert(0, Column::always(""));
        for row in &mut rows {
            let mark = if row[0] == current { "*" } else { "" };
            row.insert(0, mark.to_owned());
        }
    }
    (columns, rows)
}

fn dollars(price: MicroUsd) -> String {
    match price.0 {
        0 => "free".to_owned(),
        _ => price.to_string(),
    }
}

/// Tokens of a context: `32k` for 32768 as for 32000.
fn tokens(count: u64) -> String {
    match count {
        0..1000 => count.to_string(),
        _ if count.is_multiple_of(1 << 20) => format!("{}M", count >> 20),
        _ if count.is_multiple_of(1024) => format!("{}k", count >> 10),
        _ => format!("{}k", count / 1000),
    }
}

/// Thousandths of a token per second; slow ones with a decimal.
fn speed(milli: u64) -> String {
    match milli {
        0..10_000 => format!("{}.{}", milli / 1000, milli % 1000 / 100),
        _ => (milli / 1000).to_string(),
    }
}

/// A feature in a short word; none for what every model that writes can do.
fn short(feature: &str) -> Option<&str> {
    match feature {
        "completions" => None,
        "embeddings" => Some("embed"),
        "json_schema" => Some("json"),
        // Another provider can go on in the middle of an answer.
        "continue" => Some("resume"),
        other => Some(other),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn model(id: &str, output: u64, speed: Option<f64>, more: Value) -> Model {
        let mut own = json!({
            "providers": 2, "features": ["chat", "completions", "json_schema"], "quantizations": ["q4_k_m"],
            "price": { "input_microusd_per_mtok": output / 2, "output_microusd_per_mtok": output, "request_microusd": 0 },
            "ttft_ms": 120, "tokens_per_second": speed,
        });
        for (name, value) in more.as_object().unwrap() {
            own[name] = value.clone();
        }
        Model::read(&json!({ "id": id, "context_length": 32_768, "infernet": own })).unwrap()
    }

    fn ids(models: &[Model]) -> Vec<&str> {
        models.iter().map(|model| model.id.as_str()).collect()
    }

    #[test]
    fn rows_read_well() {
        let models = [
            model("a", 600_000, Some(41.5), json!({})),
            model(
                "b",
                0,
                Some(3.25),
                json!({ "ttft_ms": null, "features": [], "providers": 1 }),
            ),
        ];
        let (columns, rows) = table(&models, Some("b"));
        assert_eq!(
            rows[0],
            [
                "",
                "a",
                "2",
                "32k",
                "$0.30",
                "$0.60",
                "120 ms",
                "41",
                "chat json",
                "q4_k_m"
            ]
        );
        assert_eq!(
            rows[1],
            ["*", "b", "1", "32k", "free", "free", "-", "3.2", "-", "q4_k_m"]
        );
        assert_eq!(columns.len(), rows[0].len());
        assert_eq!(models[1].in_short(), "1 provider · 32k tokens of context · free");
        assert!(models[0].in_short().ends_with("$0.30 in, $0.60 out per million tokens"));

        let dear = [model("a", 0, None, json!({ "price": { "request_microusd": 7 } }))];
        let (columns, rows) = table(&dear, None);
        assert_eq!(
            (columns[PER_REQUEST].name, &*rows[0][PER_REQUEST]),
            ("/request", "$0.000007")
        );
        assert!(!dear[0].price.is_free());
    }

    #[test]
    fn orders_are_those_of_who_chooses() {
        let mut models = [
            model("dear", 900_000, Some(90.0), json!({ "ttft_ms": 30 })),
            model("slow", 0, Some(5.0), json!({ "ttft_ms": null, "providers": 9 })),
            model("fast", 0, Some(50.0), json!({})),
            model("even", 0, Some(50.0), json!({})),
        ];
        for (by, order) in [
            (ModelOrder::Price, ["even", "fast", "slow", "dear"]),
            (ModelOrder::Speed, ["dear", "even", "fast", "slow"]),
            (ModelOrder::Latency, ["dear", "even", "fast", "slow"]),
            (ModelOrder::Context, ["even", "fast", "slow", "dear"]),
            (ModelOrder::Providers, ["slow", "even", "fast", "dear"]),
            (ModelOrder::Name, ["dear", "even", "fast", "slow"]),
        ] {
            sort(&mut models, by);
            assert_eq!(ids(&models), order, "{by:?}");
        }
    }

    #[test]
    fn words_are_found_in_names_features_and_quantisations() {
        let model = model("Qwen3:8b", 0, None, json!({}));
        assert!(
            ["qwen", "JSON", "json_schema", "Q4"]
                .iter()
                .all(|word| model.matches(word))
        );
        assert!(!["vision", "q8"].iter().any(|word| model.matches(word)));
    }

    #[test]
    fn what_a_stranger_calls_its_model_commands_no_terminal() {
        let model = Model::read(&json!({ "id": "a\u{1b}[2J", "infernet": {} })).unwrap();
        assert_eq!(model.id, "a[2J");
        assert!(Model::read(&json!({ "name": "x" })).is_none());
    }

    #[test]
    fn contexts_are_said_in_thousands() {
        for (count, text) in [
            (512, "512"),
            (32_768, "32k"),
            (32_000, "32k"),
            (1 << 20, "1M"),
            (200_000, "200k"),
        ] {
            assert_eq!(tokens(count), text);
        }
    }
}
